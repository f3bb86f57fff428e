"""What a seed draws: a fleet, its faults, plans, and how hostile the world is. Values only; nothing here happens.

Hazards are drawn apart, each on or off: a run with everything at once hides what two of them do to each other. Every
eighth seed is calm, with a good release: then the rollout has to reach everybody by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from agent_sim.connectivity import Connectivity, LinkModel
from agent_sim.ecu import Ecu, InstalledImage
from agent_sim.faults import Fault, FaultKind
from agent_sim.owner import Manner, Owner
from agent_sim.vehicle import EcuSpec, VehicleSpec
from tests.builders import HOUR_MS, MINUTE_MS

FACTORY = "1.0.0"
RELEASES = ("1.1.0", "1.2.0")
HARDWARE_IDS = ("acme-gw-2", "acme-bcm-2")
CALM_EVERY = 8
IMAGE_BYTES = 1000
VEHICLE_BYTES = IMAGE_BYTES * len(HARDWARE_IDS)
"""What a release is for one vehicle: each has all its control units."""
DEADLINES = (
    "deadlines: {offered: 40m, downloading: 1h, downloaded: 1h, permitted: 20m, installing: 40m, rebooting: 40m, "
    "verifying: 40m, deferred: 1h}\n"
)


@dataclass(frozen=True, slots=True)
class Hazards:
    """How hostile the world is: chances, and seconds of machine time."""

    pause: float = 0.02
    """Of a store operation, to take a while."""
    fail: float = 0.0
    """Of a store operation, to be done or not and to say neither."""
    worker_dies: float = 0.0
    evaluator_dies: float = 0.0
    stall: float = 0.0
    """Of an operation, that its whole process stands still for about a minute."""
    stale_s: float = 0.5
    """Age at which a worker's snapshot is read anew; each worker's own share of it."""
    second_evaluator: bool = False
    store_away_every_s: float = 0.0
    """How often nobody reaches the store for a while; 0: never."""
    cut_off_every_s: float = 0.0
    """How often one worker does not; 0: never."""
    ledger_away_every_s: float = 0.0
    clock_steps_every_s: float = 0.0
    """How often the store's date is set, by up to ten minutes either way; 0: never."""
    skew_ms: int = 0
    """How far vehicles' clocks are off, at most."""
    dates_off_ms: int = 0
    """How far the dates of our machines are off, at most."""
    lost: float = 0.0
    """Of a message, each way."""
    doubled: float = 0.0
    slow: float = 0.0
    """Of a message, to take up to minutes."""
    late: float = 0.0
    """Of a message, to come up to 30 days late."""
    partition_every_s: float = 0.0
    """How often a part of the fleet reaches nobody; 0: never."""
    power_loss: float = 0.0
    """Of a vehicle, between making its state durable and sending."""
    memory_loss: float = 0.0
    """Of a vehicle that lost power, to forget everything but its software."""
    operators: bool = False
    """Whether people pause, resume, abort and approve."""
    brakes: bool = False
    """Whether people pause and resume single regions and strata."""
    signals: bool = False
    """Whether somebody outside posts signals and takes them back."""
    care: bool = False
    """Whether people move, remove, bring back and quarantine vehicles."""


CALM = Hazards()


@dataclass(frozen=True, slots=True)
class Launch:
    """How one rollout begins."""

    plan: str
    after_ms: int = 0
    """Fleet time after the run's own begin."""
    draft: bool = False
    """Whether it is written down first, and started by a person some minutes later."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run."""

    seed: int
    scale: float
    tick_s: float
    vehicles: tuple[VehicleSpec, ...]
    faults: tuple[Fault, ...]
    launches: tuple[Launch, ...]
    """Rollouts `r1`, `r2`, ... in the order in which they begin."""
    hazards: Hazards
    stormy_ms: int
    """Fleet time that the hazards last."""
    good: bool = field(default=False)
    """Whether nothing goes wrong: then everybody must have the release in the end."""


