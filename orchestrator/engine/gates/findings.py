"""Findings of one scope: what its weighed quantities mean together, and every number and word behind that.

Owns how evidence of several quantities is put together. What is weighed, and how, is the matter of `gates.rules`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, fsum, inf, log

from orchestrator.engine.gates.evidence import e_value
from orchestrator.engine.gates.habits import Told
from orchestrator.engine.gates.terms import Finding, Scope, is_waived
from orchestrator.engine.wording import duration, percent
from orchestrator.model.fleet import Habit, HabitAge
from orchestrator.model.plan import GateLimits
from orchestrator.model.rollout import VerdictKind
from orchestrator.model.tally import AgeGroup, Tally


@dataclass(frozen=True, slots=True)
class Weighed:
    """One quantity, weighed."""

    name: str
    suffix: str
    """Of its rules, where there are several of a name: `_0` or `_often_0`."""
    what: str
    """What the hits did, for people: `exposed failed`."""
    hits: int
    trials: int
    log_e: float
    """Logarithm of its evidence times its share of the accepted error; -inf when it is none."""
    likely: float
    """Probability that its limit is broken."""
    limit: float
    """Rate of hits that is accepted; of silence, what is normal and the plan's limit."""
    usual: float | None = None
    """Rate of hits that is normal; None when none is."""

    @property
    def strong(self) -> str:
        """Name of the rule that halts."""
        return f"{self.name}_evalue{self.suffix}"

    @property
    def weak(self) -> str:
        """Name of the rule that holds."""
        return f"{self.name}_posterior{self.suffix}"

    def hold_above(self, scope: Scope) -> float:
        """Probability from which it holds in a scope; only of silence something is normal."""
        return scope.hold_above if self.usual is None else scope.silence_hold_above

    @property
    def counts(self) -> str:
        """What was counted and what it is held against, for people."""
        counts = f"{self.hits} of {self.trials} {self.what}, "
        if self.usual is not None:
            counts += f"expected {self.usual * self.trials:.1f} ({percent(self.usual)}), "
        return f"{counts}limit {percent(self.limit)}"


def findings(weighed: Sequence[Weighed], scope: Scope) -> Iterator[Finding]:
    """What was found and is not waived, unless it says PROCEED: all evidence together, and each probability."""
    judged = [each for each in weighed if not is_waived(each.strong, None, scope)]
    together = summed(judged)
    if judged and not together < log(scope.evidence_min):
        first = max(judged, key=lambda each: each.log_e)
        message = f"{first.counts}: evidence of a broken limit {e_value(together):.3g}, "
        yield Finding(first.strong, VerdictKind.HALT, f"{message}halt from {scope.evidence_min:.3g}")
    for each in judged:
        above = each.hold_above(scope)
        if not each.likely <= above and not is_waived(each.weak, None, scope):
            message = f"{each.counts}: broken with probability {percent(each.likely)}, "
            yield Finding(each.weak, VerdictKind.HOLD, f"{message}hold above {percent(above)}")


def overruled(weighed: Sequence[Weighed], scope: Scope) -> tuple[str, ...]:
    """Rules that people waived and that would stop the scope now."""
    halted = not summed(weighed) < log(scope.evidence_min)
    names = []
    for each in weighed:
        if halted and is_waived(each.strong, None, scope):
            names.append(each.strong)
        elif each.likely > each.hold_above(scope) and is_waived(each.weak, None, scope):
            names.append(each.weak)
    return tuple(names)


def summed(weighed: Sequence[Weighed]) -> float:
    """Logarithm of the sum of evidence."""
    largest = max((each.log_e for each in weighed), default=-inf)
    return largest + log(fsum(exp(each.log_e - largest) for each in weighed)) if largest > -inf else largest


def groups_of(tally: Tally, gate: GateLimits) -> tuple[AgeGroup, ...]:
    """Age groups of every checkpoint; what was not counted yet is empty, and so keeps the budget shut."""
    return tally.age_groups + (AgeGroup(),) * (len(gate.checkpoints_ms) - len(tally.age_groups))


def habit_groups(tally: Tally, gate: GateLimits) -> Iterator[tuple[HabitAge, int, AgeGroup]]:
    """Ages of the plan's habits, each with its number and with what was counted there, which may be nothing."""
    for habit, ages in gate.habit_ages_ms.items():
        for index, age_ms in enumerate(ages):
            place = HabitAge(Habit(habit), age_ms)
            yield place, index, tally.habit_groups.get(place, AgeGroup())


def counted(tally: Tally, scope: Scope) -> dict[str, float]:
    """Every count and every limit, by name; whatever they are."""
    inputs: dict[str, float] = {
        "n": tally.exposed,
        "k": tally.failed,
        "s": tally.succeeded,
        "diagnosed": tally.diagnosed,
        "granted": tally.granted,
        "failed_before_permit": tally.failed_before_permit,
        "n_losses": tally.grants.exposed,
        "k_losses": tally.grants.silent,
        "failure_ratio_max": scope.gate.failure_ratio_max,
        "alpha": scope.gate.alpha,
        "evidence_min": scope.evidence_min,
        "hold_above": scope.hold_above,
        "silence_hold_above": scope.silence_hold_above,
    }
    for index, age_ms in enumerate(scope.gate.checkpoints_ms):
        inputs[f"age_ms_{index}"] = age_ms
    for index, group in enumerate(groups_of(tally, scope.gate)):
        inputs.update(_of_group(f"a{index}", group))
    for place, index, group in habit_groups(tally, scope.gate):
        inputs[f"age_ms_{place.habit}_{index}"] = place.age_ms
        inputs.update(_of_group(f"{place.habit}_{index}", group))
    return inputs


def weights(weighed: Sequence[Weighed], normal: Sequence[float], usual: Sequence[float]) -> dict[str, float]:
    """What the counts were weighed against and what that gave, by name.

    Args:
        weighed: The quantities.
        normal: Share thought to be normally silent at each checkpoint.
        usual: The same by the scope's own controls as well.
    """
    inputs = {f"reference_a{index}": share for index, share in enumerate(normal)}
    inputs |= {f"q_a{index}": share for index, share in enumerate(usual)}
    for each in weighed:
        if each.log_e > -inf:
            inputs[f"{each.name}_log_e{each.suffix}"] = each.log_e
        inputs[f"{each.name}_posterior{each.suffix}"] = each.likely
        inputs[f"{each.name}_limit{each.suffix}"] = each.limit
    inputs["log_e"] = summed(weighed)
    return inputs


def summary(tally: Tally, scope: Scope, heard: Sequence[Told], usual: Sequence[float]) -> str:
    """How a scope stands, for people."""
    parts = [f"{tally.failed} of {tally.exposed} exposed failed, limit {percent(scope.gate.failure_ratio_max)}"]
    for each, age_ms, share in zip(heard, scope.gate.checkpoints_ms, usual, strict=True):
        silent, of = each.group.paired_silent, each.group.paired
        parts.append(f"silent after {duration(age_ms)}: {silent} of {of}, expected {share * of:.1f}")
    return "; ".join(parts)


def _of_group(suffix: str, group: AgeGroup) -> dict[str, float]:
    return {
        f"n_{suffix}": group.exposed,
        f"k_{suffix}": group.silent,
        f"m_{suffix}": group.controls,
        f"c_{suffix}": group.controls_silent,
        f"u_{suffix}": group.unpaired,
        f"v_{suffix}": group.unpaired_silent,
    }
