"""Gates: what the counters say about a rollout, PROCEED, HOLD or HALT, and how many may be exposed meanwhile.

Owns the rules and their words. Whether a verdict moves a rollout is the matter of `progress`. Source of the rules and
of their simulated error rates: docs/decisions, rule PROCEED / HOLD / HALT.

Judged are each stratum on its own and all together:

- `failures_evalue`, `silence_evalue_<i>` HALT: anytime-valid evidence that the limit is broken. The bound is
  (number of such tests) x (strata) / alpha for a stratum, without the strata for all together.
- `failures_posterior`, `silence_posterior_<i>` HOLD: more likely than `HOLD_ABOVE` that the limit is broken. The priors
  carry the least sample in them: one failure alone does not hold at any number of exposures, and an unknown stratum
  does not hold. So no further minimum is asked for, and `sample_min` is for promotion only.
- `inconsistent_counters` HOLD: what cannot be counted right is not judged well. Nobody can waive it.

Silence at a checkpoint is compared with the reference rate plus the failure limit: what is normal, plus what is
accepted to break.

The blast budget bounds what is not known yet: exposures younger than the first checkpoint, times the worst rate of harm
that the aged ones do not exclude, stay within B.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import floor, log

from orchestrator.engine.evidence import (
    FAILURE_GRID,
    SILENCE_GRID,
    beta_above,
    e_value,
    log_e_value,
    wilson_upper,
)
from orchestrator.engine.wording import duration, percent
from orchestrator.model.fleet import Stratum
from orchestrator.model.plan import GateLimits, Plan
from orchestrator.model.rollout import Verdict, VerdictKind
from orchestrator.model.tally import AgeGroup, CellTallies, Tally, by_stratum, total

HOLD_ABOVE = 0.8
"""Probability of a broken limit that holds."""
HELD_UNTIL = 0.6
"""Probability at which a hold clears: lower, so that it does not flicker."""
AGED_MIN = 20
"""Aged exposures below which nothing is excluded and every young exposure counts as harmed."""
INCONSISTENT = "inconsistent_counters"
NO_RULE = "none"

_PRIOR_WEIGHT = 0.25
_SILENCE_PRIOR_WEIGHT = 100.0
_SEVERITY = (VerdictKind.PROCEED, VerdictKind.HOLD, VerdictKind.HALT)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the gate says about a rollout at one moment."""

    verdicts: tuple[Verdict, ...]
    """All together first (scope None), then each stratum in order."""
    worst: Verdict
    """The one that decides; of equally bad ones the first."""
    permit_ceiling: int
    """Permits that may have been given in all, ever; what is given already, when nothing may be added."""

    @property
    def permit_allowance(self) -> int:
        """Permits that may be given now."""
        return int(self.verdicts[0].inputs["permit_allowance"])


@dataclass(frozen=True, slots=True)
class _Rules:
    """What one scope is judged by."""

    gate: GateLimits
    reference: tuple[float, ...]
    evidence_min: float
    hold_above: float
    waived: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Finding:
    """What one rule found in one scope."""

    rule: str
    kind: VerdictKind
    message: str


def scope_name(scope: Stratum | None) -> str:
    """How a scope is written: `all` or `region/hardware`."""
    return "all" if scope is None else str(scope)


def waiver(verdict: Verdict) -> str:
    """What stands in `Rollout.waived` for a verdict's rule: `rule@scope`."""
    return f"{verdict.rule}@{scope_name(verdict.scope)}"


def judge(
    cells: CellTallies,
    plan: Plan,
    *,
    waived: Sequence[str] = (),
    held: bool = False,
    silence_reference: tuple[float, ...] | None = None,
    strata: int = 0,
) -> Judgement:
    """Judge a rollout by its counters.

    Args:
        cells: Counts by cell.
        plan: The rollout's plan.
        waived: Rules (`rule@scope`) that a person waived. Who waived the strong rule waived the weak one as well.
        held: Whether the rollout is held now: a hold clears later than it begins.
        silence_reference: Share normally silent at each checkpoint; None takes the plan's.
        strata: Strata of the target, if more than the counters show; the more are looked at, the more each must show.

    Returns:
        A verdict for each scope, the worst of them, and the permit ceiling. Never PROCEED on counts that contradict
        themselves.
    """
    reference = plan.gate.silence_reference if silence_reference is None else silence_reference
    tallies = by_stratum(cells)
    everything = total(cells.values())
    tests = 1 + len(plan.gate.checkpoints_ms)
    hold_above = HELD_UNTIL if held else HOLD_ABOVE

    def rules(scopes: int) -> _Rules:
        return _Rules(
            gate=plan.gate,
            reference=reference,
            evidence_min=tests * scopes / plan.gate.alpha,
            hold_above=hold_above,
            waived=frozenset(waived),
        )

    each = rules(max(1, strata, len(tallies)))
    verdicts = [_judge_scope(stratum, tally, each) for stratum, tally in tallies.items()]
    overall = _judge_scope(None, everything, rules(1))
    worst = max((overall, *verdicts), key=lambda verdict: _SEVERITY.index(verdict.kind))
    budget = _budget(everything, plan, reference, open_=worst.kind is VerdictKind.PROCEED)
    overall = _with_inputs(overall, budget)
    verdicts = [overall, *verdicts]
    worst = max(verdicts, key=lambda verdict: _SEVERITY.index(verdict.kind))
    return Judgement(verdicts=tuple(verdicts), worst=worst, permit_ceiling=int(budget["permit_ceiling"]))


