"""How often one vehicle may call."""

from __future__ import annotations

import pytest

from orchestrator.model.ids import VehicleId
from orchestrator.service.call_rates import CALLS_MAX, WINDOW_MS, CallRates
from orchestrator.service.errors import TooManyCallsError
from tests.service.world import World


@pytest.mark.uptane("A28")
async def test_vehicle_that_floods_is_told_to_wait_and_others_are_not(world: World) -> None:
    """One stolen key must not be able to take the workers' time from the fleet."""
    rates = CallRates(world.clock)
    for _ in range(CALLS_MAX):
        rates.take(VehicleId("hostile"))
    with pytest.raises(TooManyCallsError) as refused:
        rates.take(VehicleId("hostile"))
    assert 0 < refused.value.retry_after_s <= WINDOW_MS / 1000
    rates.take(VehicleId("honest"))
    world.hand.advance(WINDOW_MS)
    rates.take(VehicleId("hostile"))
