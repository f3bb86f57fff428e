"""Use cases of rollouts on the reference store: started once, changed by compare-and-set, watched to the end."""

from __future__ import annotations

import asyncio

import pytest
from outrider.v1 import vehicle_pb2

from orchestrator.engine.progress import AbortRequested, PauseRequested, ResumeRequested
from orchestrator.model.ids import RolloutId
from orchestrator.model.rollout import RolloutStatus
from orchestrator.rpc import convert
from orchestrator.service.errors import ConflictError, InvalidInputError, NotFoundError, StateError
from orchestrator.service.rollouts import etag_of, release_position, rollout_id_of
from tests.builders import HOUR_MS
from tests.ledger.reading import rollout_story
from tests.service.world import PLAN, Car, World

SPRING = RolloutId("spring")


async def test_rollout_is_one_record_whatever_the_fleet(world: World) -> None:
    """O(1): no row per vehicle exists before a vehicle is granted an attempt."""
    await world.add(*(Car(f"v-{number}") for number in range(8)))
    await world.start()
    assert [rollout.rollout_id for rollout in await world.store.rollouts()] == ["spring"]
    assert (await world.counted()).granted == 0
    (view,) = await world.rollouts.views()
    assert sum(view.waiting.values()) == 8


async def test_blast_budget_follows_from_the_fleet_unless_the_plan_has_one(world: World) -> None:
    """The number in force is the one that was previewed, and stands in the rollout, not only in a formula."""
    await world.add(Car("v-1"))
    plan, _, effective = await world.rollouts.preview("release: 1.1.0\n")
    assert plan.limits.blast_budget == 20
    assert "blast_budget: 20" in effective
    for name, text in (("left", "release: 1.1.0\n"), ("own", "release: 1.1.0\nlimits: {blast_budget: 7}\n")):
        rollout = await world.rollouts.create(text, rollout_id=name, request_id="", actor="a", reason="b")
        assert rollout.plan.limits.blast_budget == (7 if name == "own" else 20)


async def test_faulty_plan_and_unknown_release_name_their_place(world: World) -> None:
    """Every refusal of a plan says line and column; nothing is written."""
    await world.add(Car("v-1"))
    for plan, place in (("release: 1.1.0\nwawes: 3\n", "2:1"), ("name: a\nrelease:   7.7.7\n", "2:12")):
        with pytest.raises(InvalidInputError) as error:
            await world.rollouts.create(plan, rollout_id="", request_id="", actor="a", reason="b")
        assert [violation.field for violation in error.value.violations] == [place]
    assert await world.store.rollouts() == []


async def test_preview_says_over_the_wire_when_each_region_can_move(world: World) -> None:
    """What a plan promises to people is decided before it starts, with real times."""
    await world.add(Car("v-1"), Car("v-2", region="us"))
    text = (
        f"{PLAN}regions:\n"
        '  eu: {zone: Europe/Berlin, consent: required, windows: [{from: "02:00", to: "05:00"}]}\n'
        "  us: {follow: eu}\n"
    )
    answer = convert.preview(*await world.rollouts.preview(text))
    eu, us = answer.regions
    assert (eu.region, eu.targeted, eu.consent) == ("eu", 1, vehicle_pb2.CONSENT_POLICY_REQUIRED)
    first = eu.windows[0]
    assert (first.zone, first.vehicles) == ("Europe/Berlin", 1)
    spans = (first.start_time.ToMilliseconds() - world.now, first.end_time.ToMilliseconds() - world.now)
    assert spans == (HOUR_MS, 4 * HOUR_MS)
    assert (us.region, us.follow, us.consent) == ("us", "eu", vehicle_pb2.CONSENT_POLICY_NONE)
    assert not us.windows
    assert eu.message
    assert us.message


async def test_id_is_chosen_by_the_caller_the_plan_or_the_server_in_this_order(world: World) -> None:
    """A name that people gave is the name they will look for."""
    await world.add(Car("v-1"))
    named = f"name: from-plan\n{PLAN}"
    given = await world.rollouts.create(named, rollout_id="given", request_id="", actor="a", reason="b")
    planned = await world.rollouts.create(named, rollout_id="", request_id="", actor="a", reason="b")
    made_up = await world.rollouts.create(PLAN, rollout_id="", request_id="", actor="a", reason="b")
    assert (given.rollout_id, planned.rollout_id) == ("given", "from-plan")
    assert made_up.rollout_id.startswith("r-1-1-0-")
    with pytest.raises(InvalidInputError):
        await world.rollouts.create(PLAN, rollout_id="Not An Id", request_id="", actor="a", reason="b")


async def test_start_is_repeatable_by_request_id_and_exclusive_without(world: World) -> None:
    """A lost reply must not start a second rollout, and a reused name must not join the first."""
    await world.add(Car("v-1"))
    first = await world.rollouts.create(PLAN, rollout_id="spring", request_id="r-1", actor="a", reason="b")
    again = await world.rollouts.create(PLAN, rollout_id="spring", request_id="r-1", actor="a", reason="b")
    assert again == first
    for other in ("", "r-2"):
        with pytest.raises(StateError) as error:
            await world.rollouts.create(PLAN, rollout_id="spring", request_id=other, actor="a", reason="b")
        assert error.value.reason == "ROLLOUT_EXISTS"


