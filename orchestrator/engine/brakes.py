"""Brakes: one region, or one stratum, stands still while the rest of the rollout goes on.

Owns the table below. The gate brakes strata, a dark region is braked as a whole, a person may brake either. Whether the
rollout itself stands is the matter of `progress`; when so many strata are halted that it has to, that of the gate.

| brake  | PROCEED | HOLD   | HALT     | goes dark  | light again | pause     | resume    |
|--------|---------|--------|----------|------------|-------------|-----------|-----------|
| none   | none    | HELD r | HALTED * | PAUSED d   | none        | PAUSED    | unchanged |
| HELD   | none f  | stays  | HALTED * | PAUSED d f | stays       | PAUSED    | none w d  |
| PAUSED | stays   | stays  | HALTED * | stays      | none if d   | PAUSED    | none      |
| HALTED | stays   | stays  | stays    | stays      | stays       | refused   | none w d  |

`*` raises the fence of the scope, `w` waives the rule that stopped it. `r` while the whole runs: where it is held or
paused already, weak evidence about a part adds nothing but a second thing to resume. `f`: not after the hold was final
(`holds`), which needs a person.

`d` is the darkness of the region and nobody else. What goes dark while it is held stands still for the darkness, and is
held again in the step in which it is light, if that still stands; what a person lets go that the gate stopped, in a
region that is dark, stands still for the darkness from then on. A person who pauses a dark region takes it over, and it
does not go on by itself any more. Who resumes what the darkness stopped is believed: it is braked again only after it
was light in between.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from orchestrator.engine import holds
from orchestrator.engine.gates import INCONSISTENT, UNUSABLE, waiver
from orchestrator.engine.wording import instant
from orchestrator.model.fleet import OTHER, Cell
from orchestrator.model.ids import FleetTime
from orchestrator.model.rollout import Brake, BrakeKind, Rollout, Verdict, VerdictKind, part_of
from orchestrator.model.tally import CellTallies, total

GATE = "gate"
"""Actor of what the gate decides."""
EVALUATOR = "evaluator"
"""Actor of a region's walk, and of what a dark region leads to."""
DARK = "far fewer vehicles call from the region than a day before: its network seems to be down"
"""Why a dark region stands still."""


@dataclass(frozen=True, slots=True)
class Braked:
    """A rollout after its brakes were looked at."""

    rollout: Rollout
    """Its epoch, status and reason untouched."""
    moves: tuple[str, ...]
    """What changed, for people; empty when nothing did."""


def on(rollout: Rollout, scope: str) -> Brake | None:
    """The brake on exactly this scope; None when there is none."""
    return next((brake for brake in rollout.brakes if brake.scope == scope), None)


def held(rollout: Rollout) -> frozenset[str]:
    """Scopes that the gate holds now: such a hold clears later than it begins."""
    return frozenset(brake.scope for brake in rollout.brakes if brake.kind is BrakeKind.HELD)


def described(brake: Brake) -> str:
    """A brake for people: what, since when, by whom, why."""
    said = f"{brake.scope} is {brake.kind} since {instant(brake.since)} by {brake.actor}: {brake.reason}"
    if brake.final:
        said += "; it will not clear by itself any more"
    return f"{said}; a person must resume {brake.scope}, or abort the rollout" if brake.needs_person else said


def judged(rollout: Rollout, verdicts: Iterable[Verdict], now: FleetTime, *, runs: bool) -> Braked:
    """What the gate's verdicts on single strata make of the brakes.

    Args:
        rollout: As it stands.
        verdicts: Those without a scope are not looked at.
        runs: Whether the rollout as a whole runs, and goes on running.
        now: Fleet time.
    """
    after, moves = rollout, []
    for verdict in verdicts:
        if verdict.scope is None:
            continue
        scope = str(verdict.scope)
        brake = on(after, scope)
        if verdict.kind is VerdictKind.HALT and (brake is None or brake.kind is not BrakeKind.HALTED):
            after = _put(after, Brake(scope, BrakeKind.HALTED, now, GATE, verdict.message, verdict))
            after = replace(after, fences={**after.fences, scope: rollout.epoch + 1})
            moves.append(f"{scope}: halted ({verdict.message})")
        elif verdict.kind is VerdictKind.HOLD and brake is None and runs:
            after = _put(after, Brake(scope, BrakeKind.HELD, now, GATE, verdict.message, verdict))
            moves.append(f"{scope}: held ({verdict.message})")
        elif verdict.kind is VerdictKind.PROCEED and brake is not None and _may_clear(brake):
            after = _off(after, scope)
            moves.append(f"{scope}: hold cleared ({verdict.message})")
    return Braked(after, tuple(moves))


