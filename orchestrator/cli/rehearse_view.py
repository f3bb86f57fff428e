"""How a rehearsal reads: what was assumed, how it ended, when each region came where, what chance makes of it.

Owns the words and the order. Numbers come from `orchestrator.rehearsal.story`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli.durations import in_words
from orchestrator.cli.preview_view import counted, indented
from orchestrator.cli.screen import fields, table
from orchestrator.cli.words import NONE, count, percent, plain, status
from orchestrator.rehearsal.intervals import Share, Spread
from orchestrator.rehearsal.rehearse import Rehearsal
from orchestrator.rehearsal.run import Ending
from orchestrator.rehearsal.story import Chances, Story, Turn, chances, typical

DAY_S = 86_400
EVENTS_SHOWN = 12
REGIONS_SHOWN = 6
_SAID = {
    Ending.COMPLETED: "completed",
    Ending.HALTED: "halted by the gate",
    Ending.HELD: "held: needs a person",
    Ending.STALLED: "neither through nor stopped in time",
}
_MARKED = {Ending.COMPLETED: "completed", Ending.HALTED: "halted", Ending.HELD: "held", Ending.STALLED: "waiting"}


def title(rehearsal: Rehearsal) -> str:
    """What was rehearsed, in a line."""
    name = f"{rehearsal.plan.name}: " if rehearsal.plan.name else ""
    size = count(rehearsal.scenario.inventory.size)
    return f"{name}release {rehearsal.plan.release} rehearsed on {size} vehicle{'s' if size != '1' else ''}"


def assumptions(rehearsal: Rehearsal) -> str:
    """What was assumed, in a line."""
    scenario = rehearsal.scenario
    release = scenario.release
    said = [f"{percent(release.failure_rate)} fail, {percent(release.silent_share)} of them silently"]
    if release.failure_rates:
        said.append(f"other rates in {len(release.failure_rates)} cells")
    said.append(f"fleet model {scenario.fleet.name}")
    said += [
        f"{one.region} out of reach from day {one.from_h / 24:g} to {one.until_h / 24:g}" for one in scenario.outages
    ]
    runs = len(rehearsal.stories)
    seeds = (
        f"seeds {rehearsal.stories[0].seed} to {rehearsal.stories[-1].seed}"
        if runs > 1
        else f"seed {rehearsal.stories[0].seed}"
    )
    return f"Assumed: {'; '.join(said)}; {seeds}."


def view(rehearsal: Rehearsal, svg: Path | None) -> list[RenderableType]:
    """A rehearsal for people."""
    story = typical(rehearsal.stories)
    parts: list[RenderableType] = [
        plain(f"{title(rehearsal)}.", "bold"),
        plain(assumptions(rehearsal)),
        *_excluded(rehearsal),
        "",
    ]
    if len(rehearsal.stories) > 1:
        parts += [
            *_together(rehearsal, chances(rehearsal.stories)),
            plain(f"The run in the middle (seed {story.seed})", "bold"),
        ]
    parts += [*_ending(story), "", walks(story)]
    if events := _events(story):
        parts += [plain("What happened", "bold"), *indented(events), ""]
    parts += [plain("What this model leaves out", "bold"), *indented(rehearsal.left_out)]
    if svg is not None:
        parts += ["", plain(f"Plot: {svg}")]
    return parts


def walks(story: Story) -> Table:
    """When each region came to each wave and phase: one row each, regions side by side."""
    openings = story.openings()
    shown = list(openings)[:REGIONS_SHOWN]
    reached = {region: {turn.phase: turn.days for turn in openings[region]} for region in shown}
    phases = dict.fromkeys(turn.phase for turn in sorted(story.turns, key=lambda one: one.days) if turn.phase)
    result = table("came to", *shown, numbers=len(shown), title="When each region came to each wave")
    for phase in phases:
        result.add_row(plain(phase, "bold"), *(days(reached[region].get(phase)) for region in shown))
    if len(openings) > len(shown):
        result.caption = f"and {len(openings) - len(shown)} more regions; --output json has them all"
    return result


def days(value: float | None) -> str:
    """A span of days in words; a dash when there is none."""
    return NONE if value is None else in_words(value * DAY_S)


def _excluded(rehearsal: Rehearsal) -> list[RenderableType]:
    inventory = rehearsal.scenario.inventory
    if not inventory.excluded:
        return []
    reasons = ", ".join(f"{count(number)} by `{field}`" for field, number in sorted(inventory.excluded.items()))
    return [plain(f"Of {count(inventory.registered)} vehicles in the file {reasons} are left out.")]


def _ending(story: Story) -> list[RenderableType]:
    end = story.end
    line = Text().append_text(status(_MARKED[story.ending])).append(f" after {days(story.ended_days)}")
    if story.ending is Ending.STALLED:
        line = Text(f"{_SAID[story.ending]}: given up after {days(story.ended_days)}", style="yellow")
    parts: list[RenderableType] = [line]
    if story.ending is not Ending.COMPLETED and story.reason:
        rule = f"{story.rule}: " if story.rule else ""
        parts += indented([f"{rule}{story.reason}"])
    share = end.harmed / max(1, story.targeted)
    parts.append(
        fields(
            ("half done", days(story.days_to_half)),
            ("95 % done", days(story.days_to_95)),
            ("all done", days(story.days_to_all)),
            ("exposed", f"{count(end.exposed)} of {count(story.targeted)}"),
            ("succeeded", f"{count(end.succeeded)} of {count(story.targeted)}"),
            ("harmed", f"{count(end.harmed)} ({percent(share)} of the target)"),
            ("held", f"{counted(story.holds, 'time')}, {days(story.held_days)} in all" if story.holds else "never"),
        )
    )
    return parts


def _events(story: Story) -> list[str]:
    turns = [turn for turn in story.turns if not turn.phase]
    lines = [_event(turn) for turn in turns[:EVENTS_SHOWN]]
    if len(turns) > EVENTS_SHOWN:
        lines.append(f"and {len(turns) - EVENTS_SHOWN} more; --output json has them all")
    return lines


def _event(turn: Turn) -> str:
    return f"day {turn.days:.1f}: {turn.kind.replace('_', ' ')}: {turn.text}"


def _together(rehearsal: Rehearsal, found: Chances) -> list[RenderableType]:
    runs = len(rehearsal.stories)
    result = table(
        "in all runs", "least", "median", "mean", "90 % within", "most", "runs", numbers=6, title=f"{runs} runs"
    )
    _add(result, "vehicles harmed", found.harmed, plain_number)
    for name, spread in (
        ("half done", found.days_to_half),
        ("95 % done", found.days_to_95),
        ("all done", found.days_to_all),
        ("stopped", found.stopped_days),
    ):
        _add(result, name, spread, days)
    ends = table("it ends", "runs", "share", "95 % interval", numbers=3)
    for ending, share in found.endings.items():
        if share.hits:
            ends.add_row(Text(_SAID[ending]), count(share.hits), percent(share.share), interval(share))
    return [result, ends, verdict(rehearsal, found), *_rules(found), ""]


def verdict(rehearsal: Rehearsal, found: Chances) -> Text:
    """The chance that matters: of a false stop if the release keeps the limit, of any if it does not."""
    limit = rehearsal.plan.gate.failure_ratio_max
    release = rehearsal.scenario.release
    good = max(release.failure_rate, *release.failure_rates.values(), 0.0) <= limit
    name = "Chance of a false stop" if good else "Chance that it is stopped"
    why = (
        f"the release keeps the limit of {percent(limit)}"
        if good
        else f"the release breaks the limit of {percent(limit)}"
    )
    return plain(
        f"{name}: {percent(found.stopped.share)}, within {interval(found.stopped)} at 95 % confidence ({why}).", "bold"
    )


def interval(share: Share) -> str:
    """An interval in percent."""
    return f"{percent(share.low)} to {percent(share.high)}"


def plain_number(value: float) -> str:
    """A count that may be a mean."""
    return count(value) if value == int(value) else f"{value:,.1f}"


def _rules(found: Chances) -> Sequence[RenderableType]:
    if not found.rules:
        return []
    return [plain(f"Stopped by: {', '.join(f'{rule} in {number}' for rule, number in found.rules.items())}.")]


def _add(result: Table, name: str, spread: Spread | None, words: Callable[[float], str]) -> None:
    if spread is None:
        result.add_row(name, *(NONE,) * 5, "0")
        return
    values = (spread.least, spread.median, spread.mean, spread.ninety, spread.most)
    result.add_row(name, *(words(value) for value in values), str(spread.runs))
