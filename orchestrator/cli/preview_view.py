"""How the preview of a plan reads: like the answer of a careful colleague.

Owns the order: what would happen, on which terms, who is left out, who else wants these vehicles, wave by wave, when
each region can move, what would stop it, what to look at twice. Leaves times of regions to `preview_regions` and the
gate's words to `preview_gate`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from outrider.v1.rollout_pb2 import CellCounts, PreviewRolloutResponse
from rich.console import RenderableType
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from orchestrator.cli import durations, words
from orchestrator.cli.preview_gate import stopping
from orchestrator.cli.preview_regions import messages, regions_table
from orchestrator.cli.screen import table
from orchestrator.cli.words import count, plain

EXCLUDED_WORDS: Mapping[str, str] = {
    "already_installed": "have this release already",
    "newer_installed": "have a newer one, by release counter",
    "intermediate_missing": "lack the intermediate release that the plan requires",
    "region_not_in_plan": "are in regions that the plan does not name",
    "no_image_for_hardware": "have hardware that the release has no image for",
}
"""By rule; any other rule is a field of the target."""


def preview_view(preview: PreviewRolloutResponse, *, with_plan: bool = False) -> list[RenderableType]:
    """A preview for people.

    Args:
        preview: as the server made it.
        with_plan: show the plan with every default filled in as well.
    """
    plan = plan_of(preview)
    parts: list[RenderableType] = [opening(preview), *terms(plan), *left_out(preview)]
    if preview.conflicts:
        parts += ["", plain("▲ Other rollouts", f"bold {words.AMBER}"), *indented(preview.conflicts)]
    if preview.waves:
        parts += ["", waves_table(preview, plan)]
    if preview.cells:
        parts.append(targets_table(preview.cells))
    if preview.regions:
        parts += [regions_table(preview.regions, plan), *indented(messages(preview.regions)), ""]
    if preview.targeted and (stops := stopping(preview)):
        parts += [plain("What would stop it", "bold"), *indented(stops), ""]
    if preview.warnings:
        numbered = [f"{number}. {warning}" for number, warning in enumerate(preview.warnings, start=1)]
        parts += [plain("▲ Look twice", f"bold {words.AMBER}"), *indented(numbered), ""]
    if with_plan:
        parts.append(plain("The plan with every default", "bold"))
        parts.append(Syntax(preview.effective_plan, "yaml", background_color="default"))
    return parts


def opening(preview: PreviewRolloutResponse) -> Text:
    """What would happen, in one sentence."""
    if not preview.targeted:
        return plain(f"Release {preview.release} would reach none of {count(preview.registered)} vehicles.", "bold")
    regions = {cell.region for cell in preview.cells}
    where = f"in {counted(len(regions), 'region')}, in {counted(len(preview.waves), 'wave')}"
    at_least = durations.in_words(preview.shortest_duration.seconds)
    text = Text()
    text.append_text(plain(f"Release {preview.release}", "bold"))
    text.append(f" would go to {count(preview.targeted)} of {count(preview.registered)} vehicles {where}; ")
    text.append(f"it takes {at_least} at the earliest")
    if preview.HasField("expected_duration") and preview.HasField("expected_often_duration"):
        often, seldom = preview.expected_often_duration.seconds, preview.expected_duration.seconds
        text.append(f", about {durations.in_words(often)} if all vehicles call often")
        text.append(f" and {durations.in_words(seldom)} if some call seldom")
    text.append(".")
    return text


def terms(plan: Mapping[str, Any]) -> list[Text]:
    """What it is for and on which terms it starts, where the plan says anything but the default."""
    said = []
    if plan.get("purpose", "quality") != "quality":
        said.append(f"its purpose is {plan['purpose']}")
    if plan.get("priority"):
        said.append(f"it has priority {plan['priority']}")
    if plan.get("requires"):
        said.append(f"vehicles need {plan['requires']} before")
    if plan.get("approvals"):
        said.append(f"{counted(plan['approvals'], 'person', 'people')} must approve it before it starts")
    if plan.get("on_halt", "stop") != "stop":
        said.append("a halt drafts the way back")
    if not said:
        return []
    sentence = "; ".join(said)
    return [plain(f"{sentence[0].upper()}{sentence[1:]}.")]


def left_out(preview: PreviewRolloutResponse) -> list[RenderableType]:
    """Who is left out and by what, most first; empty when nobody is."""
    if not preview.excluded:
        return [] if not preview.targeted else [plain("Nobody is left out.", words.DIM)]
    lines = sorted(preview.excluded.items(), key=lambda item: (-item[1], item[0]))
    text = Text(f"{count(sum(preview.excluded.values()))} are left out: ")
    text.append(words.clean("; ".join(f"{count(number)} {excluded_words(rule)}" for rule, number in lines)) + ".")
    return [text]


def excluded_words(rule: str) -> str:
    """Why vehicles are left out, as the end of a sentence."""
    return EXCLUDED_WORDS.get(rule, f"do not match `{rule}`")


def waves_table(preview: PreviewRolloutResponse, plan: Mapping[str, Any]) -> Table:
    """Vehicles that each wave adds, by region, how many have been let in by then, and what each wave asks for."""
    regions = sorted({region for wave in preview.waves for region in wave.added})
    asks = {str(wave.get("name")): wave for wave in plan.get("waves") or [] if isinstance(wave, dict)}
    columns = ("wave", "soak", "approvals", *regions, "adds", "so far")
    result = table(*columns, numbers=len(regions) + 2, title="Wave by wave")
    so_far = 0
    for wave in preview.waves:
        added = [wave.added.get(region, 0) for region in regions]
        so_far += sum(added)
        asked = asks.get(wave.wave, {})
        result.add_row(
            plain(wave.wave, "bold"),
            plain(str(asked.get("soak", words.NONE))),
            approvals_words(asked.get("approvals", 0)),
            *(count(number) if number else words.NONE for number in added),
            count(sum(added)),
            count(so_far),
        )
    return result


def approvals_words(number: object) -> Text:
    """How many people must approve."""
    if not isinstance(number, int) or not number:
        return Text(words.NONE, style=words.DIM)
    return Text(counted(number, "person", "people"), style=words.AMBER)


def targets_table(cells: Iterable[CellCounts]) -> Table:
    """Targeted vehicles by region and hardware: each of these is judged on its own."""
    numbers: dict[tuple[str, str], int] = {}
    for cell in cells:
        key = (cell.region, cell.hardware)
        numbers[key] = numbers.get(key, 0) + cell.targeted
    variants = sorted({hardware for _, hardware in numbers})
    result = table("region", *variants, "all", numbers=len(variants) + 1, title="Who, by hardware")
    for region in sorted({region for region, _ in numbers}):
        row = [numbers.get((region, hardware), 0) for hardware in variants]
        result.add_row(plain(region), *(count(number) if number else words.NONE for number in row), count(sum(row)))
    return result


def what_starts(preview: PreviewRolloutResponse) -> Text:
    """What begins at once, and how many vehicles it can reach before a person must look."""
    if not preview.waves:
        return plain("Nothing would begin.")
    first, plan = preview.waves[0], plan_of(preview)
    text = Text()
    if plan.get("approvals"):
        people = counted(plan["approvals"], "person", "people")
        text.append(f"It is written down as a draft: {people} must approve it before it can start. ")
    text.append("Starting it lets wave ").append_text(plain(first.wave, "bold"))
    regions = ", ".join(sorted(region for region, number in first.added.items() if number)) or "no region"
    text.append(f" begin at once: {count(sum(first.added.values()))} vehicles in {words.clean(regions)}. ")
    asks = {str(wave.get("name")): wave for wave in plan.get("waves") or [] if isinstance(wave, dict)}
    so_far = 0
    for wave in preview.waves:
        if asks.get(wave.wave, {}).get("approvals"):
            text.append(f"At most {count(so_far)} before somebody must approve wave {words.clean(wave.wave)}.")
            return text
        so_far += sum(wave.added.values())
    text.append(f"No wave asks for an approval: unless the gate stops it, all {count(so_far)} follow by themselves.")
    return text


def plan_of(preview: PreviewRolloutResponse) -> Mapping[str, Any]:
    """The plan with its defaults as the server wrote it; empty when this cannot be read."""
    try:
        document = yaml.safe_load(preview.effective_plan)
    except yaml.YAMLError:
        return {}
    return document if isinstance(document, dict) else {}


def indented(lines: Iterable[str]) -> list[RenderableType]:
    """Lines that belong to a heading above them; what is wrapped stays indented."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=1)
    grid.add_column(overflow="fold")
    for line in lines:
        grid.add_row("", plain(line))
    return [grid] if grid.row_count else []


def counted(number: int, noun: str, nouns: str = "") -> str:
    """For example `1 region` or `3 regions`."""
    return f"{count(number)} {noun if number == 1 else nouns or noun + 's'}"
