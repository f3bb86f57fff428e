"""Stories with defaults."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.rehearsal.run import Ending
from orchestrator.rehearsal.story import Moment, Story, Turn


def a_turn(*, days: float = 0.0, region: str = "eu", phase: str = "first", kind: str = "regions_advanced") -> Turn:
    """A region that came to a wave."""
    return Turn(days, kind, region, phase, f"{region}: {phase}")


def a_story(
    *,
    seed: int = 1,
    ending: Ending = Ending.COMPLETED,
    rule: str = "",
    ended_days: float = 20.0,
    days_to_95: float | None = 15.0,
    exposed: int = 1000,
    harmed: int = 12,
    targeted: int = 1000,
    turns: Sequence[Turn] | None = None,
) -> Story:
    """A run of two regions that came through."""
    walk = [a_turn(), a_turn(region="us"), a_turn(days=ended_days / 2, phase="everybody")]
    return Story(
        seed=seed,
        targeted=targeted,
        ending=ending,
        rule=rule,
        reason="because" if rule else "",
        ended_days=ended_days,
        days_to_half=10.0,
        days_to_95=days_to_95,
        days_to_all=ended_days if ending is Ending.COMPLETED else None,
        holds=0,
        held_days=0.0,
        curve=[Moment(0.0, 0, 0, 0), Moment(ended_days, exposed, exposed - harmed if exposed > harmed else 0, harmed)],
        turns=walk if turns is None else turns,
    )
