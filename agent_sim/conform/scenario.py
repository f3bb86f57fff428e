"""What a scenario is: a name, the clauses it can judge, and what happens on the stage."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from agent_sim.conform.stage import Stage

Play = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario."""

    name: str
    story: str
    """What the server does, for the progress line and the report."""
    clauses: tuple[str, ...]
    """What it judges beside the invariants."""
    play: Play
    short: bool = False
    """Whether it belongs to the short form."""
