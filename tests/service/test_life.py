"""The life of rollouts through the use cases: drafts, successors, ways back, swapped releases, dark regions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.engine.progress import (
    AbortRequested,
    ApproveRequested,
    PauseRequested,
    ResumeRequested,
    SignalCleared,
    SignalPosted,
    StartRequested,
)
from orchestrator.model.attempt import AttemptEvent, VehicleEvent
from orchestrator.model.decision import RefusalReason
from orchestrator.model.ids import RolloutId
from orchestrator.model.rollout import BrakeKind, RolloutStatus
from orchestrator.model.vehicle import Contact
from orchestrator.service.errors import ForbiddenError, InvalidInputError, StateError
from orchestrator.service.vehicles import Withdraw
from orchestrator.store.base import JournalEntry
from tests.builders import DAY_MS, HOUR_MS, MINUTE_MS, a_signal, a_vehicle
from tests.service.world import PLAN, Car, World

SPRING, SUMMER = RolloutId("spring"), RolloutId("summer")
R = RolloutStatus


async def create(world: World, plan: str, rollout_id: str, **more) -> None:
    """A rollout by alice."""
    await world.rollouts.create(plan, rollout_id=rollout_id, request_id="", actor="alice", reason="go", **more)
    await world.snapshots.refresh()


async def ask(world: World, rollout_id: RolloutId, request) -> RolloutStatus:
    """What becomes of a rollout when a person asks."""
    changed = await world.rollouts.request(rollout_id, request, etag="")
    await world.snapshots.refresh()
    return changed.status


async def test_draft_waits_for_its_approval_and_its_start(world: World) -> None:
    """Nobody is granted by what was only written down, however often it is looked at."""
    car = Car("v-1")
    await world.add(car)
    await create(world, PLAN + "approvals: 1\n", "spring")
    await world.tick()
    assert (await world.check_in(car)).directive is None
    assert (await world.rollout()).status is R.DRAFT
    with pytest.raises(StateError, match="needs 1 approval"):
        await ask(world, SPRING, StartRequested("alice", "go"))
    with pytest.raises(ForbiddenError):
        await ask(world, SPRING, ApproveRequested("alice", "", "", "mine"))
    assert await ask(world, SPRING, ApproveRequested("bob", "", "", "read it")) is R.APPROVED
    await world.tick()
    assert (await world.check_in(car)).directive is None
    assert await ask(world, SPRING, StartRequested("alice", "go")) is R.RUNNING
    await world.tick()
    assert await world.granted(car) == "spring.v-1.1"


async def test_successor_ends_the_rollout_whose_place_it_takes(world: World) -> None:
    """What was granted before is withdrawn, what has a permit runs on, and only one release is on its way."""
    waits, installs = Car("v-1"), Car("v-2")
    await world.add(waits, installs)
    await world.release("1.2.0", counter=4)
    await world.start()
    await world.granted(waits)
    permitted = await world.permitted(installs)
    await create(world, PLAN.replace("1.1.0", "1.2.0") + "supersedes: spring\n", "summer")
    ended = await world.rollout()
    assert (ended.status, ended.actor, ended.reason) == (R.SUPERSEDED, "alice", "rollout summer takes its place")
    await world.tick()
    assert isinstance((await world.check_in(waits)).directive, Withdraw)
    running = (await world.check_in(installs)).directive
    assert running is not None
    assert not isinstance(running, Withdraw)
    assert running.attempt.attempt_id == permitted
    assert await world.granted(waits) == "summer.v-1.1"


async def test_draft_takes_no_place_before_it_starts(world: World) -> None:
    """And whoever dies between the start and the end of the other is completed by the next tick."""
    await world.add(Car("v-1"))
    await world.release("1.2.0", counter=4)
    await world.start()
    await create(world, PLAN.replace("1.1.0", "1.2.0") + "supersedes: spring\n", "summer", draft=True)
    await world.tick()
    assert (await world.rollout()).status is R.RUNNING
    assert await ask(world, SUMMER, StartRequested("alice", "go")) is R.RUNNING
    assert (await world.rollout()).status is R.SUPERSEDED


async def test_draft_that_is_aborted_takes_nobodys_place(world: World) -> None:
    """Throwing a draft away must not end the rollout that runs."""
    await world.add(Car("v-1"))
    await world.release("1.2.0", counter=4)
    await world.start()
    await create(world, PLAN.replace("1.1.0", "1.2.0") + "supersedes: spring\n", "summer", draft=True)
    assert await ask(world, SUMMER, AbortRequested("alice", "second thoughts")) is R.ABORTED
    await world.tick()
    assert (await world.rollout()).status is R.RUNNING


async def test_evaluator_ends_what_a_dead_starter_left_running(world: World) -> None:
    """The successor was written and nothing else: one tick later the other is over."""
    await world.add(Car("v-1"))
    await world.start()
    successor = replace(await world.rollout(), rollout_id=SUMMER, request_id="", salt=b"x" * 16)
    successor = replace(successor, plan=replace(successor.plan, supersedes="spring"))
    entry = JournalEntry("rollout/summer", "", "rollout_created", world.now, {})
    await world.store.create_rollout(successor, entry)
    await world.tick()
    ended = await world.rollout()
    assert (ended.status, ended.fence) == (R.SUPERSEDED, ended.epoch)
    await world.tick()
    assert (await world.rollout()).epoch == ended.epoch


@pytest.mark.parametrize(("rollout_id", "why"), [("spring", "SUPERSEDES_ITSELF"), ("summer", "SUPERSEDES_UNKNOWN")])
async def test_successor_of_nobody_is_refused(world: World, rollout_id: str, why: str) -> None:
    """A misspelt id would leave both running."""
    await world.add(Car("v-1"))
    with pytest.raises(InvalidInputError) as error:
        await create(world, PLAN + "supersedes: spring\n", rollout_id)
    assert error.value.reason == why


async def test_halt_writes_the_draft_of_the_way_back_once(world: World) -> None:
    """At three in the morning a person reads and starts it; nothing is started unasked, and nothing twice."""
    bad, back = await world.undoable()
    cars = [Car(f"v-{number}") for number in range(1, 6)]
    await world.add(*cars)
    await world.start(PLAN.replace("1.1.0", "1.2.0") + "on_halt: propose_revert\n")
    await world.permitted(cars[0])
    await world.manifests.submit(cars[0].vehicle_id, cars[0].manifest(world.now, bad))
    for car in cars[1:]:
        attempt_id = await world.permitted(car)
        await world.check_in(car, VehicleEvent(2, attempt_id, AttemptEvent.FAILED, "flash_error"))
    await world.tick()
    assert (await world.rollout()).status is R.HALTED
    await world.tick()
    draft = await world.rollout("spring-revert")
    assert (draft.status, draft.reverts, draft.creator) == (R.DRAFT, "spring", "evaluator")
    assert draft.plan.release == back.version
    assert "spring was halted" in draft.reason
    await world.tick()
    assert len(await world.store.rollouts()) == 2
    # The draft of a proposal forbids nothing; once it was ended by a person it is not written again.
    assert await ask(world, SPRING, ResumeRequested("bob", "a false alarm")) is R.RUNNING
    with pytest.raises(StateError, match="it would go on bringing"):
        await ask(world, RolloutId("spring-revert"), StartRequested("bob", "go"))
    await ask(world, SPRING, AbortRequested("bob", "no"))
    assert await ask(world, RolloutId("spring-revert"), StartRequested("bob", "go")) is R.RUNNING


async def test_halt_without_a_way_back_goes_on_ticking(world: World) -> None:
    """Nothing was signed to undo it: that is said, and every other rollout is judged as before."""
    cars = [Car(f"v-{number}") for number in range(1, 6)]
    await world.add(*cars)
    await world.start(PLAN + "on_halt: propose_revert\n")
    for car in cars:
        attempt_id = await world.permitted(car)
        await world.check_in(car, VehicleEvent(2, attempt_id, AttemptEvent.FAILED, "flash_error"))
    for _ in range(3):
        await world.tick()
    assert [rollout.status for rollout in await world.store.rollouts()] == [R.HALTED]


async def test_swapped_release_stops_the_rollout_and_its_permits(world: World) -> None:
    """Rivian 2023.42: what is sent is what was registered when the rollout was written, to the last digest."""
    ready, idle = Car("v-1"), Car("v-2")
    await world.add(ready, idle)
    await world.start()
    attempt_id = await world.downloaded(ready)
    (release,) = await world.store.releases()
    world.store.swapped = replace(release, images=release.images[1:])
    await world.snapshots.refresh()
    answer = await world.permits.authorize(ready.vehicle_id, attempt_id)
    assert answer.refusal is not None
    assert answer.refusal.reason is RefusalReason.RELEASE_CHANGED
    assert (await world.check_in(idle)).directive is None
    await world.tick()
    stopped = await world.rollout()
    assert stopped.status is R.PAUSED
    assert "release 1.1.0 is" in stopped.reason
    # Resuming does not make it the release that was reviewed.
    await ask(world, SPRING, ResumeRequested("bob", "go on"))
    await world.tick()
    assert (await world.rollout()).status is R.PAUSED


async def test_vehicles_that_went_on_do_not_count_as_waiting(world: World) -> None:
    """A rollout whose vehicles have the next release by now ends, and says so many of so many."""
    cars = [Car("v-1"), Car("v-2")]
    await world.add(*cars)
    newer = await world.release("1.2.0", counter=4)
    await world.start()
    await world.manifests.submit(cars[0].vehicle_id, cars[0].manifest(world.now, newer))
    view = await world.rollouts.view(SPRING)
    assert sum(view.waiting.values()) == 1
    assert (await world.check_in(cars[0])).directive is None
    assert await world.granted(cars[1]) == "spring.v-2.1"


async def test_dark_region_is_braked_and_goes_on_by_itself(world: World) -> None:
    """By the calls that the store counted, against those of the day before; its checkpoints wait meanwhile."""
    car, crowd = Car("v-1"), [a_vehicle(f"c-{number}", cohort="other") for number in range(40)]
    await world.add(car)
    await world.store.import_vehicles(crowd, now=world.now)

    async def all_call() -> None:
        await world.store.touch({each.vehicle_id: Contact(at=world.now) for each in crowd})

    waves = "waves: [{name: some, cohorts: [canary]}, {name: all}]\n"
    gate = "gate: {checkpoints: [24h, 72h], silence_reference: [5%, 4%]}\n"
    await world.start("release: 1.1.0\nholdout: 0%\n" + waves + gate)
    await world.permitted(car)
    await all_call()
    world.hand.advance(DAY_MS + 31 * MINUTE_MS)
    await world.tick()
    dark = await world.rollout()
    assert (dark.status, [brake.scope for brake in dark.brakes]) == (R.RUNNING, ["eu"])
    assert sum(group.exposed for group in (await world.counted()).age_groups) == 1, "its tick was not dark yet"
    world.hand.advance(2 * DAY_MS)
    await world.tick()
    assert sum(group.exposed for group in (await world.counted()).age_groups) == 1, "now nobody's silence is counted"
    await all_call()
    world.hand.advance(31 * MINUTE_MS)
    await world.tick()
    light = await world.rollout()
    assert (light.brakes, light.regions["eu"].dark_since) == ((), None)


async def test_signal_holds_at_the_next_tick_and_lets_go_with_its_value(world: World) -> None:
    """Jeep 4xe 2025: what the makers hear from outside counts like what vehicles say themselves."""
    car = Car("v-1")
    await world.add(car)
    await world.start()
    await ask(world, SPRING, SignalPosted(a_signal(value=7.0)))
    await world.tick()
    held = await world.rollout()
    assert (held.status, held.verdict.rule if held.verdict else "") == (R.HELD, "signal_tow_rate")
    await world.snapshots.refresh()
    assert (await world.check_in(car)).directive is None
    await ask(world, SPRING, SignalPosted(a_signal(value=1.0)))
    await world.tick()
    assert (await world.rollout()).status is R.RUNNING


async def test_signal_that_nobody_posts_any_more_holds_until_somebody_does_or_it_is_taken_back(world: World) -> None:
    """The probe died in the night, its last word was good: nobody is granted on the strength of it."""
    car = Car("v-1")
    await world.add(car)
    await world.start()
    await ask(world, SPRING, SignalPosted(a_signal(value=0.0)))
    for ending in (SignalPosted(a_signal(value=0.0)), SignalCleared("tow_rate", "", "bob", "the desk closed")):
        await world.tick()
        assert (await world.rollout()).status is R.RUNNING
        world.hand.advance(6 * HOUR_MS)
        await world.tick()
        held = await world.rollout()
        assert (held.status, held.verdict.rule if held.verdict else "") == (R.HELD, "overdue_tow_rate")
        await world.snapshots.refresh()
        assert (await world.check_in(car)).directive is None
        await ask(world, SPRING, ending)
        await world.tick()
        assert (await world.rollout()).status is R.RUNNING


async def test_vehicles_that_are_moved_into_an_open_wave_never_make_it_larger(world: World) -> None:
    """A depot of another variant is handed over to the region in the middle of a wave: it gets its share, no more."""
    plan = "release: 1.1.0\nholdout: 0%\nwaves: [{name: half, share: 50%}, {name: all}]\ngate: {stratum_sample: 1}\n"
    first = [Car(f"a-{number}", hardware="gen2") for number in range(4)]
    await world.add(*first)
    await world.start(plan)
    moved = [Car(f"b-{number}", hardware="gen1") for number in range(12)]
    await world.add(*moved)
    assert not [car for car in moved if (await world.check_in(car)).directive], "nobody has counted their places"
    await world.tick()
    assert (await world.rollout()).regions["eu"].openings["gen1/canary"].quota == 6
    later = [Car(f"c-{number}", hardware="gen1") for number in range(20)]
    await world.add(*later)
    await world.tick()
    assert len([car for car in (*moved, *later) if (await world.check_in(car)).directive]) == 6


async def test_one_resume_answers_for_one_report_of_safety(world: World) -> None:
    """At three in the morning: it was told of the whole and of its stratum, and it is asked about once."""
    hurt, well = Car("v-1", hardware="gen1"), Car("v-2", hardware="gen2")
    await world.add(hurt, well)
    await world.start()
    attempt = await world.permitted(hurt)
    await world.permitted(well)
    await world.check_in(hurt, VehicleEvent(2, attempt, AttemptEvent.INSTALL_STARTED))
    await world.check_in(hurt, VehicleEvent(3, attempt, AttemptEvent.FAILED, failure_code="safety_brake_assist"))
    await world.tick()
    held = await world.rollout()
    assert (held.status, held.verdict and held.verdict.rule) == (R.HELD, "safety_reports")
    assert await ask(world, SPRING, ResumeRequested("bob", "a stone in the sensor")) is R.RUNNING
    await world.tick()
    after = await world.rollout()
    assert (after.status, after.brakes, after.waived) == (R.RUNNING, (), ("safety_reports=1@all",))


async def test_strata_that_are_judged_together_stand_still_together(world: World) -> None:
    """A fleet of seventy variants: a brake on the small ones binds each of them, whoever turns up, and nobody else."""
    crowd = [a_vehicle(f"c-{kind}-{copy}", hardware=f"h{kind}") for kind in range(69) for copy in range(2)]
    rare, large, late = Car("v-1", hardware="rare"), Car("v-2", hardware="h0"), Car("v-3", hardware="new")
    await world.store.import_vehicles(crowd, now=world.now)
    await world.add(rare, large)
    await world.start()
    rollout = await world.rollout()
    assert (len(rollout.apart), "eu/h0" in rollout.apart, "eu/rare" in rollout.apart) == (63, True, False)
    assert await ask(world, SPRING, PauseRequested("bob", "calls about small ones", "_other")) is R.RUNNING
    await world.add(late)
    await world.tick()
    assert (await world.rollout()).apart == rollout.apart
    for car in (rare, late):
        assert (await world.check_in(car)).directive is None
    assert await world.granted(large) == "spring.v-2.1"
    await ask(world, SPRING, ResumeRequested("bob", "nothing in it", "_other"))
    await world.tick()
    assert await world.granted(rare) == "spring.v-1.1"
    assert await world.granted(late) == "spring.v-3.1"


async def test_paused_part_grants_nothing_and_the_rest_does(world: World) -> None:
    """Through snapshot, admission and store alike."""
    here, there = Car("v-1"), Car("v-2", region="us")
    await world.add(here, there)
    await world.start()
    await ask(world, SPRING, PauseRequested("bob", "carnival", "eu"))
    await world.tick()
    assert (await world.check_in(here)).directive is None
    assert await world.granted(there) == "spring.v-2.1"
    assert [brake.kind for brake in (await world.rollout()).brakes] == [BrakeKind.PAUSED]


async def test_bandwidth_of_a_region_is_shared_out_by_the_bytes_of_each_vehicle(world: World) -> None:
    """What is granted fills the links for a minute ahead, and no further."""
    cars = [Car(f"v-{number}") for number in range(3)]
    await world.add(*cars)
    (release,) = await world.store.releases()
    each_s = sum(image.length_bytes for image in release.images)
    assert 30 < each_s < 60, "so that the second is let in ahead of its time, and the third is not"
    await world.start(PLAN + "regions: {eu: {in_flight: 9, bandwidth: 1B/s}}\n")
    granted = [car for car in cars if (await world.check_in(car)).directive is not None]
    assert len(granted) == 2
    world.hand.advance(5_000)
    await world.tick()
    assert (await world.check_in(cars[2])).directive is not None
