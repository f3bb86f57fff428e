"""Faults by name, each at every step at which it can come, on the whole system: see the list in the design's reference.

Where the seeds draw at random, these walk through: a process dies at its first step, at its second, and so on. What
must hold is the witness's; what is asked here besides is only what the fault is about.
"""

from __future__ import annotations

import asyncio
import copy
from dataclasses import replace

import pytest

from orchestrator.engine.progress import RECOVERY, AbortRequested, ResumeRequested
from orchestrator.model.ids import RolloutId, VehicleId
from orchestrator.model.rollout import RolloutStatus
from tests.builders import HOUR_MS, MINUTE_MS
from tests.sim.people import ask
from tests.sim.process import Process
from tests.sim.run import run_scenario
from tests.sim.scenario import CALM, DEADLINES, RELEASES, Hazards, Launch, Scenario, draw_scenario
from tests.sim.world import Script, World

R1 = RolloutId("r1")
PLAN = f"""
release: {RELEASES[0]}
waves: [{{name: all, soak: 5m}}]
holdout: 0%
gate: {{failure_ratio: 20%, sample: 1, checkpoints: [15m, 40m], silence_reference: [20%, 15%]}}
limits: {{in_flight: 20, starts_per_minute: 20, blast_budget: 20, attempts: 9, retry_backoff: 1m, patience: 12h}}
{DEADLINES.replace("permitted: 20m", "permitted: 40m")}"""
"""A call that is lost takes ten seconds, twenty minutes at this scale: whoever did not hear its permit has to be able
to ask again before that is overdue, as in truth, where it is an hour.
"""


def a_scenario(vehicles: int, *, hazards: Hazards = CALM, seed: int = 0, stormy_ms: int = 2 * HOUR_MS) -> Scenario:
    """Some vehicles, one plan that lets them all through, nothing wrong with the release."""
    fleet = draw_scenario(0).vehicles[:vehicles]
    return Scenario(
        seed=seed,
        scale=120.0,
        tick_s=2.0,
        vehicles=fleet,
        faults=(),
        launches=(Launch(PLAN),),
        hazards=hazards,
        stormy_ms=stormy_ms,
        good=True,
    )


def at_step(patch: pytest.MonkeyPatch, kind: str, step: int, what: str, *, stall_s: float = 0.0) -> None:
    """The first process of a kind dies, or stands still, at one of its steps."""
    live = Process._live
    seen: dict[str, int] = {}
    first: list[str] = []

    async def scripted(self: Process, *chances: float) -> float:
        if self.name.startswith(kind):
            first.append(self.name) if not first else None
            seen[self.name] = seen.get(self.name, 0) + 1
            if self.name == first[0] and seen[self.name] == step:
                if what == "die":
                    self.die()
                else:
                    self.stalled_until_s = asyncio.get_running_loop().time() + stall_s
        return await live(self, *chances)

    patch.setattr(Process, "_live", scripted)


async def nothing(world: World) -> None:
    """No storm; what came up paused, because a new ledger proves nothing about a store with rollouts, is resumed."""
    await world.wait_ms(round(30_000 * world.scenario.scale))
    if world.witness.rollouts[R1].rollout.actor == RECOVERY:
        await ask(world, R1, ResumeRequested("carol", "it was the first start"))


@pytest.mark.fault("F1")
@pytest.mark.parametrize("first", range(1, 65, 16))
def test_worker_that_dies_at_any_step_leaks_no_slot_and_loses_no_vehicle(first: int, monkeypatch) -> None:
    """Fault 1: between reserve, assign and reply, between authorize, permit and reply, and everywhere else."""
    for step in range(first, first + 16):
        with monkeypatch.context() as patch:
            at_step(patch, "worker", step, "die")
            run_scenario(a_scenario(2), nothing)


@pytest.mark.fault("F1")
@pytest.mark.parametrize("first", range(1, 65, 16))
def test_evaluator_that_dies_at_any_step_leaves_nothing_half_done(first: int, monkeypatch) -> None:
    """Fault 1, the other side: between settling, ledger, judgement, transition and sign of life."""
    for step in range(first, first + 16):
        with monkeypatch.context() as patch:
            at_step(patch, "evaluator", step, "die")
            run_scenario(a_scenario(2), nothing)


@pytest.mark.fault("F2")
def test_words_that_are_doubled_out_of_order_and_weeks_late_change_nothing() -> None:
    """Fault 2: counters are what the vehicles truly did, before the late words and after them."""
    hazards = replace(CALM, doubled=0.5, slow=0.4, late=0.15, lost=0.1)
    for seed in range(2):
        world = run_scenario(replace(a_scenario(20, hazards=hazards, seed=seed), good=False))
        assert world.witness.happened["late message"]


STORED = ("_shards", "_rollouts", "_fleet_journal")
WITNESSED = ("rollouts", "attempts", "live", "acknowledged", "_marks")


