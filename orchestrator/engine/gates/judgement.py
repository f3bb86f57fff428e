"""Gates: what the counters say about a rollout, PROCEED, HOLD or HALT, and how many may be at risk meanwhile.

Owns the order in which a rollout is judged, and how its parts bear on the whole. What is looked at in one scope is the
matter of `gates.rules`, what people say of `gates.signals`, how many may be at risk of `gates.budget`. Whether a
verdict moves a rollout, or a brake on a part of it, is the matter of `progress`.

Judged are all strata together, and each on its own where there is more than one (of too many, the small ones together:
`strata`). What is said of all decides for the
whole rollout; what is said of a part concerns that part. A part that is halted is explained and stands still: it counts
in the whole no more, once the rest has shown something itself. Two parts halted halt the whole (`strata_halted`).

Nothing doubtful proceeds. Counts that contradict themselves (`inconsistent_counters`) and limits that are none
(`limits_unusable`) hold the whole rollout, and nobody can waive that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.engine.gates import budget as budgets
from orchestrator.engine.gates import findings, rules, unpaired
from orchestrator.engine.gates import signals as signalled
from orchestrator.engine.gates.budget import AGED_MIN
from orchestrator.engine.gates.counts import contradiction
from orchestrator.engine.gates.habits import Told, told
from orchestrator.engine.gates.terms import (
    Finding,
    Scope,
    Terms,
    found,
    is_waived,
    scope_name,
    scopes_with,
    stratum_of,
    unusable,
    waiver_of,
    worst_of,
)
from orchestrator.engine.strata import apart as judged_apart
from orchestrator.engine.strata import by_part, count_parts
from orchestrator.model.fleet import OTHER, Cell, Stratum
from orchestrator.model.ids import FleetTime
from orchestrator.model.plan import Plan
from orchestrator.model.rollout import (
    Brake,
    BrakeKind,
    Rollout,
    RolloutStatus,
    Signal,
    Verdict,
    VerdictKind,
    part_of,
)
from orchestrator.model.tally import CellTallies, Tally, total

INCONSISTENT = "inconsistent_counters"
UNUSABLE = "limits_unusable"
STRATA_HALTED = "strata_halted"
NO_RULE = "none"
HALTED_MAX = 1
"""Parts that may be halted while the rest goes on."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the gate says about a rollout at one moment."""

    verdicts: tuple[Verdict, ...]
    """All together first (scope None), then each part that is judged alone: strata where there is more than one, and
    what signals are about (a region is a stratum without hardware); where there are too many, the smaller ones
    together. Those after the first concern their part alone.
    """
    worst: Verdict
    """The one that decides for the whole rollout: the first."""
    permit_ceiling: int
    """Permits that may have been given in all, ever; what is given already, when nothing may be added."""
    grant_ceiling: int
    """Slots without a permit that may be held at once; 0 when nothing may be added."""
    terms: Terms
    """By what it was judged: with the counters, all that is needed to judge again."""

    @property
    def permit_allowance(self) -> int:
        """Permits that may be given now."""
        return int(self.verdicts[0].inputs["permit_allowance"])


def waiver(verdict: Verdict) -> str:
    """What stands in `Rollout.waived` for a verdict's rule: `rule@scope`.

    Where the rule counts (reports of safety, a signal's value, halted parts): `rule=3@scope`, and 4 are not waived.
    """
    return waiver_of(verdict.rule, verdict.scope, verdict.inputs.get(found(verdict.rule)))


def judge_rollout(rollout: Rollout, cells: CellTallies, waiting: Mapping[Cell, int], now: FleetTime) -> Judgement:
    """Judge a rollout as it stands.

    Args:
        rollout: With its waivers, brakes and signals.
        cells: Its counters.
        waiting: Vehicles by inventory that its plan is for and that do not have the release.
        now: Fleet time.
    """
    apart = judged_apart(rollout, cells, waiting)
    return judge(
        cells,
        rollout.plan,
        waived=rollout.waived,
        held=rollout.status is RolloutStatus.HELD,
        strata=count_parts(cells, waiting, apart),
        apart=apart,
        brakes=rollout.brakes,
        signals=rollout.signals,
        now=now,
    )


