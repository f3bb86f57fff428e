"""Who could have its permit waits for one more call by a coin, watched as a control; nothing but the coin decides."""

from __future__ import annotations

import asyncio

import pytest

from agent_sim.pacing import Pace
from orchestrator.engine import controls
from orchestrator.engine.habits import SAME_CONTACT_MS
from orchestrator.engine.requests import AbortRequested
from orchestrator.model.attempt import AttemptEvent, AttemptState, VehicleEvent
from orchestrator.model.decision import RefusalReason
from orchestrator.model.ids import ReleaseVersion, RolloutId
from orchestrator.model.release import Release
from orchestrator.service.permits import PLACE_RETRY_MS, PermitAnswer
from orchestrator.service.vehicles import Install, Withdraw
from orchestrator.store.base import Standing, StoreUnavailableError
from tests.builders import DAY_MS, HOUR_MS, a_cell
from tests.service.world import Car, World

FLEET = 120
PLAN = """\
release: 1.1.0
holdout: 0%
limits: {in_flight: 100, blast_budget: 1000}
gate: {controls: 3}
waves: [{name: first, share: 10%, soak: 2d}, {name: rest}]
"""
HALF_DAY_MS = 12 * HOUR_MS
"""The first checkpoint, unless a plan says otherwise."""
FIRST = 12
"""Places of the first wave."""


@pytest.fixture(scope="module")
def fleet() -> list[Car]:
    """Vehicles enough for a trial; their keys take a while."""
    return [Car(f"v-{number}") for number in range(FLEET)]


class Trial:
    """A rollout whose first wave is in the trial altogether.

    Args:
        world: in which it runs.
        fleet: its vehicles.
    """

    def __init__(self, world: World, fleet: list[Car]) -> None:
        self.world = world
        self._unasked = list(fleet)
        self._watched: list[str] = []

    async def start(self) -> None:
        """Begin the first wave."""
        await self.world.add(*self._unasked)
        await self.world.start(PLAN)

    async def downloaded(self) -> Car:
        """Take the next vehicle that has its turn to the point of no return."""
        while self._unasked:
            car = self._unasked.pop()
            directive = (await self.world.check_in(car)).directive
            if isinstance(directive, Install):
                told = VehicleEvent(1, directive.attempt.attempt_id, AttemptEvent.DOWNLOAD_FINISHED)
                await self.world.check_in(car, told)
                return car
        raise AssertionError("nobody is left to ask")

    async def to_toss(self, *, aside: bool) -> Car:
        """The next vehicle for which the coin falls so if it asks now."""
        rollout = await self.world.rollout()
        while True:
            car = await self.downloaded()
            if controls.stands_aside(rollout, await self.world.attempt(car), self.world.now) is aside:
                return car
            # It gives its place back, so that there is room to go on, and is no loss that the gate would count.
            attempt_id = (await self.world.attempt(car)).attempt_id
            await self.world.store.change(attempt_id, AttemptEvent.DEADLINE_PASSED, now=self.world.now)
            await self.world.feed.run_once()

    async def asks(self, car: Car) -> PermitAnswer:
        """A vehicle asks for its permit."""
        attempt_id = (await self.world.attempt(car)).attempt_id
        return await self.world.permits.authorize(car.vehicle_id, attempt_id)

    async def tick(self, after_ms: int = 0) -> None:
        """Let time go by, and everything follow from it; remembers what of the journal goes to the ledger."""
        self.world.hand.advance(after_ms)
        self._watched = await self.watched()
        await self.world.tick()

    async def until_toss(self, car: Car, *, aside: bool) -> None:
        """Let time go by until the coin of a vehicle falls so."""
        rollout, attempt = await self.world.rollout(), await self.world.attempt(car)
        while controls.stands_aside(rollout, attempt, self.world.now) is not aside:
            self.world.hand.advance(SAME_CONTACT_MS)
        await self.tick()

    async def standing(self) -> Standing:
        """How far the rollout's limits are used."""
        rollout = await self.world.rollout()
        return await self.world.store.standing(rollout.rollout_id, now=self.world.now)

    async def watched(self) -> list[str]:
        """Vehicles that are or were controls, once for each watch."""
        return self._watched + [str(one.data["vehicle_id"]) for one in await self.world.journal("control_enrolled")]


