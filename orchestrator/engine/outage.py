"""Outages: whether a region's network seems to be down, by how many calls come from it.

Owns the rule and its thresholds. Who counts the calls is the store, what a dark region leads to is the matter of
`brakes`. Silence of a whole region is no evidence against a release: its checkpoints wait, and nobody new is admitted.

The same half hour of the day before is what is normal: nights and rush hours are in both. A region of few calls says
nothing either way, and neither does one that was dark a day before; then it stays as it stands until calls come again.
"""

from __future__ import annotations

DARK_BELOW = 0.3
"""Part of the calls of a day before below which a region goes dark."""
LIGHT_ABOVE = 0.5
"""Part of these from which it is light again: higher, so that it does not flicker."""
CALLS_MIN = 30
"""Calls of a day before from which fewer of them mean anything."""


def is_dark(recent: int, day_before: int, *, dark: bool) -> bool:
    """Whether a region is dark now.

    Args:
        recent: Calls in the last whole half hour.
        day_before: Calls in the same half hour a day before; 0 also when nobody counted then.
        dark: Whether it was dark so far.
    """
    if dark:
        return recent < LIGHT_ABOVE * max(day_before, CALLS_MIN)
    return day_before >= CALLS_MIN and recent < DARK_BELOW * day_before
