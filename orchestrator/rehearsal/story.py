"""What a rehearsal tells: one run as a story, several as chances.

Owns the values; how they come about is the matter of `rehearse`, how they look that of the command line and `plot`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.rehearsal.intervals import Share, Spread, share, spread
from orchestrator.rehearsal.run import Ending

STOPPED = (Ending.HALTED, Ending.HELD)
"""Ends that need a person."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Counts at one moment."""

    days: float
    exposed: int
    succeeded: int
    harmed: int
    """Vehicles that the release broke, or will once they have installed: the silent ones and those on the way too."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Something that changed."""

    days: float
    kind: str
    """`rollout_started`, `regions_advanced`, `rollout_<status>`, `part_<brake>`, `part_cleared`, `outage`."""
    region: str
    """Empty: the whole rollout."""
    phase: str
    """Where the region stands after it: the name of a wave, or a phase; empty when no region moved."""
    text: str
    """For people."""


@dataclass(frozen=True, slots=True)
class Story:
    """One run."""

    seed: int
    targeted: int
    ending: Ending
    rule: str
    """What stopped it, as the gate names it; empty when nothing did."""
    reason: str
    """The same in words, with the numbers."""
    ended_days: float
    days_to_half: float | None
    """Until half of the targeted vehicles had succeeded; None when they never did."""
    days_to_95: float | None
    days_to_all: float | None
    """Until the rollout was completed."""
    holds: int
    """How often the gate held."""
    held_days: float
    """How long it was held in all."""
    curve: Sequence[Moment]
    """In the order of time; the last is the end."""
    turns: Sequence[Turn]
    """In the order of time."""

    @property
    def end(self) -> Moment:
        """The last moment."""
        return self.curve[-1]

    @property
    def harmed(self) -> int:
        """Vehicles that the release broke."""
        return self.end.harmed

    @property
    def stopped(self) -> bool:
        """Whether it ended with a person being asked."""
        return self.ending in STOPPED

    def openings(self) -> Mapping[str, Sequence[Turn]]:
        """Each region's walk: when it came to each wave or phase."""
        walks: dict[str, list[Turn]] = {}
        for turn in self.turns:
            if turn.phase:
                walks.setdefault(turn.region, []).append(turn)
        return walks


@dataclass(frozen=True, slots=True)
class Chances:
    """What several runs say together."""

    endings: Mapping[Ending, Share]
    """Every ending, with its interval."""
    stopped: Share
    """Halted, or held for a person."""
    rules: Mapping[str, int]
    """What stopped runs, most frequent first."""
    harmed: Spread
    days_to_half: Spread | None
    """Of the runs that came so far; None when none did."""
    days_to_95: Spread | None
    days_to_all: Spread | None
    stopped_days: Spread | None
    """When runs were stopped."""


def chances(stories: Sequence[Story]) -> Chances:
    """Several runs together.

    Args:
        stories: At least one.
    """
    runs = len(stories)
    endings = Counter(story.ending for story in stories)
    rules = Counter(story.rule for story in stories if story.stopped)
    harmed = spread([story.harmed for story in stories])
    assert harmed is not None
    return Chances(
        endings={ending: share(endings[ending], runs) for ending in Ending},
        stopped=share(sum(story.stopped for story in stories), runs),
        rules=dict(rules.most_common()),
        harmed=harmed,
        days_to_half=_spread_of([story.days_to_half for story in stories]),
        days_to_95=_spread_of([story.days_to_95 for story in stories]),
        days_to_all=_spread_of([story.days_to_all for story in stories]),
        stopped_days=_spread_of([story.ended_days for story in stories if story.stopped]),
    )


def typical(stories: Sequence[Story]) -> Story:
    """The run in the middle: by harm, then by its end; the lower one of an even number."""
    ordered = sorted(stories, key=lambda story: (story.harmed, story.ended_days, story.seed))
    return ordered[(len(ordered) - 1) // 2]


def _spread_of(values: Sequence[float | None]) -> Spread | None:
    return spread([value for value in values if value is not None])
