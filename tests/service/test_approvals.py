"""Approvals: another person lets a wave begin, once, with a reason; and what people are shown of it."""

from __future__ import annotations

import pytest

from orchestrator.engine.progress import AbortRequested, ApproveRequested, PauseRequested
from orchestrator.model.ids import RolloutId
from orchestrator.model.rollout import RegionPhase
from orchestrator.rpc import convert
from orchestrator.service.errors import ConflictError, ForbiddenError, InvalidInputError, StateError
from orchestrator.service.rollout_views import RolloutView
from orchestrator.service.rollouts import etag_of
from orchestrator.service.vehicles import Install
from tests.builders import HOUR_MS
from tests.ledger.reading import rollout_story
from tests.service.world import PLAN, Car, World

SPRING = RolloutId("spring")
APPROVED = "release: 1.1.0\nholdout: 0%\nwaves: [{name: all, approvals: 1}]\n"


def bob(wave: str = "all", region: str = "", *, actor: str = "bob", reason: str = "looked at it") -> ApproveRequested:
    return ApproveRequested(actor=actor, wave=wave, region=region, reason=reason)


async def started(world: World, plan: str = APPROVED) -> Car:
    car = Car("v-1")
    await world.add(car)
    await world.start(plan)
    return car


async def view(world: World) -> RolloutView:
    return await world.rollouts.view(SPRING)


async def test_wave_begins_with_the_approval_of_another_person(world: World) -> None:
    """Who starts a rollout is not who lets it go."""
    car = await started(world)
    assert (await world.check_in(car)).directive is None
    before = await view(world)
    assert before.approval_wanted == {"eu": "all"}
    assert before.rollout.regions["eu"].phase is RegionPhase.PENDING
    approved = await world.rollouts.request(SPRING, bob(), etag=etag_of(before.rollout), request_id="r-1")
    assert [(one.actor, one.wave, one.reason) for one in approved.approvals] == [("bob", "all", "looked at it")]
    await world.tick()
    assert isinstance((await world.check_in(car)).directive, Install)
    shown = convert.rollout(await view(world))
    assert (shown.creator, shown.regions[0].approval_wanted) == ("alice", "")
    assert [(one.actor, one.wave, one.region, one.reason) for one in shown.approvals] == [
        ("bob", "all", "", "looked at it")
    ]
    assert shown.approvals[0].create_time.ToMilliseconds() == world.now
    await world.tick()
    story = [item.entry for item in await rollout_story(world.ledger_file, "spring")]
    [entry] = [entry for entry in story if entry.kind == "wave_approved"]
    assert (entry.data["actor"], entry.data["reason"], entry.data["wave"]) == ("bob", "looked at it", "all")


async def test_nobody_approves_what_they_created(world: World) -> None:
    """Also not an admin, who may do both."""
    await started(world)
    with pytest.raises(ForbiddenError) as error:
        await world.rollouts.request(SPRING, bob(actor="alice"), etag="")
    assert (error.value.reason, "another person" in error.value.remedy) == ("OWN_ROLLOUT", True)
    assert (await world.rollout()).approvals == ()


async def test_approval_is_given_once_and_by_its_request(world: World) -> None:
    """A repeated call counts as one; so does a person who says it twice."""
    await started(world, APPROVED.replace("approvals: 1", "approvals: 2"))
    first = await world.rollouts.request(SPRING, bob(), etag="", request_id="r-1")
    assert await world.rollouts.request(SPRING, bob(), etag="", request_id="r-1") == first
    assert (await world.rollouts.request(SPRING, bob(), etag="")).approvals == first.approvals
    await world.tick()
    assert (await view(world)).approval_wanted == {"eu": "all"}, "two people are asked for"
    with pytest.raises(ConflictError):
        await world.rollouts.request(SPRING, bob(actor="eve"), etag=etag_of(first).replace("2", "1"))
    await world.rollouts.request(SPRING, bob(actor="eve"), etag="")
    await world.tick()
    assert (await view(world)).approval_wanted == {}


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        (bob(reason=" "), InvalidInputError, "reason is required"),
        (bob("general"), StateError, "no wave `general`"),
        (bob(region="mars"), StateError, "no region `mars`"),
    ],
    ids=["no reason", "no such wave", "no such region"],
)
async def test_approval_of_what_there_is_not_is_refused_with_a_remedy(
    world: World, request_: ApproveRequested, error: type[InvalidInputError | StateError], words: str
) -> None:
    """A slip must not look like an approval."""
    await started(world)
    with pytest.raises(error) as refused:
        await world.rollouts.request(SPRING, request_, etag="")
    assert words in str(refused.value)
    assert refused.value.remedy


async def test_what_is_over_or_needs_none_is_not_approved(world: World) -> None:
    """An approval that changes nothing would be taken for one that does."""
    await started(world, PLAN)
    with pytest.raises(StateError):
        await world.rollouts.request(SPRING, bob(), etag="")
    await world.rollouts.request(SPRING, AbortRequested("alice", "enough"), etag="")
    with pytest.raises(StateError):
        await world.rollouts.request(SPRING, bob(), etag="")


async def test_people_see_when_a_closed_window_opens(world: World) -> None:
    """`why does nothing happen` has an answer with a time in it."""
    await started(world, f'{PLAN}zone: Europe/Berlin\nwindows: [{{from: "02:00", to: "05:00"}}]\n')
    begin = world.now
    shown = convert.rollout(await view(world))
    assert shown.regions[0].window_open_time.ToMilliseconds() == begin + HOUR_MS
    world.hand.advance(2 * HOUR_MS)
    assert not convert.rollout(await view(world)).regions[0].HasField("window_open_time"), "it is open"
    world.hand.advance(3 * HOUR_MS)
    await world.rollouts.request(SPRING, PauseRequested("alice", "wait"), etag="")
    assert (await view(world)).opens_at == {"eu": begin + 25 * HOUR_MS}
    await world.rollouts.request(SPRING, AbortRequested("alice", "enough"), etag="")
    assert (await view(world)).opens_at == {}