def judge(
    cells: CellTallies,
    plan: Plan,
    *,
    waived: Sequence[str] = (),
    held: bool = False,
    strata: int = 0,
    apart: tuple[str, ...] = (),
    brakes: Sequence[Brake] = (),
    signals: Sequence[Signal] = (),
    now: FleetTime = FleetTime(0),
) -> Judgement:
    """Judge a rollout by its counters, and by what is said of it.

    Args:
        cells: Counts by cell.
        plan: The rollout's plan.
        waived: What people waived, see `waiver`. Who waived the strong rule waived the weak one as well.
        held: Whether the rollout is held now: a hold clears later than it begins.
        strata: Strata of the target, if more than the counters show; the more are looked at, the more each must show.
        apart: Strata that are judged each on its own, the others together; empty: each is.
        brakes: That stand: parts that are held or halted.
        signals: That stand.
        now: Fleet time, by which signals are overdue.

    Returns:
        A verdict for each scope, and both ceilings. Never PROCEED on counts that contradict themselves.
    """
    terms = Terms(
        gate=plan.gate,
        blast_budget=plan.limits.blast_budget,
        waived=tuple(waived),
        held=held,
        held_scopes=scopes_with(brakes, BrakeKind.HELD),
        halted_scopes=scopes_with(brakes, BrakeKind.HALTED),
        signals=tuple(signals),
        now=now,
        strata=strata,
        apart=apart,
    )
    return judge_by(cells, terms)


def judge_by(cells: CellTallies, terms: Terms) -> Judgement:
    """Judge by terms, as read from the ledger for example: what `judge` does."""
    everything = total(cells.values())
    whole = Scope(name=None, terms=terms, scopes=1, held=terms.held, normal=terms.gate.silence_reference)
    broken = unusable(terms)
    if broken:
        return _doubtful(UNUSABLE, f"cannot be judged: {broken}", everything, whole)
    contradicting = contradiction(cells, terms.gate)
    if contradicting:
        return _doubtful(INCONSISTENT, f"counters contradict themselves: {contradicting}", everything, whole)
    normal = rules.usual(told(everything, terms.gate), whole)
    accepted = _accepted(everything, whole)
    parts = [
        _judged(tally, scope, told(tally, terms.gate), accepted=accepted)
        for tally, scope in _parts(cells, terms, normal)
    ]
    halted = sorted(
        {scope_name(part.scope) for part in parts if part.kind is VerdictKind.HALT}.union(terms.halted_scopes)
    )
    rest = _apart_from(halted, cells, terms.apart)
    heard = told(rest, terms.gate)
    overall = _judged(rest, whole, heard, tuple(_halted(halted)))
    budget = budgets.shut(everything, terms.blast_budget)
    if overall.kind is VerdictKind.PROCEED:
        doubt = _doubt(overall, whole)
        budget |= budgets.opened(rest, terms.blast_budget, normal, [each.group for each in heard], doubt)
        # The store counts permits of every part.
        budget["permit_ceiling"] += everything.exposed - rest.exposed
    return _judgement((overall, *parts), budget, terms)


def _doubt(overall: Verdict, whole: Scope) -> budgets.Doubt:
    """How likely each limit is broken; not at all where a person answered for it."""
    unanswered = {name: likely for name, likely in overall.inputs.items() if not is_waived(name, None, whole)}
    silence = (likely for name, likely in unanswered.items() if name.startswith(rules.SILENCE_DOUBT))
    return budgets.Doubt(unanswered.get(rules.FAILURES_DOUBT, 0.0), max(silence, default=0.0))


def _apart_from(halted: Sequence[str], cells: CellTallies, apart: tuple[str, ...]) -> Tally:
    """What the whole is judged by: all but a part that is halted, once the rest has shown something itself.

    Until then a bad part looks like a bad release. Reports of safety count wherever they are from.
    """
    everything = total(cells.values())
    if len(halted) != 1:
        return everything
    part = stratum_of(halted[0])
    rest = total(tally for cell, tally in cells.items() if not _within(cell, part, apart))
    shown = rest.age_groups[0].exposed if rest.age_groups else 0
    return replace(rest, safety=everything.safety) if shown >= AGED_MIN else everything


