"""What a simulated vehicle truly is and did, as one value: its agent's memory, and the simulator's own record.

Owns the form on disk. Leaves how it comes about to `car`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agent_sim.errors import StateError
from agent_sim.persisted import PersistedState, state_from_json


@dataclass(frozen=True, slots=True)
class CarState:
    """What a vehicle is, and what truly happened to it; survives the simulator's own restart."""

    agent: PersistedState
    boots: int = 0
    bricked_by: str = ""
    """Release that silenced it; empty when it lives."""
    attempts: tuple[tuple[str, str], ...] = ()
    """(attempt id, release) of every attempt it took up, in order."""
    permits: tuple[str, ...] = ()
    """Attempts it got a permit for, in order."""
    installs: tuple[str, ...] = ()
    """Attempts it restarted into new slots for, in order."""
    installed_at: int = 0
    """Fleet time at which it last came up in new slots; 0: never."""
    answers: tuple[tuple[str, str], ...] = ()
    """(attempt id, answer) of every answer of its owner, in order."""

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "agent": self.agent.to_json(),
            "boots": self.boots,
            "bricked_by": self.bricked_by,
            "attempts": self.attempts,
            "permits": self.permits,
            "installs": self.installs,
            "installed_at": self.installed_at,
            "answers": self.answers,
        }


def car_state_from_json(data: Any) -> CarState:
    """Read back what `to_json` wrote.

    Raises:
        StateError: it is something else.
    """
    try:
        return CarState(
            agent=state_from_json(data["agent"]),
            boots=data["boots"],
            bricked_by=data["bricked_by"],
            attempts=tuple((attempt_id, release) for attempt_id, release in data["attempts"]),
            permits=tuple(data["permits"]),
            installs=tuple(data["installs"]),
            installed_at=data["installed_at"],
            answers=tuple((attempt_id, answer) for attempt_id, answer in data["answers"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(f"a vehicle's state cannot be read: {error!r}") from error
