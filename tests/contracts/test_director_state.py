"""What every store promises about a vehicle's Director state: nobody replaces one that they have not seen."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from orchestrator.model.ids import FleetTime, ReleaseVersion, VehicleId
from orchestrator.store.base import Applied
from tests.builders import DAY_MS, NOW, a_vehicle, an_attempt
from tests.contracts.steps import DIRECTOR, V1, assigned, entries, reason
from tests.store_fixtures import StoreBench


@pytest.mark.uptane("A19")
async def test_assign_does_not_overwrite_a_director_state_it_has_not_seen(bench: StoreBench) -> None:
    """Another worker may have renewed it since: two different files of one version must not both be signed."""
    await bench.store.import_vehicles([a_vehicle()], now=NOW)
    other = replace(DIRECTOR, release=ReleaseVersion(""))
    assert await bench.store.direct(V1, other, expected_timestamp_version=0)
    answer = await bench.store.assign(an_attempt(), DIRECTOR, expected_timestamp_version=0)
    assert reason(answer) == "stale_epoch"
    assert answer.facts == {"expected": "0", "standing": "9"}  # type: ignore[union-attr]
    assert answer.message == "Director timestamp version (0) is not the one on record (9)"  # type: ignore[union-attr]
    record = await bench.store.vehicle(V1)
    assert record is not None
    assert (record.director, record.attempt) == (other, None)
    assert await entries(bench.store, "attempt_granted") == []
    again = await bench.store.assign(an_attempt(), DIRECTOR, expected_timestamp_version=9)
    assert isinstance(again, Applied)


async def test_director_state_is_replaced_by_version_only(bench: StoreBench) -> None:
    """Two workers that renew the same timestamp must not both sign the next version."""
    await assigned(bench.store)
    renewed = replace(DIRECTOR, timestamp_version=10, timestamp_issued_at=FleetTime(NOW + DAY_MS))
    other = replace(renewed, release=ReleaseVersion(""))
    outcomes = await asyncio.gather(
        bench.store.direct(V1, renewed, expected_timestamp_version=9),
        bench.store.direct(V1, other, expected_timestamp_version=9),
    )
    assert sorted(outcomes) == [False, True]
    record = await bench.store.vehicle(V1)
    assert record is not None
    assert record.director == (renewed if outcomes[0] else other)
    assert not await bench.store.direct(VehicleId("ghost"), renewed, expected_timestamp_version=0)
