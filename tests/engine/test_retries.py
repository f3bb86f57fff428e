"""Retries: which attempts are followed by another one, and that a fleet does not come back in one second."""

from __future__ import annotations

import pytest

from orchestrator.engine.retries import retry_at, settled
from orchestrator.engine.selection import DRAW_RANGE, draw
from orchestrator.model.attempt import AttemptState as S
from orchestrator.model.attempt import Try
from orchestrator.model.ids import VehicleId
from orchestrator.model.plan import Retries
from tests.builders import DAY_MS, MINUTE_MS, NOW, a_plan, after, some_limits

PLAN = a_plan(retries=Retries(never=("disk_full", "unpack_*")), limits=some_limits(retry_backoff_ms=10 * MINUTE_MS))


def a_failure(code: str, state: S = S.FAILED, number: int = 1) -> Try:
    return Try(number=number, state=state, state_at=NOW, exposed=False, failure_code=code)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("", ""),
        ("link_lost", ""),
        ("disk_full_soon", ""),
        ("disk_full", "the plan never retries disk_full"),
        ("unpack_crc", "the plan never retries unpack_*"),
        ("safety_brake", "a matter of safety"),
    ],
)
def test_failure_codes_have_classes(code, why):
    """What will fail again, or may hurt somebody, is not sent again by itself."""
    assert (why in settled(a_failure(code), PLAN)) if why else settled(a_failure(code), PLAN) == ""
    assert ("safety" in settled(a_failure(code), a_plan())) is code.startswith("safety_")


def test_longest_wait_binds_every_try():
    """A hundred tries must not ask for a date that no calendar has."""
    for number in (1, 5, 100):
        due = retry_at(a_failure("", number=number), PLAN, 0)
        assert due == after(min(10 * MINUTE_MS * 2 ** (number - 1), 7 * DAY_MS))


def test_first_wave_spreads_as_the_fleet_does():
    """Vehicles of a first wave all have low draws; their waits still differ, and differ again after the next try."""
    vehicles = [VehicleId(f"v-{number}") for number in range(20_000)]
    draws = [one for one in (draw(b"salt", vehicle) for vehicle in vehicles) if one < DRAW_RANGE // 100]
    assert len(draws) > 100
    for number in (1, 2):
        low = 10 * MINUTE_MS * 2 ** (number - 1)
        waits = sorted(retry_at(a_failure("", number=number), PLAN, one) - NOW for one in draws)
        assert low <= waits[0] < low * 1.05
        assert low * 1.45 < waits[-1] < low * 1.5
        assert abs(waits[len(waits) // 2] / low - 1.25) < 0.1
    first, second = ([retry_at(a_failure("", number=number), PLAN, one) for one in draws] for number in (1, 2))
    assert sorted(draws, key=dict(zip(draws, first, strict=True)).get) != sorted(
        draws, key=dict(zip(draws, second, strict=True)).get
    )
