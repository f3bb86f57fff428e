"""Use cases of fleet care: one act a call, all or nothing where it matters; rollouts follow a moved vehicle."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.model.attempt import AttemptEvent, AttemptState, VehicleEvent
from orchestrator.model.ids import RolloutId, VehicleId
from orchestrator.model.vehicle import VehicleRecord
from orchestrator.service.errors import ConflictError, InvalidInputError, NotFoundError, ServiceError, StateError
from orchestrator.service.fleet_care import VEHICLES_MAX, Amendment, Count
from orchestrator.service.vehicles import Withdraw
from orchestrator.store.base import ChangeOutcome
from tests.builders import a_vehicle
from tests.service.world import Car, World

V1, V2, GHOST = VehicleId("v-1"), VehicleId("v-2"), VehicleId("ghost")
SPRING = RolloutId("spring")


async def amend(world: World, *vehicle_ids: VehicleId, **changes: object) -> ChangeOutcome:
    amendment = Amendment(**changes)  # type: ignore[arg-type]
    return await world.care.amend(vehicle_ids, amendment, actor="ann", reason="moved house")


async def add(world: World, *names: str) -> None:
    await world.store.import_vehicles([a_vehicle(name, tags=("beta",)) for name in names], now=world.now)


async def kinds(world: World) -> list[str]:
    found: list[str] = []
    for stream in await world.store.journal_streams():
        found += [entry.kind for entry in await world.store.journal(stream, after="", count=1000)]
    return found


async def test_amendment_changes_what_is_given_and_nothing_else(world: World) -> None:
    """Region, cohort, zone and tags in one act; a vehicle that is so already is told apart."""
    await add(world, "v-1", "v-2")
    outcome = await amend(world, V1, region="us", zone="America/New_York", add_tags=("hold",), remove_tags=("beta",))
    assert outcome == ChangeOutcome(changed=1, unchanged=0, overtaken=())
    record = await world.store.vehicle(V1)
    assert record is not None
    expected = a_vehicle("v-1", region="us", zone="America/New_York", tags=("hold",))
    assert record.vehicle == expected
    again = await amend(world, V1, V2, region="us")
    assert again == ChangeOutcome(changed=1, unchanged=1, overtaken=())
    await amend(world, V1, zone="-")
    record = await world.store.vehicle(V1)
    assert record is not None
    assert record.vehicle == replace(expected, zone="")
    assert (await kinds(world)).count("vehicle_changed") == 3


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"region": "e u"}, "region"),
        ({"cohort": "x" * 33}, "cohort"),
        ({"zone": "Europe/Berln"}, "zone"),
        ({"add_tags": ("a;b",)}, "add_tags"),
        ({"remove_tags": ("",)}, "remove_tags"),
        ({"add_tags": ("a",), "remove_tags": ("a",)}, "add_tags"),
        ({}, "region"),
    ],
)
async def test_bad_amendment_changes_nothing(world: World, changes: dict[str, object], field: str) -> None:
    """A region that no plan can name would take vehicles out of every rollout."""
    await add(world, "v-1")
    with pytest.raises(InvalidInputError) as error:
        await amend(world, V1, **changes)
    assert [violation.field for violation in error.value.violations] == [field]
    assert "vehicle_changed" not in await kinds(world)


async def test_unknown_vehicle_stops_the_whole_act(world: World) -> None:
    """A typing error among a thousand ids must not leave half of them done."""
    await add(world, "v-1")
    with pytest.raises(NotFoundError, match="ghost"):
        await amend(world, V1, GHOST, region="us")
    with pytest.raises(NotFoundError, match="ghost"):
        await world.care.remove([V1, GHOST], actor="ann", reason="sold")
    with pytest.raises(NotFoundError, match="ghost"):
        await world.care.exclude([V1, GHOST], None, actor="ann", reason="lemon")
    with pytest.raises(NotFoundError, match="ghost"):
        await world.care.readmit([V1, GHOST], None, actor="ann", reason="well")
    record = await world.store.vehicle(V1)
    assert record is not None
    assert (record.vehicle.region, record.exclusions) == ("eu", ())


@pytest.mark.parametrize("count", [0, VEHICLES_MAX + 1])
async def test_number_of_vehicles_of_one_act_is_bounded(world: World, count: int) -> None:
    """A call is one step of work for the server."""
    with pytest.raises(InvalidInputError, match="1 to 1000"):
        await amend(world, *(VehicleId(f"v-{number}") for number in range(count)), region="us")


async def test_vehicle_that_somebody_else_changes_is_read_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their change stays and ours is added; only who never gets a turn is told so."""
    await add(world, "v-1")
    change_vehicles, rounds = world.store.change_vehicles, 0

    async def with_a_rival(*arguments: object, **named: object) -> ChangeOutcome:
        nonlocal rounds
        if rounds < rival_rounds:
            rounds += 1
            await world.store.import_vehicles([a_vehicle("v-1", tags=(f"t{rounds}",))], now=world.now)
        return await change_vehicles(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(world.store, "change_vehicles", with_a_rival)
    rival_rounds = 2
    assert (await amend(world, V1, region="us")).changed == 1
    record = await world.store.vehicle(V1)
    assert record is not None
    assert (record.vehicle.region, record.vehicle.tags) == ("us", ("t2",))
    rival_rounds = 99
    with pytest.raises(ConflictError, match="1 of 1 vehicles"):
        await amend(world, V1, cohort="early")


async def test_removal_is_all_or_none(world: World) -> None:
    """One vehicle in the middle of an update keeps all of them, and says which it is."""
    busy, idle = Car("v-1"), Car("v-2")
    await world.add(busy, idle)
    await world.start()
    await world.granted(busy)
    with pytest.raises(StateError, match="nothing was removed: v-1 has a live attempt"):
        await world.care.remove([V2, V1], actor="ann", reason="sold")
    assert await world.store.vehicle(V2) is not None
    assert await world.care.remove([V2, V2], actor="ann", reason="sold") == 1
    with pytest.raises(NotFoundError, match="not in the inventory"):
        await world.check_in(idle)


async def test_vehicle_removed_between_look_and_deed_is_not_found(world: World, monkeypatch) -> None:
    """A race that was lost is no defect of the server: whoever asks hears what it would have heard a moment later."""
    car = Car("v-1")
    look = world.store.vehicle

    async def look_just_before(vehicle_id: VehicleId) -> VehicleRecord | None:
        record = await look(vehicle_id)
        await world.store.remove_vehicle(vehicle_id, actor="ann", reason="sold", now=world.now)
        return record

    said = {"actor": "ann", "reason": "lemon"}
    deeds = (
        lambda: world.check_in(car),
        lambda: world.manifests.submit(V1, car.manifest(world.now)),
        lambda: world.care.exclude([V1], None, **said),
        lambda: world.care.readmit([V1], None, **said),
    )
    for deed in deeds:
        await world.add(car)
        with monkeypatch.context() as patch:
            patch.setattr(world.store, "vehicle", look_just_before)
            with pytest.raises(NotFoundError, match="v-1 is not in the inventory"):
                await deed()


async def test_denial_needs_a_rollout_that_exists(world: World) -> None:
    """A misspelt rollout would deny nothing, silently."""
    await add(world, "v-1")
    with pytest.raises(NotFoundError, match="no rollout sprig"):
        await world.care.exclude([V1], RolloutId("sprig"), actor="ann", reason="lemon")


async def test_exclusions_are_counted_once(world: World) -> None:
    """What was so already is no change."""
    await add(world, "v-1", "v-2")
    assert await world.care.exclude([V1], None, actor="ann", reason="lemon") == 1
    assert await world.care.exclude([V1, V2], None, actor="ann", reason="lemon") == 1
    assert await world.care.readmit([V1, V2], None, actor="ann", reason="well") == 2
    assert await world.care.readmit([V1, V2], None, actor="ann", reason="well") == 0


async def test_excluded_vehicle_is_taken_out_of_its_attempt(world: World) -> None:
    """A lemon that downloads already must not install tonight; it is told at its next call."""
    car = Car("v-1")
    await world.add(car)
    await world.start()
    attempt_id = await world.downloaded(car)
    await world.care.exclude([V1], SPRING, actor="ann", reason="lemon")
    reply = await world.check_in(car)
    assert reply.directive == Withdraw(attempt_id, "the vehicle is kept out of this rollout")
    attempt = await world.attempt(car)
    assert (attempt.state, attempt.failure_code) == (AttemptState.WITHDRAWN, "excluded")


async def test_exclusion_leaves_a_running_installation_alone(world: World) -> None:
    """What has a permit runs on: an interrupted installation is worse than an unwanted one."""
    car = Car("v-1")
    await world.add(car)
    await world.start()
    attempt_id = await world.permitted(car)
    await world.care.exclude([V1], None, actor="ann", reason="lemon")
    reply = await world.check_in(car, VehicleEvent(2, attempt_id, AttemptEvent.INSTALL_STARTED))
    assert not isinstance(reply.directive, Withdraw)
    assert await world.state(car) is AttemptState.INSTALLING


async def test_moved_vehicle_is_judged_by_its_record_now(world: World) -> None:
    """A vehicle that an operator moves into the wave's cohort is admitted at its next call, and counted there."""
    car = Car("v-1", cohort="general")
    await world.add(car, Car("v-2"))
    await world.start("release: 1.1.0\nwaves:\n  - {name: first, cohorts: [canary]}\n  - {name: rest}\n")
    assert (await world.check_in(car)).directive is None
    await amend(world, V1, cohort="canary")
    await world.granted(car)
    assert (await world.attempt(car)).cell.cohort == "canary"


async def test_vehicle_that_moves_during_its_attempt_is_counted_where_it_was_granted(world: World) -> None:
    """Nobody empties a wave of its failures by moving cars; and the attempt goes on."""
    car = Car("v-1")
    await world.add(car)
    await world.start()
    attempt_id = await world.permitted(car)
    await amend(world, V1, region="us", cohort="general")
    await world.check_in(car, VehicleEvent(2, attempt_id, AttemptEvent.FAILED, "flash_error"))
    assert (await world.attempt(car)).cell.region == "eu"
    (cell,) = (await world.store.tallies([SPRING]))[SPRING]
    assert (cell.region, cell.cohort) == ("eu", "canary")


async def test_counts_are_of_groups_and_filters(world: World) -> None:
    """Largest first; a group by nothing is the sum."""
    await world.store.import_vehicles(
        [a_vehicle(f"v-{number}", region=("eu", "us", "eu")[number % 3], cohort="early") for number in range(9)],
        now=world.now,
    )
    assert await world.care.count(["region"], "") == [Count({"region": "eu"}, 6), Count({"region": "us"}, 3)]
    assert await world.care.count(["cohort", "zone"], "region=us") == [Count({"cohort": "early", "zone": ""}, 3)]
    assert await world.care.count([], "") == [Count({}, 9)]
    assert await world.care.count(["region"], "region=cn") == []


@pytest.mark.parametrize(("group", "text"), [(["tag"], ""), (["vehicle_id"], ""), ([], "enrolled=true")])
async def test_count_by_what_is_not_shared_is_refused(world: World, group: list[str], text: str) -> None:
    """It would have to read every vehicle."""
    with pytest.raises(ServiceError):
        await world.care.count(group, text)
