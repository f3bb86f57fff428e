"""The owner of a simulated vehicle: what he says when he is asked about an update, and when. Pure; the seed decides."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from agent_sim.actions import AskOwner, OwnerAnswer, OwnerAnswered
from agent_sim.faults import draw


class Manner(StrEnum):
    """How an owner takes questions."""

    AGREE = "agree"
    POSTPONE = "postpone"
    """Says "later" some times, then agrees."""
    DECLINE = "decline"
    IGNORE = "ignore"
    """Never answers."""


@dataclass(frozen=True, slots=True)
class Owner:
    """One owner; durations are fleet time."""

    manner: Manner = Manner.AGREE
    after_ms: int = 1_800_000
    """About how long an answer takes: between half of this and one and a half."""
    again_after_ms: int = 43_200_000
    """Of POSTPONE: when to be asked again."""
    times: int = 1
    """Of POSTPONE: how often, before he agrees."""

    def answer(self, question: AskOwner, *, vehicle_id: str, now: int) -> tuple[int, OwnerAnswered] | None:
        """When he answers and what; None: never."""
        if self.manner is Manner.IGNORE:
            return None
        patience = 0.5 + draw("owner", vehicle_id, question.attempt_id, question.postponed)
        at = now + round(self.after_ms * patience)
        if self.manner is Manner.DECLINE:
            return at, OwnerAnswered(question.token, OwnerAnswer.NO)
        if self.manner is Manner.POSTPONE and question.postponed < self.times:
            return at, OwnerAnswered(question.token, OwnerAnswer.LATER, at + self.again_after_ms)
        return at, OwnerAnswered(question.token, OwnerAnswer.YES)


USUAL_OWNER = Owner()
