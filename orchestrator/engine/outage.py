"""Outages: whether a region's network seems to be down, by how many calls come from it.

Owns the rule and its thresholds. Who counts the calls is the store, what a dark region leads to is the matter of
`brakes`. Silence of a whole region is no evidence against a release: its checkpoints wait, and nobody new is admitted.

The same half hour of the day before is what is normal: nights and rush hours are in both. A region of few calls says
nothing either way. What was dark for more than a day is held against that day: it is light again as soon as as many
call, if any do.
"""

from __future__ import annotations

DARK_BELOW = 0.3
"""Part of the calls of a day before below which a region goes dark."""
LIGHT_ABOVE = 0.5
"""Part of these from which it is light again: higher, so that it does not flicker."""
DAY_MS = 24 * 3_600_000
CALLS_MIN = 30
"""Calls of a day before from which fewer of them mean anything."""


def is_dark(recent: int, day_before: int, *, dark_ms: int | None) -> bool:
    """Whether a region is dark now.

    Args:
        recent: Calls in the last whole half hour.
        day_before: Calls in the same half hour a day before; 0 also when nobody counted then.
        dark_ms: Fleet time for which it has been dark; None while it is light.
    """
    if dark_ms is not None:
        # After a day of it the day before was dark as well: whoever still calls then is what the region has become.
        least = CALLS_MIN if dark_ms < DAY_MS else 1
        return recent < LIGHT_ABOVE * max(day_before, least)
    return day_before >= CALLS_MIN and recent < DARK_BELOW * day_before
