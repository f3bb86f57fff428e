"""What would stop a rollout, in plain words with examples: the gate itself is asked, on made-up counters.

Owns the questions. Leaves the rules to the engine, so that an example can never differ from what the gate would do.
"""

from __future__ import annotations

from outrider.v1.rollout_pb2 import PreviewRolloutResponse

from orchestrator.engine.gates import judge
from orchestrator.engine.plan.file import read_plan
from orchestrator.engine.plan.nodes import PlanError
from orchestrator.engine.wording import duration, percent
from orchestrator.model.attempt import AttemptState
from orchestrator.model.fleet import Cell, Habit
from orchestrator.model.plan import Plan
from orchestrator.model.rollout import VerdictKind
from orchestrator.model.tally import AgeGroup, Tally

EXAMPLE = 20
"""Vehicles that the examples are about, if the target has as many: fewer show little."""
OFTEN_WORDS = {Habit.OFTEN: "every few hours", Habit.DAILY: "about once a day", Habit.SELDOM: "less often"}
ANYWHERE = Cell(region="", hardware="", cohort="")


def stopping(preview: PreviewRolloutResponse) -> list[str]:
    """What would hold or halt the rollout, one rule a line; empty when this version cannot read the plan."""
    try:
        plan = read_plan(preview.effective_plan)
    except PlanError:
        return []
    strata = len({(cell.region, cell.hardware) for cell in preview.cells})
    sample = max(1, min(max(EXAMPLE, plan.gate.sample_min), preview.targeted))
    gate, limits = plan.gate, plan.limits
    lines = [
        "It halts for good (a person must resume it) on strong evidence that more than "
        f"{percent(gate.failure_ratio_max)} of those with a permit fail: "
        f"{examples(plan, strata, sample, VerdictKind.HALT)}.",
        "It holds (nobody new, goes on by itself when that clears) when this is merely likely: "
        f"{examples(plan, strata, sample, VerdictKind.HOLD)}.",
    ]
    for index, (age_ms, normal) in enumerate(zip(gate.checkpoints_ms, gate.silence_reference, strict=True)):
        lines.append(
            f"Silence counts {duration(age_ms)} after the permit, where {percent(normal)} are normal: "
            f"{silence_example(plan, strata, sample, index)}."
        )
    lines += habits(plan)
    lines.append(
        "Vehicles that are lost before their permit, which a payload can bring about that is merely downloaded, are "
        f"counted apart: {losses_example(plan, strata, sample)}."
    )
    young = duration(gate.checkpoints_ms[0])
    lines.append(
        f"Until those before them are {young} old, at most {limits.blast_budget} vehicles are exposed at once, and "
        f"{limits.starts_per_minute_max} start a minute."
    )
    if strata > 1:
        lines.append(
            f"Each of {strata} region x hardware groups is judged alone as well: one that is bad stands still by "
            "itself, a second one halts all."
        )
    lines.append(f"A hold that lasts {duration(gate.hold_final_ms)} needs a person.")
    return lines


def habits(plan: Plan) -> list[str]:
    """How early vehicles that usually call often are judged."""
    return [
        f"Of vehicles that usually call {OFTEN_WORDS[habit]}, silence counts {duration(age_ms)} after it already, "
        "compared with others like them that have no permit yet."
        for habit, ages_ms in plan.gate.habit_ages_ms.items()
        for age_ms in ages_ms
    ]


def examples(plan: Plan, strata: int, sample: int, kind: VerdictKind) -> str:
    """How many failures of a sample do it, for example `3 of the first 20 failing`."""
    for failed in range(1, sample + 1):
        tally = Tally(
            after_permit={AttemptState.FAILED: failed, AttemptState.SUCCEEDED: sample - failed},
            age_groups=(AgeGroup(),) * len(plan.gate.checkpoints_ms),
        )
        found = verdict(plan, tally, strata)
        if found is kind:
            return f"for example {failed} of the first {sample} failing"
        if found is VerdictKind.HALT:
            return f"here {failed} of the first {sample} failing halt it at once"
    return f"the first {sample} failing are not enough"


def silence_example(plan: Plan, strata: int, sample: int, index: int) -> str:
    """How many silent vehicles of a sample hold it and halt it."""
    found: dict[VerdictKind, int] = {}
    groups = len(plan.gate.checkpoints_ms)
    for silent in range(1, sample + 1):
        aged = tuple(AgeGroup(sample, silent if at == index else 0) for at in range(index + 1))
        tally = Tally(
            after_permit={AttemptState.REBOOTING: silent, AttemptState.SUCCEEDED: sample - silent},
            age_groups=aged + (AgeGroup(),) * (groups - index - 1),
        )
        found.setdefault(verdict(plan, tally, strata), silent)
    parts = [
        f"{found[kind]} silent of the first {sample} {word}"
        for kind, word in ((VerdictKind.HOLD, "hold it"), (VerdictKind.HALT, "halt it"))
        if kind in found
    ]
    return ", ".join(parts) or f"the first {sample} are not enough to tell"


def losses_example(plan: Plan, strata: int, sample: int) -> str:
    """How many grants of a sample that fail without a permit hold it and halt it."""
    found: dict[VerdictKind, int] = {}
    for failed in range(1, sample + 1):
        tally = Tally(
            before_permit={AttemptState.FAILED: failed, AttemptState.DOWNLOADED: sample - failed},
            age_groups=(AgeGroup(),) * len(plan.gate.checkpoints_ms),
        )
        found.setdefault(verdict(plan, tally, strata), failed)
    parts = [
        f"{found[kind]} of the first {sample} granted failing {word}"
        for kind, word in ((VerdictKind.HOLD, "hold it"), (VerdictKind.HALT, "halt it"))
        if kind in found
    ]
    return ", ".join(parts) or f"the first {sample} are not enough to tell"


def verdict(plan: Plan, tally: Tally, strata: int) -> VerdictKind:
    """What the gate would say about one stratum with these counters."""
    return judge({ANYWHERE: tally}, plan, strata=strata).worst.kind
