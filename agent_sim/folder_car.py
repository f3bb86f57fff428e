"""A car whose sensors and owner are files in its provisioned folder: whoever holds the folder plays both.

Owns how the files become conditions and answers; leaves their form to `provisioned`, and everything else to `car`.
"""

from __future__ import annotations

from dataclasses import replace

from agent_sim.actions import Action, AskOwner, Input, OwnerAnswer, OwnerAnswered
from agent_sim.car import Car, Errand
from agent_sim.messages import Conditions
from agent_sim.provisioned import AGREED, DECLINED, ProvisionedFolder

_LOOK_EVERY_MS = 30_000
"""Fleet time between two looks for the owner's answer."""
_ANSWERS = {AGREED: OwnerAnswer.YES, DECLINED: OwnerAnswer.NO}


class FolderCar(Car):
    """One vehicle, by its folder."""

    folder: ProvisionedFolder
    """Set before the first start."""
    _question: AskOwner | None = None
    _look_at: int = 0

    def conditions(self, now: int) -> Conditions:
        """What conditions.json says, with the room that is left."""
        room = super().conditions(now).storage_free_bytes
        return replace(self.folder.conditions(), storage_free_bytes=room)

    @property
    def due_at(self) -> int | None:
        """As any car, and when to look for the owner's answer."""
        times = [] if self._question is None else [self._look_at]
        others = super().due_at
        return min(times if others is None else [*times, others], default=None)

    def handle_due(self, now: int) -> list[Errand]:
        """Look for the owner's answer, then as any car."""
        if self._question is not None and now >= self._look_at:
            question, said = self._question, self.folder.consent(self._question.attempt_id)
            self._look_at = now + _LOOK_EVERY_MS
            if said in _ANSWERS:
                self._question = None
                return self._say(question.attempt_id, OwnerAnswered(question.token, _ANSWERS[said]), now)
        return super().handle_due(now)

    def _do(self, action: Action, now: int, errands: list[Errand]) -> Input | None:
        if isinstance(action, AskOwner):
            self._question, self._look_at = action, now
            return None
        return super()._do(action, now, errands)