def lose_the_tail(*, store_fails: float) -> Script:
    """An abort, durable and in the ledger; then a failover to a replica that had not heard of it."""

    async def play(world: World) -> None:
        await world.wait_ms(20 * MINUTE_MS)
        here: dict[int, object] = {id(world): world}
        replica = copy.deepcopy({name: vars(world.store)[name] for name in STORED}, here)
        picture = copy.deepcopy({name: vars(world.witness)[name] for name in WITNESSED}, here)
        await ask(world, R1, AbortRequested("carol", "wrong release"))
        await world.wait_ms(round(3_000 * world.scenario.scale))
        assert world.witness.rollouts[R1].rollout.status is RolloutStatus.ABORTED
        vars(world.store).update(replica)
        vars(world.witness).update(picture)
        world.witness.resets.update(VehicleId(vehicle.spec.vehicle_id) for vehicle in world.vehicles)
        world.ground.weather["evaluator"].fail_before = store_fails
        await world.wait_ms(round((world.scenario.tick_s + 0.5) * 1000 * world.scenario.scale))
        taken = world.witness.taken(R1)
        await world.wait_ms(HOUR_MS)
        rollout = world.witness.rollouts[R1].rollout
        assert (rollout.status, rollout.actor) == (RolloutStatus.ABORTED, RECOVERY)
        assert store_fails or world.witness.taken(R1) == taken
        world.ground.weather["evaluator"].fail_before = 0.0
        await world.wait_ms(HOUR_MS)
        assert world.witness.rollouts[R1].rollout == rollout, "nothing resumes unasked"

    return play


@pytest.mark.fault("F3")
@pytest.mark.parametrize("store_fails", [0.0, 0.05])
def test_failover_that_forgets_an_abort_does_not_bring_the_rollout_back(store_fails: float, monkeypatch) -> None:
    """Fault 3: the ledger remembers what the store has lost; within one tick it is aborted again, and stays so. Slots
    of attempts whose end only the ledger had carried over are not lost either.
    """
    # Its story is no longer one: the ledger tells of the abort, and of what came after the store had forgotten it.
    monkeypatch.setattr("tests.sim.world.check_decisions", lambda _: None)
    for seed in range(6):
        scenario = replace(a_scenario(20, seed=seed), good=False)
        run_scenario(scenario, lose_the_tail(store_fails=store_fails))


@pytest.mark.fault("F4")
@pytest.mark.parametrize("who", ["evaluator", "everybody"])
def test_partition_from_the_store_stops_grants_and_permits_within_ten_seconds(who: str) -> None:
    """Fault 4: the witness holds every grant against the last finished tick; here it must have had to."""

    async def part(world: World) -> None:
        await world.wait_ms(10 * MINUTE_MS)
        for kind, weather in world.ground.weather.items():
            weather.store_away = who == "everybody" or kind == "evaluator"
        await world.wait_ms(round(10_000 * world.scenario.scale))
        taken = world.witness.taken(R1)
        await world.wait_ms(HOUR_MS // 2)
        assert world.witness.taken(R1) == taken
        for weather in world.ground.weather.values():
            weather.store_away = False

    run_scenario(a_scenario(20), part)


@pytest.mark.fault("F5")
@pytest.mark.parametrize("first", range(1, 49, 16))
def test_evaluator_that_wakes_after_a_minute_changes_nothing_that_was_decided(first: int, monkeypatch) -> None:
    """Fault 5: it stands still at any step of a tick; another one and a person went on meanwhile."""

    async def go_on_without_it(world: World) -> None:
        world.spawn(world.evaluate())
        await world.wait_ms(10 * MINUTE_MS)
        await ask(world, R1, AbortRequested("carol", "wrong release"))
        aborted = world.witness.rollouts[R1].rollout
        await world.wait_ms(round(120_000 * world.scenario.scale))
        assert world.witness.rollouts[R1].rollout == aborted

    for step in range(first, first + 16):
        with monkeypatch.context() as patch:
            at_step(patch, "evaluator", step, "stall", stall_s=60.0)
            run_scenario(replace(a_scenario(3), good=False), go_on_without_it)


@pytest.mark.fault("F6")
def test_processes_whose_clocks_are_ten_minutes_off_decide_the_same() -> None:
    """Fault 6: what decides is the store's time and fleet time, never a process's own date."""

    def decisions(off_ms: int) -> list[object]:
        world = run_scenario(a_scenario(20, hazards=replace(CALM, dates_off_ms=off_ms)), nothing)
        return [(e.kind, e.at, dict(e.data)) for e in world.record.entries["rollout/r1"].values()]

    right = decisions(0)
    assert len(right) > 2
    assert decisions(10 * MINUTE_MS) == right
    assert decisions(-10 * MINUTE_MS) == right
