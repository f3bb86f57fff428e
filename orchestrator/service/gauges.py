"""Sets the gauges of the fleet and its rollouts, once an evaluator tick, from the same counters that the gate reads.

What comes from the inventory is folded: a fleet with a thousand regions or releases must not fill Prometheus.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import log

from orchestrator.engine.gates import Judgement, scope_name
from orchestrator.engine.gates.unpaired import UNPAIRED
from orchestrator.engine.strata import apart, by_part
from orchestrator.model.attempt import AttemptState
from orchestrator.model.fleet import OTHER as TOGETHER
from orchestrator.model.fleet import Cell, Profile, Stratum
from orchestrator.model.ids import FleetTime, RolloutId
from orchestrator.model.plan import GateLimits, Plan
from orchestrator.model.rollout import (
    BrakeKind,
    RegionPhase,
    RegionProgress,
    Rollout,
    RolloutStatus,
    SignalKind,
    VerdictKind,
)
from orchestrator.model.tally import CellTallies, Tally, total
from orchestrator.telemetry import OTHER, Metrics

STATUSES = [status.value for status in RolloutStatus]
VERDICTS = [kind.value for kind in VerdictKind]
REGIONS_MAX = 50
"""Regions that are shown apart; the smaller ones are shown together."""
VERSIONS_MAX = 20
"""The same of installed releases."""
NO_RELEASE = "unproven"
"""Shown for vehicles whose manifest proves no release, or that sent none."""


def show_fleet(
    metrics: Metrics,
    *,
    profiles: Mapping[Profile, int],
    open_cases: Mapping[RolloutId, int],
    rollouts: Sequence[Rollout],
) -> None:
    """What concerns the whole fleet."""
    metrics.vehicles_registered.set(sum(profiles.values()))
    metrics.show_vehicles(by_region_and_release(profiles))
    for rollout in rollouts:
        metrics.cases_open.labels(rollout=rollout.rollout_id).set(open_cases.get(rollout.rollout_id, 0))


def by_region_and_release(profiles: Mapping[Profile, int]) -> Mapping[tuple[str, str], int]:
    """Vehicles by region and installed release; beyond the most frequent ones under `other`."""
    regions: Counter[str] = Counter()
    releases: Counter[str] = Counter()
    for profile, count in profiles.items():
        regions[profile.region] += count
        releases[profile.installed] += count
    shown_regions = {name for name, _ in regions.most_common(REGIONS_MAX)}
    shown_releases = {name for name, _ in releases.most_common(VERSIONS_MAX)}
    counts: Counter[tuple[str, str]] = Counter()
    for profile, count in profiles.items():
        region = profile.region if profile.region in shown_regions else OTHER
        release = profile.installed if profile.installed in shown_releases else OTHER
        counts[region, release or NO_RELEASE] += count
    return counts


def show_rollout(
    metrics: Metrics, rollout: Rollout, cells: CellTallies, *, judgement: Judgement, waiting: Mapping[Cell, int]
) -> None:
    """What concerns one rollout.

    Args:
        metrics: set.
        rollout: as it was judged.
        cells: its counters.
        judgement: what the gate said.
        waiting: vehicles that the plan is for and that do not run its release, by cell.
    """
    name = rollout.rollout_id
    verdict = judgement.worst.kind.value
    metrics.show_status(name, status=rollout.status.value, statuses=STATUSES, verdict=verdict, verdicts=VERDICTS)
    metrics.rollout_epoch.labels(rollout=name).set(rollout.epoch)
    metrics.rollout_changed.labels(rollout=name).set(rollout.updated_at / 1000)
    metrics.rollout_waves.labels(rollout=name).set(len(rollout.plan.waves))
    everything = total(cells.values())
    show_gate(metrics, rollout, judgement, everything)
    show_stops(metrics, rollout)
    show_ages(metrics, rollout, judgement.terms.now)
    show_losses(metrics, name, judgement, everything)
    show_habits(metrics, rollout, everything)
    said = {scope_name(verdict.scope): verdict.inputs for verdict in judgement.verdicts}
    for part, tally in by_part(cells, apart(rollout, cells, waiting)).items():
        # The only stratum of a rollout is judged with the whole.
        usual = said.get(str(part), said["all"])
        shown = Stratum(OTHER, OTHER) if part == TOGETHER else part
        show_stratum(metrics, name, shown, tally, rollout.plan.gate, usual)
    for region, progress in rollout.regions.items():
        tallies = [tally for cell, tally in cells.items() if cell.region == region]
        here = sum(count for cell, count in waiting.items() if cell.region == region)
        show_region(metrics, rollout, region, progress, total(tallies), here)


def show_gate(metrics: Metrics, rollout: Rollout, judgement: Judgement, everything: Tally) -> None:
    """What the gate weighed: of each quantity the scope that is worst."""
    name, gate, limits = rollout.rollout_id, rollout.plan.gate, rollout.plan.limits
    inputs = judgement.verdicts[0].inputs
    for told_by, bound in (("word", "hold_above"), ("silence", "silence_hold_above")):
        metrics.gate_hold_above.labels(rollout=name, told_by=told_by).set(inputs.get(bound, 0.0))
    metrics.failure_limit.labels(rollout=name).set(gate.failure_ratio_max)
    metrics.permit_allowance.labels(rollout=name).set(max(0, judgement.permit_ceiling - everything.exposed))
    metrics.young_exposures.labels(rollout=name).set(inputs.get("young", 0.0))
    metrics.blast_budget.labels(rollout=name).set(limits.blast_budget)
    for quantity, evidence, probability in quantities(gate):
        # A scope whose counters contradict themselves was not weighed.
        said, where = [verdict.inputs for verdict in judgement.verdicts], {"rollout": name, "quantity": quantity}
        if evidence:
            shares = [each[evidence] / log(each["evidence_min"]) for each in said if evidence in each]
            metrics.gate_evidence.labels(**where).set(max(0.0, *shares, 0.0))
        if probability:
            likely = (each[probability] for each in said if probability in each)
            metrics.gate_probability.labels(**where).set(max(likely, default=0.0))


def quantities(gate: GateLimits) -> Iterator[tuple[str, str, str]]:
    """What is weighed, for a label, and the inputs with its evidence and its probability; of all together there is
    evidence alone, and that is what halts; of silence that is not compared a probability alone.
    """
    yield "together", "log_e", ""
    places = {"failures": ("failures", ""), "losses": ("losses", ""), "losses_silence": ("losses_silence", "")}
    for index, age_ms in enumerate(gate.checkpoints_ms):
        places[f"silence_{age(age_ms)}"] = ("silence", f"_{index}")
    for habit, ages_ms in gate.habit_ages_ms.items():
        for index, age_ms in enumerate(ages_ms):
            places[f"silence_{habit}_{age(age_ms)}"] = ("silence", f"_{habit}_{index}")
    for quantity, (rule, suffix) in places.items():
        yield quantity, f"{rule}_log_e{suffix}", f"{rule}_posterior{suffix}"
        if rule == "silence":
            yield quantity.replace(rule, UNPAIRED, 1), "", f"{UNPAIRED}_posterior{suffix}"


def show_stops(metrics: Metrics, rollout: Rollout) -> None:
    """What stands still beside the rollout itself, and what is said of it from outside."""
    name = rollout.rollout_id
    metrics.hold_final.labels(rollout=name).set(rollout.hold_final + sum(each.final for each in rollout.brakes))
    for kind in BrakeKind:
        metrics.brakes.labels(rollout=name, kind=kind.value).set(sum(each.kind is kind for each in rollout.brakes))
    beyond = [each.kind for each in rollout.signals if each.kind is SignalKind.SAFETY or each.value > each.limit]
    for signal in SignalKind:
        metrics.signals.labels(rollout=name, kind=signal.value).set(beyond.count(signal))


def show_ages(metrics: Metrics, rollout: Rollout, now: FleetTime) -> None:
    """How old each measurement from outside is: at 1 it is overdue. Those that were taken back are forgotten."""
    metrics.signal_age.drop(rollout=rollout.rollout_id)
    for each in rollout.signals:
        if each.good_for_ms:
            age_ratio = (now - each.measured_at) / each.good_for_ms
            where = {"rollout": rollout.rollout_id, "signal": each.name, "scope": each.scope}
            # Also one from before the clock went back, whose age says nothing.
            metrics.signal_age.labels(**where).set(max(1.0, age_ratio) if each.overdue(now) else age_ratio)


def show_losses(metrics: Metrics, name: RolloutId, judgement: Judgement, everything: Tally) -> None:
    """What was lost before a permit, and how much may be at risk there."""
    metrics.grants_aged.labels(rollout=name).set(everything.grants.exposed)
    metrics.grants_silent.labels(rollout=name).set(everything.grants.silent)
    metrics.at_risk.labels(rollout=name).set(everything.at_risk_before_permit)
    metrics.grant_ceiling.labels(rollout=name).set(judgement.grant_ceiling)


def show_habits(metrics: Metrics, rollout: Rollout, everything: Tally) -> None:
    """Silence of frequent callers at their earlier ages, over all strata: by stratum it would cost too many series."""
    for place, group in everything.habit_groups.items():
        if place.age_ms in rollout.plan.gate.checkpoints_ms:
            continue
        where = {"rollout": rollout.rollout_id, "habit": place.habit.value, "checkpoint": age(place.age_ms)}
        metrics.habit_silence.labels(**where, group="exposed").set(group.exposed)
        metrics.habit_silence.labels(**where, group="silent").set(group.silent)
        metrics.habit_silence.labels(**where, group="controls").set(group.controls)
        metrics.habit_silence.labels(**where, group="controls_silent").set(group.controls_silent)


def show_region(
    metrics: Metrics, rollout: Rollout, region: str, progress: RegionProgress, tally: Tally, waiting: int
) -> None:
    """Where one region of one rollout stands."""
    where = {"rollout": rollout.rollout_id, "region": region}
    for phase in RegionPhase:
        metrics.region_phase.labels(**where, phase=phase.value).set(phase is progress.phase)
    metrics.region_wave.labels(**where).set(progress.wave + 1)
    metrics.wave_started.labels(**where).set(progress.wave_started_at / 1000)
    metrics.wave_least.labels(**where).set(wave_least_ms(rollout.plan, progress.wave) / 1000)
    metrics.in_flight.labels(**where).set(tally.in_flight)
    metrics.in_flight_limit.labels(**where).set(
        rollout.plan.regions.get(region, rollout.plan.region_defaults).in_flight_max
    )
    metrics.vehicles_waiting.labels(**where).set(waiting)
    metrics.region_dark.labels(**where).set(progress.dark_since is not None)


def wave_least_ms(plan: Plan, wave: int) -> int:
    """Least time that a wave takes: its soak, or until what it exposed first has reached the first checkpoint."""
    return max(plan.waves[wave].soak_ms, *plan.gate.checkpoints_ms[:1], 0)


def show_stratum(
    metrics: Metrics, name: RolloutId, stratum: Stratum, tally: Tally, gate: GateLimits, inputs: Mapping[str, float]
) -> None:
    """Counts of one stratum of one rollout; what is usual there by the gate's own inputs, which know its controls."""
    where = {"rollout": name, "region": stratum.region, "hardware": stratum.hardware}
    for state in AttemptState:
        metrics.attempts.labels(**where, state=state.value).set(tally.state(state))
    metrics.exposures.labels(**where).set(tally.exposed)
    metrics.lost.labels(**where).set(tally.failed_before_permit)
    checkpoints = zip(gate.checkpoints_ms, gate.silence_reference, tally.age_groups, strict=False)
    for index, (age_ms, reference, group) in enumerate(checkpoints):
        at = {**where, "checkpoint": age(age_ms)}
        metrics.aged.labels(**at).set(group.exposed)
        metrics.silent.labels(**at).set(group.silent)
        metrics.silence_expected.labels(**at).set(inputs.get(f"q_a{index}", reference) * group.exposed)
        metrics.controls.labels(**at).set(group.controls)
        metrics.controls_silent.labels(**at).set(group.controls_silent)


def show_tick(metrics: Metrics, *, fleet_now: FleetTime, carried: Mapping[str, int]) -> None:
    """What the tick itself did: fleet time and ledger entries by kind."""
    metrics.fleet_time.set(fleet_now / 1000)
    for kind, count in carried.items():
        metrics.ledger_entries.labels(kind=kind).inc(count)


def age(milliseconds: int) -> str:
    """A checkpoint as a label: `24h`, `90m`, `45s`."""
    for unit, length in (("h", 3_600_000), ("m", 60_000)):
        if milliseconds % length == 0:
            return f"{milliseconds // length}{unit}"
    return f"{milliseconds // 1000}s"
