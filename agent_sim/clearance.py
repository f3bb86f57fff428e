"""Leave to go on, held while there is power: the question to the owner, the look at conditions, the permit at hand.

Owns when each is due and whether a permit may be used. Methods take the persisted state and return the next one; what
is in here is gone after a reboot, on purpose: then the owner and the orchestrator are asked anew. Leaves what is
missing to `readiness`, and calls to `agent`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from agent_sim import readiness, steps
from agent_sim.actions import AskOwner, Input, OwnerAnswer, OwnerAnswered, TellOwner
from agent_sim.messages import Consent, PermitReply
from agent_sim.pacing import Pace
from agent_sim.persisted import PersistedState, Phase, Progress
from agent_sim.senses import Senses


class Clearance:
    """What the attempt at hand has leave for.

    Args:
        pace: how long refusals pause.
        look_every_ms: while conditions keep it waiting, they are looked at this often; fleet time.
        rng: for jitter.
        tokens: as the agent's.
    """

    def __init__(self, pace: Pace, *, look_every_ms: int, rng: random.Random, tokens: Iterator[int]) -> None:
        self._pace = pace
        self._look_every_ms = look_every_ms
        self._rng = rng
        self._tokens = tokens
        self._look_at = 0
        self._permit_until = 0
        self.away = False
        """Whether an offline permit is to be asked for: what is still missing will be there when there is no link."""
        self.ask_at = 0
        """Fleet time before which no permit is asked for."""
        self.question: AskOwner | None = None
        """What the owner has not answered yet."""

    def begin(self, now: int) -> None:
        """Images are complete: from here on a permit may be asked for."""
        self.ask_at, self._permit_until, self._look_at = now, 0, 0

    def drop(self) -> None:
        """The attempt is over."""
        self.question = None
        self.ask_at = self._permit_until = self._look_at = 0
        self.away = False

    def due_at(self, progress: Progress, *, fetch_at: int | None) -> list[int]:
        """When something is to be done here; empty: only an answer moves it.

        Args:
            progress: the attempt.
            fetch_at: when a download may go on; None: one is under way, or none is wanted.
        """
        times = [] if fetch_at is None else [max(fetch_at, self._look_at)]
        # A yes comes as an answer; the rest has to be looked for.
        looks = progress.waiting_for not in (readiness.NOTHING, readiness.Missing.CONSENT)
        if progress.phase is Phase.DOWNLOADED and looks:
            times.append(self._look_at)
        owner_at = readiness.owner_due_at(progress)
        if owner_at is not None and self.question is None:
            times.append(owner_at)
        return times

    def owner_wanted(self, progress: Progress, now: int) -> AskOwner | TellOwner | None:
        """What is to be said to the owner now."""
        owner_at = readiness.owner_due_at(progress)
        if owner_at is None or now < owner_at or self.question is not None:
            return None
        if progress.consent is Consent.NOTICE:
            return TellOwner(progress.attempt_id, progress.notes)
        self.question = AskOwner(next(self._tokens), progress.attempt_id, progress.notes, progress.postponed)
        return self.question

    def look(self, state: PersistedState, senses: Senses, now: int) -> PersistedState:
        """See whether the next step may be done; a permit at hand is used when it may."""
        progress = steps.progress_of(state)
        has_permit = now <= self._permit_until
        downloaded = progress.phase is Phase.DOWNLOADED
        # Without need it does not look: while a refusal runs, cars that drive and park would tell of each change.
        if downloaded and not (progress.waiting_for or has_permit or now >= self.ask_at):
            return state
        cause = readiness.missing(progress, senses.conditions(now))
        self.away = readiness.comes_on_the_way(progress, cause) and senses.leaves_reach(now)
        self._look_at = now + self._look_every_ms if cause else 0
        state = readiness.wait_for(state, cause, now)
        if cause or not (downloaded and has_permit):
            return state
        self._permit_until = 0
        return steps.use_permit(state, now)

    def may_ask(self, progress: Progress) -> bool:
        """Whether nothing is missing for a permit, but perhaps what an offline one need not wait for."""
        return progress.phase is Phase.DOWNLOADED and (not progress.waiting_for or self.away)

    def permit_answered(self, state: PersistedState, reply: PermitReply, *, asked_at: int, now: int) -> PersistedState:
        """Keep a permit until `look` finds that all still holds, or wait as the refusal says."""
        progress = state.progress
        if progress is None or progress.phase is not Phase.DOWNLOADED:
            return state
        if reply.permitted:
            # A permit counts from when it was asked for: a slow answer must not stretch it.
            until = asked_at + reply.valid_for_ms
            if reply.attempt_id == progress.attempt_id and now <= until:
                self._permit_until, self.ask_at = until, until + 1
                return steps.permitted(state)
            self.ask_at = now + self._pace.backoff(0, self._rng)
            return state
        if reply.retry_after_ms is None:
            return steps.end(state)
        self.ask_at = now + self._pace.retry_after(reply.retry_after_ms, self._rng)
        return state

    def owner_answered(self, state: PersistedState, happened: Input, now: int) -> PersistedState:
        """Take the owner's word.

        Raises:
            TypeError: it is something else.
        """
        self.question = None
        match happened:
            case OwnerAnswered(answer=OwnerAnswer.YES):
                return readiness.agreed(state)
            case OwnerAnswered(answer=OwnerAnswer.LATER, ask_again_at=ask_again_at):
                return readiness.postponed(state, ask_again_at)
            case OwnerAnswered(answer=OwnerAnswer.NO):
                return readiness.declined(state, now)
            case _:
                raise TypeError(f"{happened!r} is not what an owner says")
