"""Terms of a judgement: all that a gate goes by beside the counters, the form of what it finds, and what is waived.

Owns what can never be judged: limits that are no limits. What is found is the matter of `gates.rules` and
`gates.signals`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from orchestrator.model.fleet import Stratum
from orchestrator.model.ids import FleetTime
from orchestrator.model.plan import GateLimits
from orchestrator.model.rollout import Brake, BrakeKind, Signal, VerdictKind

HOLD_ABOVE = 0.8
"""Probability of a broken limit that holds, by what vehicles say."""
HELD_UNTIL = 0.6
"""Probability at which such a hold clears: lower, so that it does not flicker."""
SILENCE_HOLD_ABOVE = 0.9
"""As HOLD_ABOVE, by silence: a few good vehicles are always silent as well, by chance now more and now fewer."""
SILENCE_HELD_UNTIL = 0.85
"""As HELD_UNTIL, by silence."""

SEVERITY = (VerdictKind.PROCEED, VerdictKind.HOLD, VerdictKind.HALT)


@dataclass(frozen=True, slots=True)
class Terms:
    """By what a rollout is judged: with the counters, everything that a judgement follows from."""

    gate: GateLimits
    blast_budget: int
    """B of the plan."""
    waived: tuple[str, ...] = ()
    """What people waived, see `waiver`."""
    held: bool = False
    """Whether the rollout is held now: a hold clears later than it begins."""
    held_scopes: tuple[str, ...] = ()
    """Scopes that the gate holds now, likewise."""
    halted_scopes: tuple[str, ...] = ()
    """Scopes that the gate halted and nobody resumed."""
    signals: tuple[Signal, ...] = ()
    """That stand."""
    now: FleetTime = FleetTime(0)
    """When it is judged, fleet time: by it signals are overdue."""
    strata: int = 0
    """Of the target, if more than the counters show; the more are looked at, the more each must show."""
    apart: tuple[str, ...] = ()
    """Strata that are judged each on its own, the others together; empty: each is."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What one scope is judged by."""

    name: Stratum | None
    """None: over all strata."""
    terms: Terms
    scopes: int
    """How many like it are judged: as many times the evidence is asked for."""
    held: bool
    normal: tuple[float, ...]
    """Share thought to be normally silent at each checkpoint: the plan's; of a stratum, what all controls say."""

    @property
    def gate(self) -> GateLimits:
        """The plan's limits."""
        return self.terms.gate

    @property
    def evidence_min(self) -> float:
        """Evidence that halts; without a usable alpha none does."""
        return self.scopes / self.gate.alpha if self.gate.alpha > 0.0 else inf

    @property
    def hold_above(self) -> float:
        """Probability that holds, by what vehicles say."""
        return HELD_UNTIL if self.held else HOLD_ABOVE

    @property
    def silence_hold_above(self) -> float:
        """Probability that holds, by silence."""
        return SILENCE_HELD_UNTIL if self.held else SILENCE_HOLD_ABOVE


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule found in one scope that does not let it proceed."""

    rule: str
    kind: VerdictKind
    message: str
    measure: float | None = None
    """What a waiver of it covers: a person who waived 1 did not waive 2. None: whatever the rule finds later."""


def scope_name(scope: Stratum | None) -> str:
    """How a scope is written: `all`, `region/hardware` or, of a signal, `region`."""
    return "all" if scope is None else str(scope)


def stratum_of(name: str) -> Stratum:
    """The part that a written scope is about: a stratum, or a region, which is a stratum without hardware."""
    region, _, hardware = name.partition("/")
    return Stratum(region=region, hardware=hardware)


def found(rule: str) -> str:
    """Name, among a verdict's inputs, of the measure of a rule that counts."""
    return f"found_{rule}"


def waiver_of(rule: str, scope: Stratum | None, measure: float | None) -> str:
    """What stands in `Rollout.waived`: `rule@scope`, or `rule=measure@scope` where the waiver covers no more."""
    return f"{rule}@{scope_name(scope)}" if measure is None else f"{rule}={measure!r}@{scope_name(scope)}"


def is_waived(rule: str, measure: float | None, scope: Scope) -> bool:
    """Whether a person waived what a rule found. Who waived the strong rule about a quantity waived the weak one."""
    if not scope.terms.waived:
        return False
    stronger = rule.replace("_posterior", "_evalue")
    for entry in scope.terms.waived:
        waived, covered, name = waived_by(entry)
        if name == scope_name(scope.name) and waived in (rule, stronger):
            return measure is None or measure <= covered
    return False


def waived_by(entry: str) -> tuple[str, float, str]:
    """The rule, the measure and the scope of what stands in `Rollout.waived`; -inf where it covers no measure."""
    head, _, name = entry.partition("@")
    rule, _, covered = head.partition("=")
    return rule, _number(covered), name


def worst_of(findings: Sequence[Finding]) -> Finding | None:
    """The worst, of equally bad ones the first; None when there is none."""
    return max(findings, key=lambda finding: SEVERITY.index(finding.kind), default=None)


def scopes_with(brakes: Sequence[Brake], kind: BrakeKind) -> tuple[str, ...]:
    """Scopes that the gate stopped in one way."""
    return tuple(sorted(brake.scope for brake in brakes if brake.kind is kind))


def unusable(terms: Terms) -> str:
    """Why nothing can be judged by these limits; empty when it can. The plan file refuses most of this already."""
    gate = terms.gate
    for name, value in (("failure limit", gate.failure_ratio_max), ("alpha", gate.alpha)):
        if not 0.0 < value < 1.0:
            return f"{name} ({value:g}) not within 0 and 1"
    if not (isinstance(terms.blast_budget, int) and terms.blast_budget > 0):
        return f"blast budget ({terms.blast_budget}) < 1"
    checkpoints = gate.checkpoints_ms
    if not checkpoints or list(checkpoints) != sorted(set(checkpoints)) or not all(map(_is_age, checkpoints)):
        return f"checkpoints ({', '.join(map(str, checkpoints))}) are not ages, each later than the one before"
    if len(gate.silence_reference) != len(checkpoints):
        return f"silence references ({len(gate.silence_reference)}) != checkpoints ({len(checkpoints)})"
    for reference in gate.silence_reference:
        if not (reference > 0.0 and reference + gate.failure_ratio_max < 1.0):
            return f"silence reference ({reference:g}) not above 0, or with the failure limit not below 1"
    for habit, ages in gate.habit_ages_ms.items():
        if not all(map(_is_age, ages)):
            return f"ages of habit {habit} ({', '.join(map(str, ages))}) are not ages"
    return ""


def _is_age(milliseconds: object) -> bool:
    return isinstance(milliseconds, int) and milliseconds > 0


def _number(text: str) -> float:
    """What a waiver covers; nothing, when that cannot be read."""
    try:
        return float(text)
    except ValueError:
        return -inf