def draw_scenario(seed: int) -> Scenario:
    """What one seed is."""
    rng = Random(f"scenario {seed}")
    good = seed % CALM_EVERY == 0
    regions = ("eu", "us", "cn")[: rng.choice((1, 1, 2, 3))]
    hardware = ("gen1", "gen2")[: rng.choice((1, 2))]
    vehicles = tuple(
        _vehicle(rng, number, rng.choice(regions), rng.choice(hardware), good=good)
        for number in range(rng.randint(20, 60) if rng.random() < 0.12 else rng.randint(20, 26))
    )
    coins = Random(f"coins {seed}")
    plan = _plan(rng, RELEASES[0], regions, good=good, controls=_controls(coins, good=good))
    first = f"{plan}priority: {rng.choice((0, 3))}\n"
    launches = [Launch(first, draft=rng.random() < 0.3)]
    if not good and rng.random() < 0.6:
        launches.append(_second(rng, regions, _controls(coins, good=False)))
    return Scenario(
        seed=seed,
        scale=rng.choice((120.0, 300.0)),
        tick_s=rng.choice((1.0, 2.0, 3.0, 4.0)),
        vehicles=vehicles,
        faults=() if good else tuple(_faults(rng, hardware, regions)),
        launches=tuple(launches if good else _out_of_reach(Random(f"out of reach {seed}"), launches)),
        hazards=CALM if good else _hazards(rng),
        stormy_ms=rng.randint(4, 9) * HOUR_MS // 2,
        good=good,
    )


def _vehicle(rng: Random, number: int, region: str, hardware: str, *, good: bool) -> VehicleSpec:
    name = f"v-{number}"
    connectivity = Connectivity()
    if rng.random() < 0.5:
        period = rng.choice((1, 2, 4)) * HOUR_MS
        share = rng.uniform(0.5, 0.9)
        connectivity = Connectivity(
            rng.choice((LinkModel.TUNNEL, LinkModel.GARAGE, LinkModel.GARAGE)),
            period,
            round(period * share),
            rng.randrange(period),
            metered=rng.random() < 0.3,
        )
    manner = (
        Manner.AGREE
        if good
        else rng.choice((Manner.AGREE, Manner.AGREE, Manner.POSTPONE, Manner.DECLINE, Manner.IGNORE))
    )
    return VehicleSpec(
        vehicle_id=name,
        model="S",
        hardware=hardware,
        region=region,
        cohort=rng.choice(("internal", "canary", "general", "general")),
        tags=(),
        ecus=tuple(
            EcuSpec(f"{name}-{hardware_id}", hardware_id, primary=hardware_id == HARDWARE_IDS[0])
            for hardware_id in HARDWARE_IDS
        ),
        connectivity=connectivity,
        owner=Owner(manner, after_ms=5 * MINUTE_MS, again_after_ms=20 * MINUTE_MS),
    )


def factory_ecus(spec: VehicleSpec) -> tuple[Ecu, ...]:
    """What a vehicle runs before any release."""
    return tuple(
        Ecu(
            unit.serial,
            unit.hardware_id,
            unit.primary,
            (InstalledImage(f"{unit.hardware_id}-{FACTORY}.img", 1000, "00" * 32, 1), None),
        )
        for unit in spec.ecus
    )


def _faults(rng: Random, hardware: tuple[str, ...], regions: tuple[str, ...]) -> list[Fault]:
    """Bad releases: often of one variant or region only."""
    bad = (FaultKind.FAIL, FaultKind.BOOT_FAILURE, FaultKind.SILENT_BRICK)
    usual = (FaultKind.POWER_LOSS, FaultKind.OFFLINE, FaultKind.LINK_BREAK, FaultKind.LOST_METADATA)
    found = [
        Fault(
            kind,
            probability=rng.choice((0.02, 0.1, 0.5, 1.0)),
            releases=(rng.choice(RELEASES),),
            hardware=rng.choice(((), (rng.choice(hardware),))),
            regions=rng.choice(((), (rng.choice(regions),))),
        )
        for kind in bad
        if rng.random() < 0.25
    ]
    found += [
        Fault(kind, probability=rng.choice((0.05, 0.3)), duration_ms=20 * MINUTE_MS)
        for kind in usual
        if rng.random() < 0.4
    ]
    return found


def _controls(coins: Random, *, good: bool) -> str:
    """How many wait by a coin beside each exposure; a source of its own, so that a seed is otherwise what it was. In a
    calm run the odds are even: against worse ones somebody may lose until the patience with the last wave ends.
    """
    return coins.choice(("none", "none", "1", "1" if good else "3"))


