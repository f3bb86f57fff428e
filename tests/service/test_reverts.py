"""The way back: proposed from what is known, staged like any rollout, and ended on what vehicles attest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from orchestrator.engine.plan.file import read_plan
from orchestrator.engine.progress import AbortRequested, PauseRequested, ResumeRequested
from orchestrator.engine.targets import compile_target, mismatch
from orchestrator.model.attempt import AttemptState
from orchestrator.model.fleet import Profile
from orchestrator.model.ids import ReleaseVersion, RolloutId
from orchestrator.model.plan import Consent, Target
from orchestrator.model.release import Release
from orchestrator.model.rollout import Rollout, RolloutStatus
from orchestrator.service.errors import InvalidInputError, NotFoundError, StateError
from orchestrator.service.reverts import free_name, revert_plan, revert_waves
from orchestrator.service.vehicles import Install
from orchestrator.store.base import JournalEntry
from tests.builders import HOUR_MS, a_plan, a_release, a_rollout, a_tally, a_vehicle, a_wave
from tests.ledger.reading import rollout_story
from tests.service.world import Car, World

SPRING = RolloutId("spring")
BAD = "name: spring\nrelease: 1.2.0\nholdout: 0%\nwaves: [{name: all, approvals: 0}]\n"
BACK = a_release("1.2.0-revert", reverts=ReleaseVersion("1.2.0"))


async def install(world: World, car: Car, release: Release) -> None:
    """Take a vehicle that is admitted all the way to a manifest."""
    await world.permitted(car)
    await world.manifests.submit(car.vehicle_id, car.manifest(world.now, release))


async def drive(world: World, cars: Iterable[Car], release: Release, *, hours: int = 24 * 12) -> None:
    """Let vehicles call every few hours, and install what they are offered, until all attest `release`."""
    for _ in range(0, hours, 6):
        for car in cars:
            reply = await world.check_in(car)
            if isinstance(reply.directive, Install) and reply.directive.attempt.state is AttemptState.OFFERED:
                attempt_id = reply.directive.attempt.attempt_id
                answer = await world.permits.authorize(car.vehicle_id, attempt_id)
                assert answer.refusal is None, answer
                await world.manifests.submit(car.vehicle_id, car.manifest(world.now, release))
        world.hand.advance(6 * HOUR_MS)
        await world.tick()


async def stopped(world: World, status: RolloutStatus) -> Rollout:
    """The rollout spring, stopped in one of the ways in which it can be."""
    if status is RolloutStatus.ABORTED:
        return await world.rollouts.request(SPRING, AbortRequested("alice", "brakes"), etag="")
    if status is RolloutStatus.PAUSED:
        return await world.rollouts.request(SPRING, PauseRequested("alice", "brakes"), etag="")
    rollout = await world.rollout()
    changed = replace(rollout, status=status, epoch=rollout.epoch + 1, fence=rollout.epoch + 1)
    entry = JournalEntry("rollout/spring", "", "rollout_halted", world.now, {})
    assert await world.store.transition(changed, expected_epoch=rollout.epoch, decision=entry)
    return changed


@pytest.mark.parametrize("status", [RolloutStatus.ABORTED, RolloutStatus.HALTED, RolloutStatus.PAUSED])
async def test_stopped_rollout_is_undone_by_manifest(world: World, status: RolloutStatus) -> None:
    """From the bad release back, vehicle by vehicle; whoever never had it is left alone, whoever had it late is not."""
    bad, back = await world.undoable()
    good = await world.releases.get("1.1.0")
    hurt, late, spared = [Car("v-1"), Car("v-2"), Car("v-3")], Car("v-4"), Car("v-5")
    await world.add(*hurt, late, spared)
    for car in (*hurt, late, spared):
        await world.manifests.submit(car.vehicle_id, car.manifest(world.now, good))
    await world.start(BAD)
    for car in hurt:
        await install(world, car, bad)
    await world.permitted(late)
    await stopped(world, status)
    await world.snapshots.refresh()
    plan, version = await world.rollouts.propose_revert(SPRING)
    assert version == back.version
    rollout = await world.rollouts.create(
        plan, rollout_id="", request_id="r", actor="alice", reason="brakes", reverts="spring"
    )
    assert (rollout.rollout_id, rollout.reverts, rollout.plan.release) == ("spring-revert", "spring", "1.2.0-revert")
    await world.tick()
    # The permit of before runs on; its vehicle ends on the bad release, and is for the revert from then on.
    await world.manifests.submit(late.vehicle_id, late.manifest(world.now, bad))
    await drive(world, [*hurt, late, spared], back)
    assert {(await world.record(car)).installed for car in (*hurt, late)} == {"1.2.0-revert"}
    assert (await world.record(spared)).installed == "1.1.0"
    undone = await world.rollout("spring-revert")
    assert (await world.counted("spring-revert")).succeeded_in_all == 4
    assert undone.status is RolloutStatus.COMPLETED
    assert (await world.counted()).succeeded_in_all == 4, "what was attested stays counted where it happened"
    story = await rollout_story(world.ledger_file, "spring-revert")
    [created] = [item.entry for item in story if item.entry.kind == "rollout_created"]
    assert (created.data["reverts"], created.data["reason"]) == ("spring", "brakes")


async def test_without_a_way_back_nothing_is_proposed(world: World) -> None:
    """The remedy says what can be done instead, by whom."""
    await world.add(Car("v-1"))
    await world.start()
    with pytest.raises(StateError) as error:
        await world.rollouts.propose_revert(SPRING)
    assert error.value.reason == "REVERT_MISSING"
    assert "outrider release publish" in error.value.remedy
    with pytest.raises(NotFoundError):
        await world.rollouts.propose_revert(RolloutId("none"))


async def test_revert_is_of_a_stopped_rollout_of_that_release(world: World) -> None:
    """While the first goes on, the second would chase it; and the ledger's link must not be a lie."""
    await world.undoable()
    car = Car("v-1")
    await world.add(car)
    await world.start(BAD)
    plan = "release: 1.2.0-revert\nholdout: 0%\nwaves: [{name: all}]\n"
    create = world.rollouts.create
    with pytest.raises(StateError) as running:
        await create(plan, rollout_id="", request_id="", actor="a", reason="b", reverts="spring")
    assert (running.value.reason, "outrider rollout abort spring" in running.value.remedy) == (
        "REVERT_OF_RUNNING",
        True,
    )
    await stopped(world, RolloutStatus.ABORTED)
    with pytest.raises(InvalidInputError) as other:
        await create("release: 1.1.0\n", rollout_id="", request_id="", actor="a", reason="b", reverts="spring")
    assert other.value.reason == "REVERT_MISMATCH"
    with pytest.raises(NotFoundError):
        await create(plan, rollout_id="", request_id="", actor="a", reason="b", reverts="winter")
    assert [rollout.rollout_id for rollout in await world.store.rollouts()] == ["spring"]


