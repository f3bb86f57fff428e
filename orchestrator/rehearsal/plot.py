"""A rehearsal as a picture: regions in their waves, exposure and success, harm, over days.

Owns the layout. Elements and colours are `svg`'s matter. The picture shows one run in full, and others of the same
plan as thin lines behind it, so that chance is seen as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orchestrator.rehearsal.run import Ending
from orchestrator.rehearsal.story import Moment, Story, Turn
from orchestrator.rehearsal.svg import Scale, document, element, line, path, text, ticks

WIDTH = 960.0
LANES_MAX = 12
"""Regions that are drawn; of more, only how many they are."""
OTHERS_MAX = 60
"""Runs that are drawn behind the one in front."""

_LEFT, _RIGHT, _TOP, _LANE, _GAP = 76.0, 28.0, 66.0, 24.0, 38.0
_PROGRESS, _HARM, _FOOT = 230.0, 130.0, 62.0
_LETTER = 6.2
"""Width of a small letter, about: whether a name fits into its wave."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """One chart: its scales, and where it begins and ends."""

    x: Scale
    y: Scale

    def points(self, curve: Sequence[Moment], value: Callable[[Moment], float]) -> list[tuple[float, float]]:
        return [(self.x.at(moment.days), self.y.at(value(moment))) for moment in curve]


def plot(story: Story, *, title: str, subtitle: str, others: Sequence[Story] = ()) -> str:
    """The picture of a rehearsal, as the text of an SVG file.

    Args:
        story: The run in front.
        title: In a few words.
        subtitle: What was assumed.
        others: More runs of the same plan, drawn behind it.
    """
    behind = [one for one in others if one is not story][:OTHERS_MAX]
    days = ticks(max(one.ended_days for one in (story, *behind)), 12)
    x = Scale(0.0, max(days[-1], 1e-9), _LEFT, WIDTH - _RIGHT)
    walks = story.openings()
    lanes = list(walks)[:LANES_MAX]
    lanes_end = _TOP + _LANE * len(lanes) + (16.0 if len(walks) > len(lanes) else 0.0)
    shares = ticks(max(_percent(one.end.exposed, one) for one in (story, *behind)), 5)
    progress = _Frame(x, Scale(0.0, shares[-1], lanes_end + _GAP + _PROGRESS, lanes_end + _GAP))
    harm_top = progress.y.start + _GAP
    harmed = ticks(max(one.harmed for one in (story, *behind)), 4)
    harm = _Frame(x, Scale(0.0, harmed[-1], harm_top + _HARM, harm_top))
    height = harm.y.start + _FOOT
    parts = [
        text(_LEFT, 26, title, "ink title"),
        text(_LEFT, 46, subtitle, "faint"),
        *_progress(story, behind, progress, days, shares),
        *_harm(story, behind, harm, days, harmed),
        *_lanes(story, lanes, len(walks), x),
        *_marks(story, x, _TOP, harm.y.start),
        *_days(days, x, harm.y.start),
    ]
    return document(WIDTH, height, title, f"{subtitle} {_told(story)}", parts)


def _lanes(story: Story, lanes: Sequence[str], regions: int, x: Scale) -> list[str]:
    parts = []
    walks = story.openings()
    for row, region in enumerate(lanes):
        y = _TOP + row * _LANE
        parts.append(text(_LEFT - 8, y + 15, _fitted(region, _LEFT - 12), "ink end"))
        walk = walks[region]
        for index, turn in enumerate(walk):
            end = walk[index + 1].days if index + 1 < len(walk) else story.ended_days
            parts += _lane(turn, x.at(turn.days), x.at(end), y, index)
    if regions > len(lanes):
        more = f"and {regions - len(lanes)} more regions"
        parts.append(text(_LEFT, _TOP + len(lanes) * _LANE + 12, more, "faint small"))
    return parts


def _lane(turn: Turn, start: float, end: float, y: float, index: int) -> list[str]:
    width = max(1.0, end - start)
    shade = "lane-b-fill" if index % 2 else "lane-a-fill"
    bar = element("title", f"{turn.phase}: from day {turn.days:.1f}".replace("&", "&amp;").replace("<", "&lt;"))
    parts = [element("rect", bar, x=start, y=y, width=width, height=_LANE - 4, class_=shade)]
    name = _fitted(turn.phase, width - 8)
    # A name of which only a letter or two would be left says less than none.
    if len(name) > 3 or name == turn.phase:
        parts.append(text(start + 4, y + 14, name, "ink small"))
    return parts


def _progress(
    story: Story, behind: Sequence[Story], frame: _Frame, days: Sequence[float], marks: Sequence[float]
) -> list[str]:
    def exposed(one: Story) -> Callable[[Moment], float]:
        return lambda moment: _percent(moment.exposed, one)

    def succeeded(one: Story) -> Callable[[Moment], float]:
        return lambda moment: _percent(moment.succeeded, one)

    parts = _grid(frame, days, marks, lambda value: f"{value:g} %")
    parts.append(text(_LEFT, frame.y.end - 10, "of the targeted vehicles", "faint small halo"))
    parts += _legend(frame.y.end - 10, (("exposed", "had a permit"), ("succeeded", "proved that they run it")))
    parts += [path(frame.points(one.curve, succeeded(one)), "thin succeeded-stroke") for one in behind]
    above = frame.points(story.curve, exposed(story))
    if above:
        floor = frame.y.at(0.0)
        parts.append(path([(above[0][0], floor), *above, (above[-1][0], floor)], "area exposed-fill"))
    parts.append(path(above, "line exposed-stroke"))
    parts.append(path(frame.points(story.curve, succeeded(story)), "line succeeded-stroke"))
    return parts


def _harm(
    story: Story, behind: Sequence[Story], frame: _Frame, days: Sequence[float], marks: Sequence[float]
) -> list[str]:
    parts = _grid(frame, days, marks, lambda value: f"{value:,.0f}" if value == int(value) else f"{value:g}")
    parts.append(text(_LEFT, frame.y.end - 10, "vehicles that the release broke, or will", "faint small halo"))
    parts += _legend(frame.y.end - 10, (("harmed", f"harmed: {story.harmed:,}"),))
    parts += [path(frame.points(one.curve, lambda moment: moment.harmed), "thin harmed-stroke") for one in behind]
    parts.append(path(frame.points(story.curve, lambda moment: moment.harmed), "line harmed-stroke"))
    return parts


def _marks(story: Story, x: Scale, top: float, bottom: float) -> list[str]:
    """Where the rollout as a whole was stopped, cleared or hit from outside, and how it ended."""
    parts = [
        element("g", element("title", _escaped(turn.text)) + _upright(x.at(turn.days), top, bottom))
        for turn in story.turns
        if not turn.phase and turn.kind in ("rollout_held", "outage")
    ]
    at = x.at(story.ended_days)
    stopped = story.ending is not Ending.COMPLETED
    parts.append(line(at, top, at, bottom, f"mark {'stop' if stopped else 'succeeded'}-stroke"))
    words = f"{story.ending.value}{f' by {story.rule}' if story.rule else ''}, day {story.ended_days:.1f}"
    left = at > WIDTH / 2
    colour = "stop-fill" if stopped else "succeeded-fill"
    parts.append(text(at - 6 if left else at + 6, bottom - 8, words, f"{colour} small halo{' end' if left else ''}"))
    return parts


def _upright(at: float, top: float, bottom: float) -> str:
    return line(at, top, at, bottom, "mark dash hold-stroke")


def _days(days: Sequence[float], x: Scale, y: float) -> list[str]:
    parts = [text(x.at(day), y + 18, f"{day:g}", "faint small middle") for day in days]
    parts.append(text((_LEFT + WIDTH - _RIGHT) / 2, y + 38, "days since the start", "faint middle"))
    return parts


def _grid(frame: _Frame, days: Sequence[float], values: Sequence[float], words: Callable[[float], str]) -> list[str]:
    parts = [line(frame.x.at(day), frame.y.start, frame.x.at(day), frame.y.end, "rule grid-stroke") for day in days]
    for value in values:
        y = frame.y.at(value)
        parts.append(line(frame.x.start, y, frame.x.end, y, "rule grid-stroke"))
        parts.append(text(_LEFT - 8, y + 4, words(value), "faint small end"))
    return parts


def _legend(y: float, entries: Sequence[tuple[str, str]]) -> list[str]:
    parts = []
    right = WIDTH - _RIGHT
    for colour, words in reversed(entries):
        start = right - len(words) * _LETTER
        parts.append(line(start - 26, y - 4, start - 8, y - 4, f"line {colour}-stroke"))
        parts.append(text(right, y, words, "ink small end halo"))
        right = start - 40
    return parts


def _percent(count: int, story: Story) -> float:
    return 100.0 * count / max(1, story.targeted)


def _fitted(words: str, width: float) -> str:
    letters = int(width / _LETTER)
    return words if len(words) <= letters else f"{words[: max(0, letters - 1)]}…" if letters > 1 else ""


def _escaped(words: str) -> str:
    return words.replace("&", "&amp;").replace("<", "&lt;")


def _told(story: Story) -> str:
    end = story.end
    return (
        f"After {story.ended_days:.1f} days the rollout was {story.ending.value}: {end.exposed:,} of "
        f"{story.targeted:,} vehicles exposed, {end.succeeded:,} succeeded, {end.harmed:,} harmed."
    )