@pytest.fixture
async def trial(world: World, fleet: list[Car]) -> Trial:
    """A rollout in its first wave."""
    trial = Trial(world, fleet)
    await trial.start()
    return trial


def reason(answer: PermitAnswer) -> RefusalReason | None:
    """Why there is no permit; None when there is one."""
    return answer.refusal.reason if answer.refusal else None


async def test_attempt_that_loses_the_toss_waits_for_one_more_call_as_a_control(trial: Trial) -> None:
    """It holds nothing while it waits for our sake, and is told when its call counts as another one."""
    car = await trial.to_toss(aside=True)
    answer = await trial.asks(car)
    assert reason(answer) is RefusalReason.WATCHED
    assert answer.retry_after_ms is not None
    age_ms = trial.world.now + answer.retry_after_ms - controls.enrolled_at(trial.world.now)
    assert controls.HEARD_AFTER_MS <= age_ms < controls.HEARD_AFTER_MS + SAME_CONTACT_MS
    late_ms = Pace().smear_max_ms
    assert age_ms + late_ms < controls.YOUNGEST_MS, "an agent that comes as late as it may is heard before any age"
    attempt = await trial.world.attempt(car)
    assert (attempt.state, attempt.failure_code) == (AttemptState.DEFERRED, "watched")
    assert await trial.watched() == [car.vehicle_id]
    await trial.world.feed.run_once()
    now = await trial.standing()
    assert (now.in_flight_total, now.admitted, now.permits, now.starts) == (0, {}, 0, 0)


async def test_attempt_that_wins_the_toss_gets_its_permit_and_is_no_control(trial: Trial) -> None:
    """Exposures are the other side of the coin, and nobody else is."""
    car = await trial.to_toss(aside=False)
    assert reason(await trial.asks(car)) is None
    assert await trial.watched() == []
    assert (await trial.world.attempt(car)).paired


async def test_next_call_of_a_control_is_tossed_anew_until_it_gets_its_permit(trial: Trial) -> None:
    """Nobody waits for ever: each asking is another toss, and each lost one another watch."""
    car = await trial.to_toss(aside=True)
    for lost in range(1, 60):
        answer = await trial.asks(car)
        if answer.refusal is None:
            break
        assert reason(answer) is RefusalReason.WATCHED
        assert await trial.watched() == [car.vehicle_id] * lost
        await trial.tick(answer.retry_after_ms or 0)
    assert await trial.world.state(car) is AttemptState.PERMITTED
    assert (await trial.standing()).admitted == {a_cell(): 1}


async def test_each_watch_is_a_wait_of_its_own(trial: Trial) -> None:
    """Who calls once a week would else run out of time by waiting for our sake; asking twice does not lengthen it."""
    car = await trial.to_toss(aside=True)
    deadlines = []
    for _ in range(2):
        await trial.asks(car)
        deadlines.append((await trial.world.attempt(car)).deadline_at)
        trial.world.hand.advance(1)
        await trial.asks(car)
        assert (await trial.world.attempt(car)).deadline_at == deadlines[-1]
        await trial.tick(7 * DAY_MS - 1)
        await trial.until_toss(car, aside=True)
    assert deadlines[0] is not None
    assert deadlines[1] is not None
    assert deadlines[1] - deadlines[0] >= 7 * DAY_MS


