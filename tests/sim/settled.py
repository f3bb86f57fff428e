"""What must be true when all is over: everything settled, and what is believed is what the vehicles truly are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.model.ids import RolloutId
from orchestrator.model.rollout import RolloutStatus
from orchestrator.store.streams import rollout_stream
from tests.sim.driving import Vehicle
from tests.sim.limits import BrokenPromiseError
from tests.sim.replay import replayed
from tests.sim.scenario import FACTORY, RELEASES
from tests.sim.witness import now

if TYPE_CHECKING:
    from tests.sim.world import World

REPLAYED = (
    "status",
    "epoch",
    "fence",
    "fences",
    "regions",
    "brakes",
    "signals",
    "waived",
    "approvals",
    "reason",
    "verdict",
)


def quiet(world: World) -> bool:
    """Whether nothing is under way any more."""
    over = all(watched.rollout.status.over for watched in world.witness.rollouts.values())
    return over and not world.asking and not world.witness.live and not unsettled(world)


def unsettled(world: World) -> list[str]:
    """Vehicles that have something under way or untold; nobody waits for one that was taken out of the fleet."""
    return [
        vehicle.spec.vehicle_id
        for vehicle in world.vehicles
        if not vehicle.settled and world.record_of(vehicle) is not None
    ]


def dead(world: World) -> int:
    """Vehicles that will never speak again."""
    return sum(bool(vehicle.disk.bricked_by) for vehicle in world.vehicles)


def check_settled(world: World) -> None:
    """Everything is over, nothing is held for ever, and the store knows what each vehicle is.

    Raises:
        BrokenPromiseError: something is not.
    """
    world.witness.recount()
    if not quiet(world):
        statuses = {name: watched.rollout.status.value for name, watched in world.witness.rollouts.items()}
        raise BrokenPromiseError(f"not settled: {statuses}, live {world.witness.live}, vehicles {unsettled(world)}")
    for rollout_id in world.witness.rollouts:
        _check_rollout(world, rollout_id)
    for vehicle in world.vehicles:
        _check_vehicle(world, vehicle)


def _check_rollout(world: World, rollout_id: RolloutId) -> None:
    standing = now(world.store.standing(rollout_id, now=world.fleet_ms()))
    if standing.outstanding:
        raise BrokenPromiseError(
            f"{standing.outstanding} permits of {rollout_id} are out, and every vehicle is settled"
        )
    if standing.in_flight_total:
        raise BrokenPromiseError(f"slots of {rollout_id} are held by nobody: {standing.in_flight}")
    unsettled = now(world.store.unsettled([rollout_id], older_than_ms=0))[rollout_id]
    if unsettled.reservations or unsettled.permits:
        raise BrokenPromiseError(f"unsettled for ever: {unsettled}")
    status = world.witness.rollouts[rollout_id].rollout.status
    if world.scenario.good and status is not RolloutStatus.COMPLETED:
        raise BrokenPromiseError(f"a good release, undisturbed, and {rollout_id} is {status}")


def _check_vehicle(world: World, vehicle: Vehicle) -> None:
    name, record = vehicle.spec.vehicle_id, world.record_of(vehicle)
    if vehicle.disk.bricked_by or record is None:
        return
    running = {ecu.running.path.removeprefix(f"{ecu.hardware_id}-") for ecu in vehicle.disk.agent.ecus}
    if running != {f"{record.installed or FACTORY}.img"}:
        raise BrokenPromiseError(f"{name} runs {running}, the record says {record.installed!r}")
    if world.scenario.good and record.installed != RELEASES[0]:
        raise BrokenPromiseError(f"{name} was left out")


def check_decisions(world: World) -> None:
    """Every decision can be made again from the ledger alone.

    Raises:
        BrokenPromiseError: one cannot.
    """
    for rollout_id, watched in world.witness.rollouts.items():
        end = replayed(list(world.record.entries[rollout_stream(rollout_id)].values()))
        for name in REPLAYED:
            again, true = getattr(end, name), getattr(watched.rollout, name)
            if again != true:
                raise BrokenPromiseError(f"replayed, {rollout_id} has {name} {again}, in truth {true}")
