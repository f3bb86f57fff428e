"""The judge of `make chaos` is no rubber stamp: each promise, broken once, is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from tests.e2e.evidence import Happened, check_blast_budget, check_in_flight, check_one_live_attempt, check_starts
from tests.e2e.load import Load
from tests.faults.judging import check_never_doubted, check_permits

TIGHT = Load(in_flight={"eu": 2}, in_flight_in_all=2, starts_per_minute=2, blast_budget=2)


def entry(kind: str, at: int, **data: Any) -> Happened:
    """One entry; they are given in order."""
    return Happened((at, 0), kind, at, data)


def granted(number: int, at: int, *, vehicle: int | None = None) -> Happened:
    """A vehicle begins an attempt."""
    who = number if vehicle is None else vehicle
    return entry("attempt_granted", at, vehicle_id=f"v-{who}", attempt_id=f"r.v-{who}.{number}", region="eu")


def changed(number: int, at: int, to: str) -> Happened:
    """An attempt is in another state."""
    return entry(
        "attempt_changed", at, vehicle_id=f"v-{number}", attempt_id=f"r.v-{number}.{number}", region="eu", to=to
    )


@pytest.mark.parametrize(
    ("check", "history"),
    [
        (check_in_flight, [granted(1, 1), granted(2, 2), granted(3, 3)]),
        (check_starts, [changed(number, 1000 + number, "permitted") for number in range(3)]),
        (check_blast_budget, [changed(number, number * 100_000, "permitted") for number in range(3)]),
    ],
)
def test_a_limit_that_was_broken_for_a_moment_is_told(
    check: Callable[[Sequence[Happened], Load], None], history: list[Happened]
) -> None:
    """One more than the plan allows, and one less is fine."""
    check(history[:2], TIGHT)
    with pytest.raises(AssertionError):
        check(history, TIGHT)


def test_two_live_attempts_of_one_vehicle_are_told() -> None:
    """An attempt that is over is none."""
    check_one_live_attempt([granted(1, 1), changed(1, 2, "succeeded"), granted(2, 3, vehicle=1)])
    with pytest.raises(AssertionError):
        check_one_live_attempt([granted(1, 1), granted(2, 3, vehicle=1)])


def test_a_rollout_that_a_restart_took_for_set_back_is_told() -> None:
    """Something that was acknowledged would have been missing."""
    check_never_doubted("r", [entry("rollout_started", 1)])
    with pytest.raises(AssertionError):
        check_never_doubted("r", [entry("rollout_paused", 1)])


def a_road(*, permits: Sequence[str], installs: Sequence[str]) -> Any:
    """One vehicle and what it knows of itself."""
    return SimpleNamespace(vehicles=lambda: {"v-1": {"permits": list(permits), "installs": list(installs)}})


FINE = [changed(1, 1, "permitted"), changed(1, 2, "succeeded")]
NAME = "r.v-1.1"


@pytest.mark.parametrize(
    ("road", "history"),
    [
        pytest.param(a_road(permits=[NAME], installs=[NAME]), FINE[1:], id="a permit that was not durable"),
        pytest.param(a_road(permits=[], installs=[NAME]), FINE, id="an install without a permit"),
        pytest.param(a_road(permits=[NAME], installs=[]), FINE, id="a success that was no install"),
        pytest.param(a_road(permits=[NAME], installs=[NAME]), [*FINE, FINE[1]], id="a success counted twice"),
    ],
)
def test_a_permit_or_success_that_no_vehicle_knows_is_told(road: Any, history: list[Happened]) -> None:
    """What vehicles know of themselves is the truth."""
    check_permits(a_road(permits=[NAME], installs=[NAME]), "r", FINE)
    with pytest.raises(AssertionError):
        check_permits(road, "r", history)