def blast_upper(failed: int, aged: AgeGroup, reference: float) -> float:
    """The worst rate of harm that the aged exposures do not exclude, failures and unusual silence together.

    Args:
        failed: Explicit failures among all exposures.
        aged: Exposures that reached the first checkpoint.
        reference: Share normally silent there.

    Returns:
        U, within (0, 2); 1 until AGED_MIN exposures have aged.
    """
    if aged.exposed < AGED_MIN:
        return 1.0
    failures = wilson_upper(min(failed, aged.exposed), aged.exposed)
    return failures + max(0.0, wilson_upper(aged.silent, aged.exposed) - reference)


def permit_allowance(blast_budget: int, upper: float, young: int) -> int:
    """Exposures that may be added while `young` ones have not aged.

    Args:
        blast_budget: B, vehicles that may be hurt at worst.
        upper: U, the worst rate of harm that is not excluded.
        young: Exposures below the first checkpoint.
    """
    return max(0, floor(blast_budget / upper) - young)


def _budget(tally: Tally, plan: Plan, reference: tuple[float, ...], *, open_: bool) -> dict[str, float]:
    exposed = max(0, tally.exposed)
    aged = tally.age_groups[0] if tally.age_groups else AgeGroup()
    # Only counts that add up reach the formula: otherwise nothing is open, and nothing is added.
    upper = blast_upper(tally.failed, aged, reference[0]) if open_ and reference else 1.0
    young = exposed - aged.exposed
    allowance = permit_allowance(plan.limits.blast_budget, upper, young) if open_ else 0
    return {
        "blast_budget": plan.limits.blast_budget,
        "blast_upper": upper,
        "young": young,
        "permit_allowance": allowance,
        "permit_ceiling": exposed + allowance,
    }


def _with_inputs(verdict: Verdict, more: dict[str, float]) -> Verdict:
    return Verdict(verdict.kind, verdict.rule, verdict.scope, verdict.message, {**verdict.inputs, **more})


def _judge_scope(scope: Stratum | None, tally: Tally, rules: _Rules) -> Verdict:
    groups = _groups(tally, rules.gate)
    inputs = _counted(tally, groups, rules)
    fault = _contradiction(tally, groups, rules)
    if fault:
        message = f"{scope_name(scope)}: counters contradict themselves: {fault}"
        return Verdict(VerdictKind.HOLD, INCONSISTENT, scope, message, inputs)
    findings = [*_failures(tally, rules, inputs), *_silence(groups, rules, inputs)]
    judged = [finding for finding in findings if not _is_waived(finding.rule, scope, rules.waived)]
    broken = [finding for finding in judged if finding.kind is not VerdictKind.PROCEED]
    if broken:
        worst = max(broken, key=lambda finding: _SEVERITY.index(finding.kind))
        return Verdict(worst.kind, worst.rule, scope, f"{scope_name(scope)}: {worst.message}", inputs)
    message = f"{scope_name(scope)}: {_summary(tally, groups, rules)}"
    overruled = [finding.rule for finding in findings if finding.kind is not VerdictKind.PROCEED]
    if overruled:
        message += f"; waived: {', '.join(overruled)}"
    return Verdict(VerdictKind.PROCEED, NO_RULE, scope, message, inputs)


def _is_waived(rule: str, scope: Stratum | None, waived: frozenset[str]) -> bool:
    name = scope_name(scope)
    return f"{rule}@{name}" in waived or f"{rule.replace('_posterior', '_evalue')}@{name}" in waived


def _groups(tally: Tally, gate: GateLimits) -> tuple[AgeGroup, ...]:
    """Age groups of every checkpoint; what was not counted yet is empty."""
    missing = len(gate.checkpoints_ms) - len(tally.age_groups)
    return tally.age_groups + (AgeGroup(),) * missing


