"""Approvals: which people let a draft start or a wave begin, who may, and who still has to.

Owns counting them and what a request to approve is refused for. When a region moves on is the matter of `regions`, what
becomes of the rollout that of `progress`; who is an approver at all is decided at the edge, by role.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from orchestrator.model.rollout import RegionPhase, Rollout


@dataclass(frozen=True, slots=True)
class ApproveRequested:
    """A person lets a wave begin, or a draft start."""

    actor: str
    wave: str
    """Its name; empty: the rollout itself, before its start."""
    region: str
    """Empty means every region."""
    reason: str


def given(rollout: Rollout, wave: str, region: str) -> tuple[str, ...]:
    """The people who approved a wave for a region, or for all, in the order in which they did; the creator never.

    Without a wave: those who approved the rollout itself.
    """
    return tuple(
        dict.fromkeys(
            approval.actor
            for approval in rollout.approvals
            if approval.wave == wave and approval.region in ("", region) and approval.actor != rollout.creator
        )
    )


def missing(rollout: Rollout, wave: int, region: str) -> str:
    """How many approvals a wave (index) lacks in a region, for people; empty when it has them or needs none."""
    step = rollout.plan.waves[wave]
    return _missing(rollout, f"wave {step.name}", given(rollout, step.name, region), step.approvals)


def missing_start(rollout: Rollout) -> str:
    """How many approvals a draft lacks before it may start, for people; empty when it has them or needs none."""
    return _missing(rollout, "its start", given(rollout, "", ""), rollout.plan.approvals)


def wanted(rollout: Rollout, wave: str) -> int:
    """People that must approve a wave of the plan by its name, or the rollout itself when it is empty."""
    if not wave:
        return rollout.plan.approvals
    return next((step.approvals for step in rollout.plan.waves if step.name == wave), 0)


def _missing(rollout: Rollout, what: str, people: tuple[str, ...], needed: int) -> str:
    if len(people) >= needed:
        return ""
    has = f"has {len(people)} ({', '.join(people)})" if people else "has none"
    other = f" of people other than {rollout.creator}" if rollout.creator else ""
    noun = "approval" if needed == 1 else "approvals"
    return f"{what} needs {needed} {noun}{other} and {has}"


def begun(rollout: Rollout, wave: int, region: str) -> bool:
    """Whether a wave (index) has begun in a region."""
    progress = rollout.regions[region]
    return progress.phase is not RegionPhase.PENDING and progress.wave >= wave


def repeated(rollout: Rollout, request: ApproveRequested) -> bool:
    """Whether the same person has said the same before."""
    return any(
        approval.actor == request.actor and approval.wave == request.wave and approval.region in ("", request.region)
        for approval in rollout.approvals
    )


def objection(rollout: Rollout, request: ApproveRequested) -> tuple[str, str] | None:
    """Why a request to approve cannot be followed, and the remedy; None when it can."""
    if not request.wave:
        return _objection_to_start(rollout, request)
    names = [wave.name for wave in rollout.plan.waves]
    if request.wave not in names:
        return f"rollout {rollout.rollout_id} has no wave `{request.wave[:40]}`", _close(request.wave, names)
    if request.region and request.region not in rollout.regions:
        return f"rollout {rollout.rollout_id} has no region `{request.region[:40]}`", _close(
            request.region, sorted(rollout.regions)
        )
    index = names.index(request.wave)
    if not rollout.plan.waves[index].approvals:
        gated = [wave.name for wave in rollout.plan.waves if wave.approvals]
        return f"wave {request.wave} needs no approval", f"waves that do: {', '.join(gated) or 'none'}"
    if request.actor == rollout.creator:
        return f"{request.actor} created rollout {rollout.rollout_id} and cannot approve it", "ask another approver"
    scope = [request.region] if request.region else sorted(rollout.regions)
    if all(begun(rollout, index, region) for region in scope):
        where = f"in region {request.region}" if request.region else "in every region"
        return f"wave {request.wave} has begun {where}: there is nothing left to approve", (
            "pause or abort the rollout if it should not have"
        )
    return None


def _objection_to_start(rollout: Rollout, request: ApproveRequested) -> tuple[str, str] | None:
    named = rollout.rollout_id
    if request.region:
        return f"rollout {named} is approved as a whole, not for region `{request.region[:40]}`", "name a wave as well"
    if rollout.status.begun:
        return f"rollout {named} was started: there is nothing left to approve but its waves", "name a wave"
    if not rollout.plan.approvals:
        return f"rollout {named} needs no approval to start", "start it"
    if request.actor == rollout.creator:
        return f"{request.actor} created rollout {named} and cannot approve it", "ask another approver"
    return None


def _close(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean `{close[0]}`?" if close else f"there are {', '.join(known)}"
