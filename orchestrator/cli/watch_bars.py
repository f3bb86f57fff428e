"""The two bars of a watch: how many vehicles are done, and how many regions are through each wave."""

from __future__ import annotations

from outrider.v1.rollout_pb2 import Rollout
from rich.text import Text

from orchestrator.cli import words
from orchestrator.cli.rollout_counts import Counts
from orchestrator.cli.words import clean, count, region_phase

FULL, EMPTY = "━", "─"
SEGMENT_MIN = 3
"""Columns of a wave's own bar; a terminal that has no room for them gets the numbers alone."""


def progress_line(counts: Counts, width: int) -> Text:
    """Done, hurt and under way as parts of one bar, and the numbers."""
    of_all = counts.done / counts.targeted if counts.targeted else 0.0
    said = f" {count(counts.done)} of {count(counts.targeted)} done ({of_all:.0%}), {count(counts.active)} under way"
    room = max(0, width - len(said) - 1)
    done, hurt, active = (
        cells(number, counts.targeted, room) for number in (counts.done, counts.failed + counts.lost, counts.active)
    )
    rest = max(0, room - done - hurt - active)
    text = Text(FULL * done, words.GREEN, no_wrap=True, overflow="crop")
    # Hurt vehicles have a shape of their own: colour is not for everybody.
    text.append("╳" * hurt, words.RED).append("╌" * active, words.BLUE).append(EMPTY * rest, words.DIM)
    return text.append(said, "bold")


def cells(number: int, of_all: int, room: int) -> int:
    """Columns for a part: at least one for what is there at all."""
    if number <= 0 or of_all <= 0:
        return 0
    return max(1, min(room, round(room * number / of_all)))


def wave_line(rollout: Rollout, width: int) -> Text:
    """Each wave with the number of regions that are through it; `▶` where some region is now."""
    regions = len(rollout.regions)
    labels: list[tuple[str, int, str]] = []
    for index, wave in enumerate(rollout.waves):
        through = sum(is_through(item.wave, region_phase(item.phase), index) for item in rollout.regions)
        here = any(item.wave == index and region_phase(item.phase) == "rolling" for item in rollout.regions)
        sign = "✓" if through == regions and regions else "▶" if here else "·"
        labels.append((f"{sign} {clean(wave)} {through}/{regions}", through, sign))
    used = sum(len(label) + 3 for label, _, _ in labels)
    bar = max(0, (width - used) // max(1, len(labels)))
    text = Text(no_wrap=True, overflow="ellipsis")
    for label, through, sign in labels:
        style = words.GREEN if sign == "✓" else "bold" if sign == "▶" else words.DIM
        text.append(label, style)
        if bar >= SEGMENT_MIN:
            full = cells(through, regions, bar)
            text.append(" ").append(FULL * full, words.GREEN).append(EMPTY * (bar - full), words.DIM)
        text.append("  ")
    return text


def is_through(wave: int, phase: str, index: int) -> bool:
    """Whether a region in `phase` of `wave` has wave `index` behind it."""
    return wave > index or phase in ("aging", "holdout", "done")
