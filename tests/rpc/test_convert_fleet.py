"""A vehicle as operators see it: how often it calls, which is what its silence is judged by."""

from __future__ import annotations

import pytest

from orchestrator.model.vehicle import Gaps
from orchestrator.rpc import convert
from tests.builders import DAY_MS, HOUR_MS, a_record


@pytest.mark.parametrize(
    ("gaps", "habit", "usual_ms"),
    [
        (Gaps(), "unknown", None),
        (Gaps(HOUR_MS, 3), "unknown", HOUR_MS),
        (Gaps(HOUR_MS, 8), "often", HOUR_MS),
        (Gaps(DAY_MS, 40), "daily", DAY_MS),
        (Gaps(7 * DAY_MS, 9), "seldom", 7 * DAY_MS),
    ],
)
def test_usual_gap_and_habit_come_out(gaps: Gaps, habit: str, usual_ms: int | None) -> None:
    """A gap of nought would look like a vehicle that calls all the time: what was never heard is absent."""
    told = convert.vehicle(a_record(gaps=gaps), revoked=False)
    assert told.habit == habit
    assert told.HasField("usual_gap") is (usual_ms is not None)
    assert told.usual_gap.ToMilliseconds() == (usual_ms or 0)