async def test_control_and_exposure_of_one_vehicle_are_counted_each_for_itself(trial: Trial) -> None:
    """A watch that goes on past the permit is a control's, not an exposure's; and the other way round. Its question
    alone is a call: the control is heard by it, and the silence after it is the exposure's.
    """
    car = await trial.to_toss(aside=True)
    watched = await trial.asks(car)
    asked_at = trial.world.now
    assert watched.retry_after_ms is not None
    trial.world.hand.advance(watched.retry_after_ms)
    await trial.until_toss(car, aside=False)
    assert reason(await trial.asks(car)) is None
    await trial.world.last_seen.flush()
    await trial.tick(HALF_DAY_MS - (trial.world.now - asked_at))
    group = (await trial.world.counted()).age_groups[0]
    assert (group.exposed, group.controls, group.controls_silent, group.unpaired) == (0, 1, 0, 0)
    await trial.tick(HALF_DAY_MS)
    group = (await trial.world.counted()).age_groups[0]
    assert (group.exposed, group.silent, group.controls) == (1, 1, 1)


async def test_answer_that_was_lost_is_the_same_within_one_contact(trial: Trial) -> None:
    """Asking again at once must not be a way around the coin, and makes no second control."""
    car = await trial.to_toss(aside=True)
    for _ in range(5):
        assert reason(await trial.asks(car)) is RefusalReason.WATCHED
    assert await trial.watched() == [car.vehicle_id]


async def test_two_workers_that_are_asked_at_once_say_the_same(trial: Trial) -> None:
    """No word between them is needed: both toss the same coin and write under the same name."""
    world, car = trial.world, await trial.to_toss(aside=True)
    other = world.permit_desk()
    wanted = (await world.attempt(car)).attempt_id
    answers = await asyncio.gather(*(desk.authorize(car.vehicle_id, wanted) for desk in (world.permits, other) * 3))
    assert {reason(answer) for answer in answers} == {RefusalReason.WATCHED}
    assert await trial.watched() == [car.vehicle_id]
    now = await trial.standing()
    assert (now.in_flight_total, now.at_risk, now.admitted) == (0, 0, {})