def darkened(rollout: Rollout, dark: Collection[str], now: FleetTime) -> Braked:
    """What regions that are dark now, and those that are light again, make of the brakes.

    Args:
        rollout: As it stands.
        dark: Regions whose network seems to be down.
        now: Fleet time.
    """
    after, moves = rollout, []
    for name, progress in rollout.regions.items():
        brake = on(after, name)
        if name in dark and progress.dark_since is None:
            after = _since(after, name, now)
            if brake is None or _may_clear(brake):
                after = _put(after, _for_darkness(name, now))
            moves.append(f"{name}: went dark")
        elif name not in dark and progress.dark_since is not None:
            after = _since(after, name, None)
            if brake is not None and brake.actor == EVALUATOR:
                after = _off(after, name)
            moves.append(f"{name}: light again")
    return Braked(after, tuple(moves))


def lasting(rollout: Rollout, cells: CellTallies, now: FleetTime) -> Braked:
    """Which parts are held for so long that they do not go on by themselves any more.

    Args:
        rollout: As it stands.
        cells: Its counters.
        now: Fleet time.
    """
    after, moves = rollout, []
    for brake in rollout.brakes:
        # What is held only now has had no time to clear.
        if not _may_clear(brake) or brake.since == now:
            continue
        tally = total(count for cell, count in cells.items() if _about(brake, cell, rollout.apart))
        why = holds.final_because(rollout.plan.gate, brake.verdict, tally, brake.since, now)
        if why:
            after = _put(after, replace(brake, final=True))
            moves.append(f"{brake.scope}: the hold is final ({why}), a person must resume it")
    return Braked(after, tuple(moves))


def final_at(rollout: Rollout) -> list[FleetTime]:
    """When holds of parts are final by time alone, at the latest."""
    lasts_ms = rollout.plan.gate.hold_final_ms
    return [FleetTime(brake.since + lasts_ms) for brake in rollout.brakes if _may_clear(brake)]


def paused(rollout: Rollout, scope: str, actor: str, reason: str, now: FleetTime) -> Rollout:
    """The rollout with a part that a person paused; as it was when a person had done so before.

    The caller has made sure that the part is not halted.
    """
    brake = on(rollout, scope)
    if brake is not None and brake.kind is BrakeKind.PAUSED and brake.actor != EVALUATOR:
        return rollout
    return _put(rollout, Brake(scope, BrakeKind.PAUSED, now, actor, reason))


def resumed(rollout: Rollout, scope: str, now: FleetTime) -> Rollout:
    """The rollout without the brake on a scope, the rule that put it there waived."""
    brake = on(rollout, scope)
    verdict = brake.verdict if brake is not None else None
    after = replace(_off(rollout, scope), waived=waived(rollout.waived, verdict))
    progress = rollout.regions.get(scope)
    # Who answers to the gate has said nothing of the darkness.
    if verdict is not None and progress is not None and progress.dark_since is not None:
        return _put(after, _for_darkness(scope, now))
    return after


def waived(before: tuple[str, ...], verdict: Verdict | None) -> tuple[str, ...]:
    """The waivers after a person decided against a verdict."""
    # Nobody can waive that counters contradict themselves, or that limits are none: it holds again at once.
    if verdict is None or verdict.kind is VerdictKind.PROCEED or verdict.rule in (INCONSISTENT, UNUSABLE):
        return before
    return tuple(dict.fromkeys((*before, waiver(verdict))))


def objection(rollout: Rollout, scope: str) -> tuple[str, str] | None:
    """Why a scope is none of a rollout's, and the remedy; None when it is one."""
    region, _, hardware = scope.partition("/")
    if scope == str(OTHER) and rollout.apart:
        return None
    if region not in rollout.regions:
        known = ", ".join(sorted(rollout.regions))
        return f"rollout {rollout.rollout_id} has no region `{region[:40]}`", f"there are {known}"
    if "/" in scope and not hardware:
        return f"`{scope[:40]}` names no hardware variant", f"write {region} for all of them, or {region}/VARIANT"
    return None


def _may_clear(brake: Brake) -> bool:
    return brake.kind is BrakeKind.HELD and not brake.final


def _about(brake: Brake, cell: Cell, apart: tuple[str, ...]) -> bool:
    return brake.scope in (cell.region, str(cell.stratum), str(part_of(cell.stratum, apart)))


def _for_darkness(region: str, now: FleetTime) -> Brake:
    return Brake(region, BrakeKind.PAUSED, now, EVALUATOR, DARK)


def _put(rollout: Rollout, brake: Brake) -> Rollout:
    others = [each for each in rollout.brakes if each.scope != brake.scope]
    return replace(rollout, brakes=tuple(sorted([*others, brake], key=lambda each: each.scope)))


def _off(rollout: Rollout, scope: str) -> Rollout:
    return replace(rollout, brakes=tuple(brake for brake in rollout.brakes if brake.scope != scope))


def _since(rollout: Rollout, region: str, at: FleetTime | None) -> Rollout:
    progress = replace(rollout.regions[region], dark_since=at)
    return replace(rollout, regions={**rollout.regions, region: progress})
