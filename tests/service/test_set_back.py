"""A vehicle that holds newer files than the store remembers: the store was set back, and catches up with it."""

from __future__ import annotations

import pytest

from orchestrator.model.ids import FleetTime
from orchestrator.model.vehicle import DirectorState
from orchestrator.service.director import VERSIONS_AHEAD_MAX, assigned, caught_up, to_datetime
from signing.director import next_version
from signing.versions import MetadataVersions

NOW = FleetTime(1_790_000_000_000)
MINUTES = next_version(0, to_datetime(NOW))
STATE = DirectorState(version=MINUTES - 500, issued_at=NOW, timestamp_version=MINUTES - 400, timestamp_issued_at=NOW)
RAISED = 2
"""By how much files say more: two roots came since the first."""


def held(timestamp: int, targets: int) -> MetadataVersions:
    return MetadataVersions(root=3, timestamp=timestamp, snapshot=targets, targets=targets)


@pytest.mark.parametrize("above", [1, 3, 50_000])
def test_the_next_versions_are_above_what_the_vehicle_holds(above: int) -> None:
    """Files with older versions would be refused as a replay, for ever."""
    state = caught_up(STATE, held(MINUTES + above + 5, MINUTES + above), RAISED, NOW)
    following = assigned(state, STATE.release, NOW)
    assert following.timestamp_version + 2 > MINUTES + above + 5
    assert following.version + 2 > MINUTES + above


@pytest.mark.parametrize(
    "versions",
    [
        held(STATE.timestamp_version + RAISED, STATE.version + RAISED),
        held(0, 0),
        held(MINUTES + VERSIONS_AHEAD_MAX + 1, MINUTES),
        held(2**31 - 1, 2**31 - 1),
    ],
)
def test_what_is_no_proof_changes_nothing(versions: MetadataVersions) -> None:
    """Who holds the same or less has nothing to teach; who claims what no clock explains would use up all numbers."""
    assert caught_up(STATE, versions, RAISED, NOW) is STATE
