"""Vehicles that fail again and again: kept out with a reason, a case for a person, and let in again by one."""

from __future__ import annotations

from orchestrator.model.attempt import AttemptEvent, AttemptState, VehicleEvent
from orchestrator.model.ids import AttemptId
from orchestrator.model.vehicle import EVERY_ROLLOUT
from orchestrator.service.fleet_filter import parse_filter
from tests.builders import HOUR_MS
from tests.ledger.reading import vehicle_history
from tests.service.world import Car, World

PLAN = """
release: 1.1.0
waves: [{name: all}]
holdout: 0%
gate: {failure_ratio: 30%}
limits: {attempts: 1}
"""
LEMON = Car("lemon")


async def fails_in(world: World, *names: str, first: int = 1) -> None:
    """The vehicle fails on the way to its permit in these rollouts; nobody else calls."""
    for number, name in enumerate(names, start=first):
        await world.start(PLAN, rollout_id=name)
        attempt_id = await world.granted(LEMON)
        assert attempt_id == f"{name}.lemon.1"
        world.hand.advance(HOUR_MS)
        await world.check_in(LEMON, VehicleEvent(number, attempt_id, AttemptEvent.FAILED, "disk_full"))
        await world.tick()


async def kept_out(world: World) -> list[object]:
    """Why it was, each time, by the ledger."""
    await world.tick()
    story = await vehicle_history(world.ledger_file, LEMON.vehicle_id)
    return [each.entry.data["reason"] for each in story if each.entry.kind == "vehicle_excluded"]


async def test_third_rollout_that_a_vehicle_fails_in_is_the_last_until_a_person_has_looked(world: World) -> None:
    """A vehicle that fails again and again is put in quarantine, with a reason. Source: docs/decisions/0023."""
    await world.add(LEMON, *(Car(f"other-{number}") for number in range(9)))
    await fails_in(world, "spring", "summer")
    assert (await world.record(LEMON)).exclusions == ()
    await fails_in(world, "autumn", first=3)
    (kept,) = (await world.record(LEMON)).exclusions
    assert (kept.scope, kept.actor) == (EVERY_ROLLOUT, "service")
    assert kept.reason == (
        "failed in 3 rollouts in a row, limit 3: spring (failed: disk_full), summer (failed: disk_full), "
        "autumn (failed: disk_full)"
    )
    assert parse_filter("excluded=quarantine").matches(await world.record(LEMON))
    case = await world.store.case(AttemptId("autumn.lemon.1"))
    assert case is not None
    assert (case.cause, case.detail, case.attempt_state) == ("repeated", kept.reason, AttemptState.FAILED)
    assert world.metrics.quarantines.labels(region="eu")._value.get() == 1
    assert await kept_out(world) == [kept.reason], "the ledger knows"

    await world.start(PLAN, rollout_id="winter")
    assert (await world.check_in(LEMON)).directive is None
    assert await kept_out(world) == [kept.reason]

    world.hand.advance(HOUR_MS)
    await world.care.readmit([LEMON.vehicle_id], None, actor="ann", reason="new disk")
    await world.tick()
    assert await world.granted(LEMON) == "winter.lemon.1", "what failed before is forgiven"