def _counted(tally: Tally, groups: Sequence[AgeGroup], rules: _Rules) -> dict[str, float]:
    inputs: dict[str, float] = {
        "n": tally.exposed,
        "k": tally.failed,
        "s": tally.succeeded,
        "failure_ratio_max": rules.gate.failure_ratio_max,
        "alpha": rules.gate.alpha,
        "evidence_min": rules.evidence_min,
        "hold_above": rules.hold_above,
    }
    for index, group in enumerate(groups):
        inputs[f"n_a{index}"] = group.exposed
        inputs[f"k_a{index}"] = group.silent
    for index, reference in enumerate(rules.reference):
        inputs[f"q_a{index}"] = reference
    for index, age_ms in enumerate(rules.gate.checkpoints_ms):
        inputs[f"age_ms_{index}"] = age_ms
    return inputs


def _contradiction(tally: Tally, groups: Sequence[AgeGroup], rules: _Rules) -> str:
    """What cannot be true of the counts; empty when they may be."""
    for states in (tally.before_permit, tally.after_permit):
        for state, count in states.items():
            if count < 0:
                return f"{state} ({count}) < 0"
    checkpoints = len(rules.gate.checkpoints_ms)
    if len(groups) != checkpoints:
        return f"age groups ({len(groups)}) != checkpoints ({checkpoints})"
    if len(rules.reference) != checkpoints:
        return f"silence references ({len(rules.reference)}) != checkpoints ({checkpoints})"
    older = tally.exposed
    for index, group in enumerate(groups):
        if not 0 <= group.exposed <= older:
            return f"exposures at checkpoint {index} ({group.exposed}) not within 0 and those before it ({older})"
        if not 0 <= group.silent <= group.exposed:
            return f"silent at checkpoint {index} ({group.silent}) not within 0 and its exposures ({group.exposed})"
        older = group.exposed
    return ""


def _failures(tally: Tally, rules: _Rules, inputs: dict[str, float]) -> Iterator[_Finding]:
    limit = rules.gate.failure_ratio_max
    failed, exposed = tally.failed, tally.exposed
    inputs["failures_log_e"] = evidence = log_e_value(failed, exposed, limit, FAILURE_GRID)
    inputs["failures_posterior"] = likely = beta_above(
        limit, _PRIOR_WEIGHT + failed, _PRIOR_WEIGHT * (2.0 / limit - 1.0) + tally.succeeded
    )
    counts = f"{failed} of {exposed} exposed failed, limit {percent(limit)}"
    yield from _weigh("failures", counts, evidence, likely, rules)


def _silence(groups: Sequence[AgeGroup], rules: _Rules, inputs: dict[str, float]) -> Iterator[_Finding]:
    for index, (group, reference) in enumerate(zip(groups, rules.reference, strict=True)):
        limit = reference + rules.gate.failure_ratio_max
        silent, aged = group.silent, group.exposed
        inputs[f"silence_log_e_{index}"] = evidence = log_e_value(silent, aged, limit, SILENCE_GRID)
        weight = _SILENCE_PRIOR_WEIGHT
        inputs[f"silence_posterior_{index}"] = likely = beta_above(
            limit, weight * reference + silent, weight * (1.0 - reference) + aged - silent
        )
        age = duration(rules.gate.checkpoints_ms[index])
        counts = (
            f"{silent} of {aged} exposed were silent after {age}, "
            f"expected {reference * aged:.1f} ({percent(reference)}), limit {percent(limit)}"
        )
        yield from _weigh(f"silence:{index}", counts, evidence, likely, rules)


def _weigh(quantity: str, counts: str, evidence: float, likely: float, rules: _Rules) -> Iterator[_Finding]:
    """The strong rule, then the weak one, about one quantity."""
    name, _, index = quantity.partition(":")
    suffix = f"_{index}" if index else ""
    times = e_value(evidence)
    yield _Finding(
        rule=f"{name}_evalue{suffix}",
        kind=VerdictKind.HALT if evidence >= log(rules.evidence_min) else VerdictKind.PROCEED,
        message=f"{counts}: evidence of a broken limit {times:.3g}, halt from {rules.evidence_min:.3g}",
    )
    yield _Finding(
        rule=f"{name}_posterior{suffix}",
        kind=VerdictKind.HOLD if likely > rules.hold_above else VerdictKind.PROCEED,
        message=f"{counts}: broken with probability {percent(likely)}, hold above {percent(rules.hold_above)}",
    )


def _summary(tally: Tally, groups: Sequence[AgeGroup], rules: _Rules) -> str:
    parts = [f"{tally.failed} of {tally.exposed} exposed failed, limit {percent(rules.gate.failure_ratio_max)}"]
    for group, age_ms, reference in zip(groups, rules.gate.checkpoints_ms, rules.reference, strict=True):
        expected = reference * group.exposed
        parts.append(f"silent after {duration(age_ms)}: {group.silent} of {group.exposed}, expected {expected:.1f}")
    return "; ".join(parts)
