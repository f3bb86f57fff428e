"""Sets the gauges of the fleet and its rollouts, once an evaluator tick, from the same counters that the gate reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.model.attempt import AttemptState
from orchestrator.model.fleet import Stratum
from orchestrator.model.ids import FleetTime, RolloutId
from orchestrator.model.rollout import Rollout, RolloutStatus, Verdict, VerdictKind
from orchestrator.model.tally import CellTallies, Tally, by_stratum, total
from orchestrator.telemetry import Metrics

STATUSES = [status.value for status in RolloutStatus]
VERDICTS = [kind.value for kind in VerdictKind]


def show_fleet(
    metrics: Metrics, *, registered: int, open_cases: Mapping[RolloutId, int], rollouts: Sequence[Rollout]
) -> None:
    """What concerns the whole fleet."""
    metrics.vehicles_registered.set(registered)
    for rollout in rollouts:
        metrics.cases_open.labels(rollout=rollout.rollout_id).set(open_cases.get(rollout.rollout_id, 0))


def show_rollout(
    metrics: Metrics, rollout: Rollout, cells: CellTallies, *, verdict: Verdict, permit_ceiling: int
) -> None:
    """What concerns one rollout."""
    name = rollout.rollout_id
    metrics.show_status(
        name, status=rollout.status.value, statuses=STATUSES, verdict=verdict.kind.value, verdicts=VERDICTS
    )
    metrics.rollout_epoch.labels(rollout=name).set(rollout.epoch)
    allowance = max(0, permit_ceiling - total(cells.values()).exposed)
    metrics.permit_allowance.labels(rollout=name).set(allowance)
    for stratum, tally in by_stratum(cells).items():
        show_stratum(metrics, name, stratum, tally, rollout.plan.gate.checkpoints_ms)


def show_stratum(
    metrics: Metrics, name: RolloutId, stratum: Stratum, tally: Tally, checkpoints_ms: Sequence[int]
) -> None:
    """Counts of one stratum of one rollout."""
    where = {"rollout": name, "region": stratum.region, "hardware": stratum.hardware}
    for state in AttemptState:
        metrics.attempts.labels(**where, state=state.value).set(tally.state(state))
    metrics.exposures.labels(**where).set(tally.exposed)
    for age_ms, group in zip(checkpoints_ms, tally.age_groups, strict=False):
        metrics.aged.labels(**where, checkpoint=age(age_ms)).set(group.exposed)
        metrics.silent.labels(**where, checkpoint=age(age_ms)).set(group.silent)


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