def _plan(rng: Random, release: str, regions: tuple[str, ...], *, good: bool, controls: str) -> str:
    """A plan file; in a calm run one that nobody has to help along, however little it lets through."""
    waves = rng.choice(
        (
            "[{name: all, soak: 5m}]",
            "[{name: canary, cohorts: [internal, canary], soak: 10m}, {name: rest, soak: 5m}]",
            "[{name: some, share: 30%, soak: 10m}, {name: most, share: 80%, soak: 5m}, {name: all, soak: 5m}]",
        )
    )
    lines = [
        f"release: {release}",
        f"waves: {waves}",
        f"holdout: {rng.choice(('0%', '0%', '10%'))}",
        f"gate: {{failure_ratio: {rng.choice(('1%', '10%', '35%'))}, sample: {rng.choice((1, 3, 8))}, "
        f"controls: {controls}, checkpoints: {'[15m, 40m]' if controls == 'none' else '[60m, 100m]'}, "
        f"silence_reference: [{rng.choice(('5%, 4.3%', '20%, 15%', '50%, 40%'))}]}}",
        f"limits: {{in_flight: {rng.choice((3, 8, 30))}, starts_per_minute: {rng.choice((1, 3, 20))}, "
        f"blast_budget: {rng.choice((2, 6, 20))}, attempts: {50 if good else 3}, "
        f"retry_backoff: {rng.choice(('1m', '10m'))}, permit_valid: {rng.choice(('5m', '15m'))}, "
        f"patience: {'12h' if good else '3h'}}}",
    ]
    if rng.random() < 0.5:
        rules = [f"{regions[0]}: {{in_flight: {rng.choice((2, 20))}{_bandwidth(rng)}}}"]
        rules += [f"{region}: {'{}' if rng.random() < 0.5 else f'{{follow: {regions[0]}}}'}" for region in regions[1:]]
        lines.append(f"regions: {{{', '.join(rules)}}}")
    if not good and rng.random() < 0.3:
        lines.append(f"consent: {rng.choice(('notice', 'required'))}")
    if not good and rng.random() < 0.5:
        lines.append(
            f"conditions: {{parked: {rng.choice(('true', 'true', 'false'))}, battery: {rng.choice((40, 80))}%}}"
        )
    if not good and rng.random() < 0.15:
        lines.append('windows: [{from: "00:30", to: "03:00"}, {from: "03:30", to: "23:00"}]')
    return "\n".join(lines) + "\n" + DEADLINES


def _bandwidth(rng: Random) -> str:
    """A budget through which the images of a vehicle take from seconds to minutes, if any."""
    return f", bandwidth: {VEHICLE_BYTES // rng.choice((20, 90, 400))}B/s" if rng.random() < 0.8 else ""


def _second(rng: Random, regions: tuple[str, ...], controls: str) -> Launch:
    """A newer release: it takes the first one's place in the middle of it, or wants the same vehicles beside it."""
    plan = _plan(rng, RELEASES[1], regions, good=False, controls=controls)
    if rng.random() < 0.5:
        return Launch(f"{plan}supersedes: r1\n", after_ms=rng.randint(10, 90) * MINUTE_MS, draft=rng.random() < 0.3)
    return Launch(
        f"{plan}priority: {rng.choice((1, 5))}\n", after_ms=rng.randint(0, 30) * MINUTE_MS, draft=rng.random() < 0.3
    )


def _out_of_reach(rng: Random, launches: Sequence[Launch]) -> Iterator[Launch]:
    """Some plans with offline permits, and with something that is missing on the way and comes later.

    A draw of its own: whatever else a seed is, it is without.
    """
    for launch in launches:
        plan = launch.plan
        if rng.random() < 0.35:
            plan += f"offline_permit: {rng.choice(('15m', '1h', '4h'))}\n"
            plan += "" if "conditions:" in plan else f"conditions: {{battery: {rng.choice(('60%', '80%'))}}}\n"
        yield replace(launch, plan=plan)


def _hazards(rng: Random) -> Hazards:
    """Each hazard on or off by itself; harsher than life."""

    def some(*values: float, chance: float = 0.45) -> float:
        return rng.choice(values) if rng.random() < chance else 0.0

    return Hazards(
        pause=rng.choice((0.02, 0.2, 0.6)),
        fail=some(0.005, 0.03),
        worker_dies=some(0.002, 0.02),
        evaluator_dies=some(0.002, 0.02),
        stall=some(0.0005, 0.002, chance=0.35),
        stale_s=rng.choice((0.5, 0.5, 5.0, 60.0)),
        second_evaluator=rng.random() < 0.25,
        store_away_every_s=some(60.0, 300.0, chance=0.3),
        cut_off_every_s=some(60.0, chance=0.3),
        ledger_away_every_s=some(60.0, chance=0.2),
        clock_steps_every_s=some(100.0, chance=0.15),
        skew_ms=rng.choice((0, 0, 10 * MINUTE_MS)),
        dates_off_ms=rng.choice((0, 10 * MINUTE_MS)),
        lost=some(0.05, 0.3),
        doubled=some(0.1, 0.4),
        slow=some(0.1, 0.3),
        late=some(0.02),
        partition_every_s=some(60.0, chance=0.3),
        power_loss=some(0.01, 0.05),
        memory_loss=some(0.5, chance=0.2),
        operators=rng.random() < 0.4,
        brakes=rng.random() < 0.35,
        signals=rng.random() < 0.35,
        care=rng.random() < 0.35,
    )
