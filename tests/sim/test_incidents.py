"""What happened to others, played on the whole system, each with the bound that the design's reference names for it.

Days are hours here: checkpoints at one and three hours instead of one and three days, and what a plan counts in days
likewise. How many vehicles are hurt does not depend on it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from agent_sim.connectivity import Connectivity
from agent_sim.faults import Fault, FaultKind
from agent_sim.messages import Severity
from agent_sim.persisted import Phase
from agent_sim.vehicle import EcuSpec, VehicleSpec
from orchestrator.engine.progress import AbortRequested, SignalPosted
from orchestrator.model.attempt import AttemptState
from orchestrator.model.ids import RolloutId, VehicleId
from orchestrator.model.rollout import BrakeKind, RolloutStatus, Signal, SignalKind
from tests.builders import HOUR_MS, MINUTE_MS, NOW
from tests.sim.people import ask
from tests.sim.run import run_scenario
from tests.sim.scenario import CALM, HARDWARE_IDS, RELEASES, Launch, Scenario
from tests.sim.settled import dead
from tests.sim.witness import now
from tests.sim.world import World

R1 = RolloutId("r1")
BUDGET = 12
PERMIT_MS = 10 * MINUTE_MS
PLAN = f"""
release: {RELEASES[0]}
waves: [{{name: canary, cohorts: [canary], soak: 1h}}, {{name: all, soak: 1h}}]
holdout: 0%
gate: {{checkpoints: [1h, 3h]}}
limits: {{in_flight: 60, starts_per_minute: 4, blast_budget: {BUDGET}, permit_valid: 10m, patience: 1d}}
"""


def a_car(number: int, region: str, hardware: str) -> VehicleSpec:
    """A vehicle that is always in reach, one in four a canary."""
    name = f"v-{number}"
    ecus = tuple(EcuSpec(f"{name}-{kind}", kind, primary=kind == HARDWARE_IDS[0]) for kind in HARDWARE_IDS)
    cohort = "canary" if number % 4 == 0 else "general"
    return VehicleSpec(name, "S", hardware, region, cohort, (), ecus, Connectivity())


def a_fleet(size: int = 60) -> tuple[VehicleSpec, ...]:
    """Two regions, two variants of hardware."""
    return tuple(a_car(n, ("eu", "us")[n % 2], ("gen1", "gen2")[n // 2 % 2]) for n in range(size))


def an_incident(*faults: Fault, plan: str = PLAN, vehicles: tuple[VehicleSpec, ...] = ()) -> Scenario:
    """A calm world with a bad release."""
    return Scenario(
        seed=1,
        scale=300.0,
        tick_s=2.0,
        vehicles=vehicles or a_fleet(),
        faults=faults,
        launches=(Launch(plan),),
        hazards=CALM,
        stormy_ms=12 * HOUR_MS,
    )


async def a_day(world: World) -> None:
    """Half a day passes."""
    await world.wait_ms(12 * HOUR_MS)


def stopped(world: World) -> bool:
    """Whether the gate stopped it, before people ended it."""
    kinds = {entry.kind for entry in world.record.entries["rollout/r1"].values()}
    return bool(kinds & {"rollout_halted", "rollout_held", "parts_braked"})


@pytest.mark.fault("F13")
@pytest.mark.parametrize("seed", [1, 4])
def test_crowdstrike_a_payload_that_silences_whoever_starts_it_harms_no_more_than_the_budget(seed: int) -> None:
    """Not staged, pulled after 78 minutes, 8.5 million by then: here whatever is sent is staged, and B is the bound."""
    scenario = replace(an_incident(Fault(FaultKind.SILENT_BRICK, releases=RELEASES[:1])), seed=seed)
    world = run_scenario(scenario, a_day)
    assert stopped(world)
    assert 0 < dead(world) <= BUDGET


@pytest.mark.fault("F13")
def test_crowdstrike_a_payload_that_silences_while_it_is_fetched_harms_no_more_than_the_budget() -> None:
    """No permit was ever asked for: losses before the permit are bounded by a budget of their own."""

    async def crash_on_download(world: World) -> None:
        for vehicle in world.vehicles:
            vehicle.dies_fetching = RELEASES[0]
        await a_day(world)

    world = run_scenario(an_incident(), crash_on_download)
    assert not world.witness.rollouts[R1].permits
    assert 0 < dead(world) <= BUDGET


@pytest.mark.fault("F12")
def test_rivian_a_release_that_is_not_the_one_that_was_approved_reaches_nobody_more(monkeypatch) -> None:
    """The wrong build under the right name: the digest was pinned when the rollout was created."""
    # What vehicles attest in the meantime is told by the digests that are registered: the wrong ones.
    monkeypatch.setattr("tests.sim.settled._check_vehicle", lambda *_: None)

    async def swap(world: World) -> None:
        while not world.witness.rollouts[R1].permits:
            await world.wait_ms(MINUTE_MS)
        (right,) = [release for release in now(world.store.releases()) if release.version == RELEASES[0]]
        wrong = replace(right, images=tuple(replace(image, sha256="ab" * 32) for image in right.images))
        world.store._releases[right.version] = wrong
        await world.wait_ms(5 * MINUTE_MS)
        taken = world.witness.taken(R1)
        await a_day(world)
        assert world.witness.taken(R1) == taken
        world.store._releases[right.version] = right

    run_scenario(an_incident(), swap)


@pytest.mark.fault("F11")
def test_jeep_a_fault_that_shows_the_next_day_holds_and_downloaded_copies_are_not_installed() -> None:
    """Installed well, failed while driving a day later; pulled the same day, and downloaded copies went on."""
    later = Fault(
        FaultKind.TROUBLE_CODE,
        releases=RELEASES[:1],
        trouble_code="P0A0F",
        severity=Severity.CRITICAL,
        after_ms=15 * MINUTE_MS,
    )
    world = run_scenario(an_incident(later), a_day)
    assert stopped(world)
    assert len(world.witness.rollouts[R1].permits) <= BUDGET


@pytest.mark.fault("F11")
def test_jeep_a_signal_from_outside_holds_at_once_and_a_second_one_of_safety_halts() -> None:
    """The maker learnt it from complaints: whoever hears them first can say so, and no new install begins after the
    permits that are out have lapsed.
    """

    async def complain(world: World) -> None:
        await world.wait_ms(40 * MINUTE_MS)
        await ask(world, R1, SignalPosted(a_complaint("tow_rate", SignalKind.WARNING)))
        await world.wait_ms(round(2 * world.scenario.tick_s * 1000 * world.scenario.scale))
        assert world.witness.rollouts[R1].rollout.status is RolloutStatus.HELD
        permits = set(world.witness.rollouts[R1].permits)
        for name in ("shut_off", "no_brakes"):
            await ask(world, R1, SignalPosted(a_complaint(name, SignalKind.SAFETY)))
        await world.wait_ms(round(2 * world.scenario.tick_s * 1000 * world.scenario.scale) + PERMIT_MS)
        assert world.witness.rollouts[R1].rollout.status is RolloutStatus.HALTED
        assert set(world.witness.rollouts[R1].permits) == permits
        begun = installing(world)
        await world.wait_ms(4 * HOUR_MS)
        assert installing(world) == begun

    run_scenario(an_incident(), complain)


def a_complaint(name: str, kind: SignalKind) -> Signal:
    """A measure out of its range."""
    return Signal(name, kind, "all", value=9.0, limit=1.0, actor="hotline", reason="they call", at=NOW)


def installing(world: World) -> set[str]:
    """Attempts for which a vehicle ever passed the point of no return."""
    under_way = {
        vehicle.disk.agent.progress.attempt_id
        for vehicle in world.vehicles
        if vehicle.disk.agent.progress and vehicle.disk.agent.progress.phase in (Phase.INSTALLING, Phase.REBOOTING)
    }
    return under_way.union(*(vehicle.disk.installs for vehicle in world.vehicles))


@pytest.mark.fault("F14")
@pytest.mark.parametrize("seed", [4, 10])
def test_fca_one_variant_in_one_region_that_does_not_come_up_is_stopped_alone(seed: int) -> None:
    """Reboot loops in the Northeast, in one trim: that stratum stands after a few, and the others go on. In half of
    the seeds those few are so many of the first twenty that all is held as well, for a person to look at.
    """
    loops = Fault(FaultKind.BOOT_FAILURE, releases=RELEASES[:1], hardware=("gen2",), regions=("us",))
    seen: list[object] = []

    async def look(world: World) -> None:
        await a_day(world)
        seen.extend((brake.scope, brake.kind) for brake in world.witness.rollouts[R1].rollout.brakes)

    scenario = an_incident(loops, plan=PLAN.replace("gate: {", "gate: {failure_ratio: 5%, "))
    world = run_scenario(replace(scenario, seed=seed), look)
    # Held when too few were hurt for more: nobody new either way, and the others go on.
    assert seen in ([("us/gen2", BrakeKind.HALTED)], [("us/gen2", BrakeKind.HELD)])
    states = Counter((seen.state, scope_of(world, seen.vehicle_id)) for seen in world.witness.attempts.values())
    assert 0 < states[AttemptState.ROLLED_BACK, "us/gen2"] <= 5
    assert states[AttemptState.SUCCEEDED, "eu/gen1"] == 15
    assert not states[AttemptState.SUCCEEDED, "us/gen2"]


def scope_of(world: World, vehicle_id: VehicleId) -> str:
    """The stratum of a vehicle."""
    return next(f"{v.spec.region}/{v.spec.hardware}" for v in world.vehicles if v.spec.vehicle_id == vehicle_id)


@pytest.mark.fault("F15")
def test_tesla_a_stop_reaches_every_state_before_the_permit() -> None:
    """Cancelled for those that had not installed: whoever was offered, fetches, has it or waits, never installs it."""
    whole = PLAN.replace("waves: [{name: canary, cohorts: [canary], soak: 1h}, ", "waves: [")
    seen: Counter[AttemptState] = Counter()

    async def stop(world: World) -> None:
        await world.wait_ms(5 * MINUTE_MS)
        while not any(seen.state is AttemptState.OFFERED for seen in world.witness.attempts.values()):
            await world.wait_ms(1000)
        seen.update(attempt.state for attempt in world.witness.attempts.values() if not attempt.exposed)
        await ask(world, R1, AbortRequested("carol", "wrong release"))
        await world.wait_ms(PERMIT_MS)
        begun = installing(world)
        await a_day(world)
        assert installing(world) == begun

    for consent in ("required", "none"):
        scenario = replace(an_incident(plan=f"{whole}consent: {consent}\n"), scale=60.0, tick_s=1.0)
        world = run_scenario(scenario, stop)
        ends = Counter(attempt.state for attempt in world.witness.attempts.values() if not attempt.exposed)
        assert ends.keys() <= {AttemptState.WITHDRAWN, AttemptState.REJECTED}
    before = {AttemptState.OFFERED, AttemptState.DOWNLOADING, AttemptState.DOWNLOADED, AttemptState.DEFERRED}
    assert seen.keys() >= before


def test_lucid_a_vehicle_that_is_stuck_is_a_case_when_its_state_has_lasted_too_long() -> None:
    """Hours at nought per cent: each state has a time of its own, and then somebody looks."""

    async def get_stuck(world: World) -> None:
        stuck = world.vehicles[0]
        stuck.dies_installing = RELEASES[0]
        await a_day(world)
        record = now(world.store.vehicle(VehicleId(stuck.spec.vehicle_id)))
        assert record.attempt.state is AttemptState.TIMED_OUT
        took = record.attempt.state_at - record.attempt.permitted_at
        assert took <= world.witness.rollouts[R1].rollout.plan.deadlines_ms[AttemptState.INSTALLING] + 20 * MINUTE_MS
        (case,) = now(world.store.cases(rollout_id=R1, settled=False))
        assert (case.vehicle_id, case.cause) == (stuck.spec.vehicle_id, "timed_out")

    run_scenario(an_incident(vehicles=a_fleet(20)), get_stuck)


@pytest.mark.fault("F10")
def test_region_whose_network_is_down_pauses_and_neither_holds_nor_halts() -> None:
    """Fault 10: thousands of silent vehicles of one operator are no bad release."""
    kinds: list[tuple[str, BrakeKind]] = []

    async def cut(world: World) -> None:
        await world.wait_ms(26 * HOUR_MS)
        apart = {vehicle.spec.vehicle_id for vehicle in world.vehicles if vehicle.spec.region == "us"}
        world.network.apart |= apart
        await world.wait_ms(3 * HOUR_MS)
        kinds.extend((brake.scope, brake.kind) for brake in world.witness.rollouts[R1].rollout.brakes)
        assert world.witness.rollouts[R1].rollout.status is RolloutStatus.RUNNING
        world.network.apart.clear()
        await world.wait_ms(3 * HOUR_MS)
        assert not world.witness.rollouts[R1].rollout.brakes

    slow = PLAN.replace("soak: 1h}, {name: all", "soak: 30h}, {name: all")
    run_scenario(an_incident(plan=slow, vehicles=a_fleet(120)), cut)
    assert kinds == [("us", BrakeKind.PAUSED)]
