"""What a Primary can find out about its vehicle, whatever stands behind it: sensors, a model, a file."""

from __future__ import annotations

from typing import Protocol

from agent_sim.messages import Conditions, Diagnostic


class Senses(Protocol):
    """What a Primary can find out about its vehicle."""

    def conditions(self, now: int) -> Conditions:
        """How it stands."""

    def leaves_reach(self, now: int) -> bool:
        """Whether it is on its way to where it has no link."""

    def diagnostics(self, now: int) -> tuple[Diagnostic, ...]:
        """Trouble codes that are active."""