async def test_plan_over_nobody_is_refused(world: World) -> None:
    """It would complete at once, and look like a success."""
    with pytest.raises(StateError) as error:
        await world.rollouts.create(PLAN, rollout_id="", request_id="", actor="a", reason="b")
    assert error.value.reason == "TARGET_EMPTY"


async def test_change_needs_a_reason_a_rollout_and_its_etag(world: World) -> None:
    """Each is a different mistake, with a different remedy."""
    await world.add(Car("v-1"))
    rollout = await world.start()
    with pytest.raises(InvalidInputError):
        await world.rollouts.request(SPRING, PauseRequested("alice", " "), etag="")
    with pytest.raises(NotFoundError):
        await world.rollouts.request(RolloutId("none"), PauseRequested("alice", "why"), etag="")
    with pytest.raises(ConflictError):
        await world.rollouts.request(SPRING, PauseRequested("alice", "why"), etag='"9"')
    paused = await world.rollouts.request(SPRING, PauseRequested("alice", "why"), etag=etag_of(rollout))
    assert (paused.status, paused.epoch) == (RolloutStatus.PAUSED, rollout.epoch + 1)


async def test_repeated_pause_changes_nothing_and_an_end_is_final(world: World) -> None:
    """Asking twice is no fault; asking a dead rollout to go on is."""
    await world.add(Car("v-1"))
    await world.start()
    once = await world.rollouts.request(SPRING, PauseRequested("alice", "why"), etag="")
    twice = await world.rollouts.request(SPRING, PauseRequested("bob", "me too"), etag="")
    assert twice == once
    await world.rollouts.request(SPRING, AbortRequested("alice", "enough"), etag="")
    with pytest.raises(StateError) as error:
        await world.rollouts.request(SPRING, ResumeRequested("bob", "please"), etag="")
    assert error.value.remedy


async def test_requests_at_once_are_one_after_the_other(world: World) -> None:
    """Nobody's decision is lost or half done: both stand in the record, with their own epochs."""
    await world.add(Car("v-1"))
    await world.start()
    await asyncio.gather(
        world.rollouts.request(SPRING, PauseRequested("alice", "stop"), etag=""),
        world.rollouts.request(SPRING, AbortRequested("bob", "end"), etag=""),
    )
    rollout = await world.rollout()
    assert (rollout.status, rollout.epoch) == (RolloutStatus.ABORTED, 3)
    await world.tick()
    story = await rollout_story(world.ledger_file, "spring")
    assert [(item.entry.kind, item.entry.data["actor"]) for item in story] == [
        ("rollout_created", "alice"),
        ("rollout_paused", "alice"),
        ("rollout_aborted", "bob"),
    ]


async def test_watch_tells_each_change_and_ends_with_the_last_install(world: World) -> None:
    """An aborted rollout is not at rest while vehicles still install: who watches must see them out."""
    car = Car("v-1")
    await world.add(car)
    (release,) = await world.store.releases()
    await world.start()
    await world.permitted(car)
    views = world.rollouts.watch(SPRING)
    first = await anext(views)
    assert first.rollout.status is RolloutStatus.RUNNING
    await world.rollouts.request(SPRING, AbortRequested("alice", "enough"), etag="")
    second = await anext(views)
    assert second.rollout.status is RolloutStatus.ABORTED
    await world.manifests.submit(car.vehicle_id, car.manifest(world.now, release))
    third = await anext(views)
    assert sum(tally.in_flight for tally in third.cells.values()) == 0
    with pytest.raises(StopAsyncIteration):
        await anext(views)


def test_place_of_the_release_is_found_with_or_without_space() -> None:
    """The column must be the value's, for editors to jump to."""
    assert release_position("name: a\nrelease: 1.0.0\n") == (2, 10)
    assert release_position("release:    1.0.0\n") == (1, 13)
    assert release_position("{release: 1.0.0}") == (1, 1)


def test_resource_names_are_checked() -> None:
    """Names come from outside."""
    assert rollout_id_of("rollouts/spring") == "spring"
    for name in ("spring", "rollouts/", "rollouts/UPPER", "vehicles/spring", "rollouts/a/b"):
        with pytest.raises(InvalidInputError):
            rollout_id_of(name)


async def test_repeated_resume_does_not_waive_a_second_rule(world: World) -> None:
    """A reply was lost, the tool asked again, and meanwhile the gate had stopped the rollout anew: that stop stands."""
    await world.add(Car("v-1"))
    await world.start()
    name = RolloutId("spring")
    await world.rollouts.request(name, PauseRequested("ann", "look"), etag="")
    resumed = await world.rollouts.request(name, ResumeRequested("ann", "fine"), etag="", request_id="r-1")
    await world.rollouts.request(name, PauseRequested("bob", "not fine"), etag="")
    repeated = await world.rollouts.request(name, ResumeRequested("ann", "fine"), etag="", request_id="r-1")
    assert resumed.status is RolloutStatus.RUNNING
    assert repeated.status is RolloutStatus.PAUSED