@pytest.mark.parametrize("call", ["enrol", "change"])
async def test_crash_between_the_steps_is_made_good_by_the_next_asking(
    trial: Trial, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place is given back first; the watch and the deferral follow, whoever does them."""
    car = await trial.to_toss(aside=True)
    with monkeypatch.context() as dying:
        dying.setattr(trial.world.store, call, _gone)
        with pytest.raises(StoreUnavailableError):
            await trial.asks(car)
    assert (await trial.standing()).admitted == {}
    assert reason(await trial.asks(car)) is RefusalReason.WATCHED
    assert await trial.watched() == [car.vehicle_id]
    assert await trial.world.state(car) is AttemptState.DEFERRED


async def test_crash_that_nobody_makes_good_keeps_no_vehicle_from_its_permit(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An observation is lost, and no more."""
    car = await trial.to_toss(aside=True)
    with monkeypatch.context() as dying:
        dying.setattr(trial.world.store, "enrol", _gone)
        with pytest.raises(StoreUnavailableError):
            await trial.asks(car)
    await trial.until_toss(car, aside=False)
    assert reason(await trial.asks(car)) is None
    assert await trial.watched() == []
    now = await trial.standing()
    assert (now.in_flight_total, now.admitted, now.permits) == (1, {a_cell(): 1}, 1)


async def test_place_of_a_control_is_anothers_and_it_waits_for_the_next_wave(trial: Trial) -> None:
    """A wave of twelve exposes twelve: who stood aside does not come on top."""
    world, late = trial.world, await trial.to_toss(aside=True)
    await trial.asks(late)
    await _fill(trial)
    await trial.until_toss(late, aside=False)
    answer = await trial.asks(late)
    assert (reason(answer), answer.retry_after_ms) == (RefusalReason.QUOTA_SPENT, PLACE_RETRY_MS)
    attempt = await world.attempt(late)
    assert (attempt.state, attempt.failure_code) == (AttemptState.DEFERRED, "quota_spent")
    assert (await trial.standing()).permits == FIRST
    explained = await world.explain.explain(late.vehicle_id, None)
    assert [said.reason for said in explained.explanations] == ["quota_spent"]
    assert "waits for a place in a wave" in explained.summary


async def test_control_gets_its_permit_once_its_wave_moved_on(trial: Trial) -> None:
    """Waiting for our sake must not cost it the update."""
    world, late = trial.world, await trial.to_toss(aside=True)
    await trial.asks(late)
    await _fill(trial)
    while (await world.rollout()).regions["eu"].wave == 0:
        await trial.tick(HOUR_MS)
        assert world.now - (await world.attempt(late)).granted_at < 10 * DAY_MS
    await trial.until_toss(late, aside=False)
    assert reason(await trial.asks(late)) is None


async def test_control_of_a_rollout_that_is_aborted_is_withdrawn(trial: Trial) -> None:
    """A coin must not keep an attempt alive that everybody else's was taken back."""
    world, car = trial.world, await trial.to_toss(aside=True)
    await trial.asks(car)
    await world.rollouts.request(RolloutId("spring"), AbortRequested("ann", "bad"), etag="")
    await world.tick()
    answer = await trial.asks(car)
    assert (reason(answer), answer.retry_after_ms) == (RefusalReason.ROLLOUT_OVER, None)
    assert isinstance((await world.check_in(car)).directive, Withdraw)
    await world.tick()
    now = await trial.standing()
    assert (now.in_flight_total, now.admitted, now.at_risk) == (0, {}, 0)


async def test_refusal_by_plan_or_vehicle_comes_before_the_coin(trial: Trial) -> None:
    """Who could not install now is no control: exposures passed the same door."""
    world, car = trial.world, await trial.to_toss(aside=True)
    await world.care.exclude([car.vehicle_id], None, actor="ann", reason="lemon")
    assert reason(await trial.asks(car)) is RefusalReason.QUARANTINED
    assert await trial.watched() == []


async def test_control_explains_itself(trial: Trial) -> None:
    """Somebody at a telephone has to say why this car has not installed yet."""
    car = await trial.to_toss(aside=True)
    await trial.asks(car)
    explained = await trial.world.explain.explain(car.vehicle_id, None)
    (said,) = explained.explanations
    assert said.reason == "watched"
    assert "watched as a control since" in said.message
    assert "its permit comes at a later call" in said.message


async def test_plan_without_controls_lets_nobody_wait_and_compares_all(world: World) -> None:
    """A small fleet learns nothing from a coin, and shall not wait for it."""
    cars = [Car(f"s-{number}") for number in range(4)]
    await world.add(*cars)
    await world.start("release: 1.1.0\nholdout: 0%\nwaves: [{name: all}]\n")
    assert (await world.rollout()).plan.gate.controls_per_exposure == 0
    for car in cars:
        await world.permitted(car)
        assert (await world.attempt(car)).paired
    assert list(await world.journal("control_enrolled")) == []


async def test_wave_that_leaves_nobody_behind_lets_hardly_anybody_wait(trial: Trial) -> None:
    """Waiting costs somebody something only where there is no later wave; there few are in the trial."""
    world = trial.world
    await _fill(trial)
    while (await world.rollout()).regions["eu"].wave == 0:
        await trial.tick(HOUR_MS)
    aside, permitted = 0, 0
    for _ in range(40):
        car = await trial.downloaded()
        if reason(await trial.asks(car)) is RefusalReason.WATCHED:
            aside += 1
        elif (attempt := await world.attempt(car)).exposed:
            assert attempt.paired is controls.is_paired(await world.rollout(), attempt)
            permitted += 1
    assert aside <= 10, "about 4 % of them"
    assert permitted >= 10


async def _fill(trial: Trial) -> None:
    """Take every place of the first wave. Each says at once that it succeeded: while coins are waited for, so much time
    goes by that silence could halt the rollout.
    """
    world = trial.world
    for _ in range(FIRST):
        car = await trial.downloaded()
        await trial.until_toss(car, aside=False)
        assert reason(await trial.asks(car)) is None
        await world.manifests.submit(car.vehicle_id, car.manifest(world.now, await _release(world)))


async def _release(world: World) -> Release:
    return world.snapshots.current.releases[ReleaseVersion("1.1.0")]


async def _gone(*_: object, **__: object) -> None:
    raise StoreUnavailableError("the worker died")