async def test_undone_rollout_neither_resumes_nor_is_undone_twice_at_once(world: World) -> None:
    """Two rollouts that pull at the same vehicles from both ends would never end."""
    bad, _ = await world.undoable()
    car = Car("v-1")
    await world.add(car)
    await world.start(BAD)
    await install(world, car, bad)
    await stopped(world, RolloutStatus.PAUSED)
    plan, _ = await world.rollouts.propose_revert(SPRING)
    await world.rollouts.create(plan, rollout_id="", request_id="", actor="a", reason="b", reverts="spring")
    with pytest.raises(StateError) as resumed:
        await world.rollouts.request(SPRING, ResumeRequested("alice", "on"), etag="")
    assert resumed.value.reason == "REVERTED"
    with pytest.raises(StateError) as twice:
        await world.rollouts.propose_revert(SPRING)
    assert twice.value.reason == "REVERT_UNDER_WAY"
    await world.rollouts.request(RolloutId("spring-revert"), AbortRequested("alice", "no"), etag="")
    again, _ = await world.rollouts.propose_revert(SPRING)
    assert "\nname: spring-revert-2\n" in again
    assert (await world.rollouts.request(SPRING, ResumeRequested("alice", "on"), etag="")).status is (
        RolloutStatus.RUNNING
    )


def profile(installed: str = "1.2.0", **fields: str) -> Profile:
    return a_vehicle("v", **fields).profile(ReleaseVersion(installed))


def test_plan_of_a_revert_keeps_what_protects_and_drops_what_delays() -> None:
    """Windows and consent were agreed with people; approvals and `follow` would keep a bad release on the road."""
    plan = a_plan(
        release="1.2.0",
        target=Target(model=("S",), cohort=("canary", "early"), installed="<1.2.0"),
        waves=[a_wave("canary", approvals=2), a_wave("all", approvals=1)],
        holdout_share=0.01,
    )
    regions = {
        "eu": replace(plan.regions["eu"], consent=Consent.REQUIRED, zone="Europe/Berlin"),
        "us": replace(plan.regions["us"], follow="eu"),
    }
    text = revert_plan(
        a_rollout(plan=replace(plan, regions=regions)),
        BACK,
        profiles={profile(): 30, profile("1.1.0"): 5, profile(region="apac"): 2, profile(model="X"): 1},
        tally=a_tally(permitted=1, installing=2, succeeded=30),
        taken=["spring"],
    )
    written = read_plan(text)
    assert (written.name, written.release) == ("spring-revert", "1.2.0-revert")
    assert (written.target.model, written.target.cohort) == (("S",), ("canary", "early"))
    assert written.target.installed == "==1.2.0"
    assert mismatch(compile_target(written.target), profile()) is None
    assert [wave.approvals for wave in written.waves] == [0, 0]
    assert written.regions == {**regions, "us": replace(regions["us"], follow="")}
    assert (written.gate, written.limits, written.holdout_share) == (plan.gate, plan.limits, 0.0)
    assert "# Undoes rollout spring: 30 vehicles run 1.2.0" in text
    assert "# 3 more run 1.2.0 outside" in text
    assert "# 3 installations of 1.2.0 are still under way" in text


@pytest.mark.parametrize(("vehicles", "share"), [(0, 0.5), (10, 0.5), (100, 0.2), (400, 0.05), (100_000, 0.05)])
def test_first_wave_of_a_revert_is_small_but_can_be_judged(vehicles: int, share: float) -> None:
    """A share of five per cent of forty vehicles would say nothing, and cost as long."""
    first, last = revert_waves(vehicles, 20)
    assert (first.share, last.share) == (share, 1.0)


def test_id_of_a_revert_is_free_and_not_too_long() -> None:
    """It has to be one that the server takes."""
    assert free_name("spring", []) == "spring-revert"
    assert free_name("spring", ["spring-revert", "spring-revert-2"]) == "spring-revert-3"
    assert free_name("s" * 63, []) == "s" * 56 + "-revert"
    assert free_name("a" * 55 + "-b", []) == "a" * 55 + "-revert"
