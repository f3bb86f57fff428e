"""Reverts: the plan of a rollout that undoes another, and when a rollout may be one.

A revert is a rollout like any other: staged, gated, stopped by the same rules, because the way back can fail as well.
What it brings is a release that was signed together with the one it undoes; nothing is signed here. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from orchestrator.engine.plan.file import effective_plan
from orchestrator.engine.targets import compile_target, mismatch
from orchestrator.engine.wording import duration
from orchestrator.model.fleet import Profile
from orchestrator.model.ids import ReleaseVersion
from orchestrator.model.plan import OnHalt, Plan, Wave
from orchestrator.model.release import Release
from orchestrator.model.rollout import Rollout, RolloutStatus
from orchestrator.model.tally import Tally
from orchestrator.service.errors import InvalidInputError, StateError

FIRST_SHARE_MIN = 0.05
FIRST_SHARE_MAX = 0.5
SOAK_MS = 3_600_000
"""Of each wave of a revert. The gate's first checkpoint holds the second wave back longer where it is longer."""
ID_LENGTH_MAX = 63


def way_back(rollout: Rollout, releases: Sequence[Release]) -> Release:
    """The release that undoes a rollout's.

    Raises:
        StateError: none is registered.
    """
    version = rollout.plan.release
    back = next((release for release in releases if release.reverts == version), None)
    if back is None:
        raise StateError(
            f"no release that undoes {version} is registered",
            reason="REVERT_MISSING",
            remedy=f"sign one where the offline keys are, from the file of {version}: "
            "`outrider release publish FILE --revert-to VERSION`; or roll out a newer release",
        )
    return back


def check_revert(plan: Plan, undone: Rollout, releases: Sequence[Release]) -> None:
    """Whether a rollout of `plan` may say that it undoes `undone`.

    Raises:
        InvalidInputError: its release undoes another, or none.
        StateError: no release undoes it, or it still brings vehicles the release that is to be undone.
    """
    back = way_back(undone, releases)
    if plan.release != back.version:
        raise InvalidInputError(
            f"release {plan.release} does not undo {undone.plan.release}, which rollout {undone.rollout_id} brings",
            reason="REVERT_MISMATCH",
            remedy=f"plan a rollout of {back.version}: `outrider rollout revert {undone.rollout_id}` writes the plan",
        )
    if undone.status in (RolloutStatus.RUNNING, RolloutStatus.HELD):
        raise StateError(
            f"rollout {undone.rollout_id} is {undone.status}: it would go on bringing {undone.plan.release}",
            reason="REVERT_OF_RUNNING",
            remedy=f"stop it first: `outrider rollout abort {undone.rollout_id}`, or pause it",
        )


def check_proposal(rollout: Rollout, others: Sequence[Rollout]) -> None:
    """Whether one more rollout should undo this one.

    Raises:
        StateError: one does.
    """
    for other in others:
        if other.reverts == rollout.rollout_id and not other.status.over:
            raise StateError(
                f"rollout {rollout.rollout_id} is being undone by rollout {other.rollout_id}, which is {other.status}",
                reason="REVERT_UNDER_WAY",
                remedy=f"look at it: `outrider rollout status {other.rollout_id}`",
            )


def check_resume(rollout: Rollout, others: Sequence[Rollout]) -> None:
    """Whether a rollout may go on, as far as its own reverts are concerned.

    Raises:
        StateError: another rollout is undoing it.
    """
    for other in others:
        # A draft has done nothing yet; when it starts it is asked whether this one still stands still.
        ended = other.status in (RolloutStatus.ABORTED, RolloutStatus.SUPERSEDED) or not other.status.begun
        if other.reverts == rollout.rollout_id and not ended:
            raise StateError(
                f"rollout {rollout.rollout_id} is undone by rollout {other.rollout_id}, which is {other.status}",
                reason="REVERTED",
                remedy=f"abort it, or abort {other.rollout_id} first",
            )


def revert_plan(
    rollout: Rollout, back: Release, *, profiles: Mapping[Profile, int], tally: Tally, taken: Collection[str]
) -> str:
    """The plan file of a rollout that undoes another.

    It is for who matches the target of the undone one and runs its release by the last manifest, in the same regions
    under the same windows, consent and limits. First a share that is large enough to be judged, then all. Nobody stays
    out. Approvals and `follow` are not taken over: they slow down what should be over soon.

    Args:
        rollout: To be undone.
        back: The release that undoes it.
        profiles: How many vehicles have each profile.
        tally: Counts of the undone rollout.
        taken: Ids of rollouts.
    """
    version = rollout.plan.release
    plan = rollout.plan
    target = replace(plan.target, installed=f"=={version}")
    plan = replace(
        plan,
        name=free_name(rollout.rollout_id, taken),
        release=ReleaseVersion(back.version),
        target=target,
        regions={region: replace(rules, follow="") for region, rules in plan.regions.items()},
        region_defaults=replace(plan.region_defaults, follow=""),
        holdout_share=0.0,
        approvals=0,
        supersedes="",
        requires="",
        on_halt=OnHalt.STOP,
    )
    compiled = compile_target(target)
    running = {profile: count for profile, count in profiles.items() if profile.installed == version and count > 0}
    reached = sum(
        count
        for profile, count in running.items()
        if mismatch(compiled, profile) is None and profile.region in plan.regions
    )
    plan = replace(plan, waves=revert_waves(reached, plan.gate.sample_min))
    outside = sum(running.values()) - reached
    under_way = sum(count for state, count in tally.after_permit.items() if not state.terminal)
    lines = [
        f"Undoes rollout {rollout.rollout_id}: {reached} vehicles run {version} and go back by {back.version}.",
        *([f"{outside} more run {version} outside of this target or these regions: they stay."] if outside else []),
        *(
            [f"{under_way} installations of {version} are still under way: they are for this rollout once they report."]
            if under_way
            else []
        ),
        f"The second wave waits until the first is {duration(plan.gate.checkpoints_ms[0])} old (gate.checkpoints).",
    ]
    return "".join(f"# {line}\n" for line in lines) + effective_plan(plan)


def revert_waves(vehicles: int, sample_min: int) -> tuple[Wave, ...]:
    """A first share that gives the gate its sample, within bounds; then all."""
    share = min(FIRST_SHARE_MAX, max(FIRST_SHARE_MIN, round(sample_min / vehicles, 2) if vehicles else FIRST_SHARE_MAX))
    return (
        Wave(name="first", cohorts=(), share=share, soak_ms=SOAK_MS),
        Wave(name="all", cohorts=(), share=1.0, soak_ms=SOAK_MS),
    )


def free_name(rollout_id: str, taken: Collection[str]) -> str:
    """`<id>-revert`, or with a number behind it."""
    number = 1
    while True:
        suffix = "-revert" if number == 1 else f"-revert-{number}"
        name = rollout_id[: ID_LENGTH_MAX - len(suffix)].rstrip("-") + suffix
        if name not in taken:
            return name
        number += 1