def _within(cell: Cell, part: Stratum, apart: tuple[str, ...]) -> bool:
    """Whether a cell belongs to a part: a stratum, a region where the hardware is empty, or what is judged together."""
    if part == OTHER:
        return part_of(cell.stratum, apart) == OTHER
    return cell.region == part.region and part.hardware in ("", cell.hardware)


def _parts(cells: CellTallies, terms: Terms, normal: tuple[float, ...]) -> Iterator[tuple[Tally, Scope]]:
    """What is judged alone. A single stratum is everything: of it, only what people say is looked at."""
    tallies = by_part(cells, terms.apart)
    scopes = max(1, terms.strata, len(tallies))
    if scopes == 1:
        tallies.clear()
    held = frozenset(map(stratum_of, terms.held_scopes))
    # A part that is held gets a verdict as well when nothing stands about it any more: so it is let go.
    for named in sorted({*signalled.scopes_of(terms.signals), *held}):
        tallies.setdefault(named, Tally())
    for name, tally in tallies.items():
        yield tally, Scope(name=name, terms=terms, scopes=scopes, held=name in held, normal=normal)


def _accepted(everything: Tally, whole: Scope) -> tuple[str, ...]:
    """Rules about parts that a person answered to when it was the whole that stood still.

    Whoever let the whole go on with so many reports of safety was told each of them, wherever it was from.
    """
    reports = signalled.safety_reports(None, everything.safety, whole.terms.signals)
    return (signalled.SAFETY,) if is_waived(signalled.SAFETY, reports, whole) else ()


def _judged(
    tally: Tally,
    scope: Scope,
    heard: Sequence[Told],
    more: tuple[Finding, ...] = (),
    *,
    accepted: tuple[str, ...] = (),
) -> Verdict:
    weighed = (*rules.weigh(tally, scope, heard), *unpaired.weigh(tally, scope))
    usual = rules.usual(heard, scope)
    said = (*signalled.findings(scope.name, tally.safety, scope.terms.signals, scope.terms.now), *more)
    inputs = findings.counted(tally, scope) | findings.weights(weighed, scope.normal, usual)
    inputs.update({found(finding.rule): finding.measure for finding in said if finding.measure is not None})
    standing = [
        finding
        for finding in said
        if finding.rule not in accepted and not is_waived(finding.rule, finding.measure, scope)
    ]
    worst = worst_of([*findings.findings(weighed, scope), *standing])
    name = scope_name(scope.name)
    if worst is not None:
        return Verdict(worst.kind, worst.rule, scope.name, f"{name}: {worst.message}", inputs)
    message = f"{name}: {findings.summary(tally, scope, heard, usual)}"
    passed = [*findings.overruled(weighed, scope), *(finding.rule for finding in said)]
    if passed:
        message += f"; waived: {', '.join(passed)}"
    return Verdict(VerdictKind.PROCEED, NO_RULE, scope.name, message, inputs)


def _halted(halted: Sequence[str]) -> Iterator[Finding]:
    """That more than one part is halted: then it is not a matter of the part."""
    if len(halted) > HALTED_MAX:
        yield Finding(
            rule=STRATA_HALTED,
            kind=VerdictKind.HALT,
            message=f"{len(halted)} parts are halted ({', '.join(halted)}): more than {HALTED_MAX} halts the whole",
            measure=len(halted),
        )


def _doubtful(rule: str, message: str, everything: Tally, whole: Scope) -> Judgement:
    inputs = findings.counted(everything, whole)
    verdict = Verdict(VerdictKind.HOLD, rule, None, f"{scope_name(None)}: {message}", inputs)
    return _judgement((verdict,), budgets.shut(everything, whole.terms.blast_budget), whole.terms)


def _judgement(verdicts: tuple[Verdict, ...], budget: Mapping[str, float], terms: Terms) -> Judgement:
    first = verdicts[0]
    with_budget = Verdict(first.kind, first.rule, first.scope, first.message, {**first.inputs, **budget})
    return Judgement(
        verdicts=(with_budget, *verdicts[1:]),
        worst=with_budget,
        permit_ceiling=int(budget["permit_ceiling"]),
        grant_ceiling=int(budget["grant_ceiling"]),
        terms=terms,
    )
