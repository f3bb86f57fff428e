"""How the preview of a plan looks: who is targeted, wave by wave, who is left out, and what deserves a second look."""

from __future__ import annotations

from collections.abc import Iterable

from outrider.v1.rollout_pb2 import CellCounts, PreviewRolloutResponse
from rich.console import RenderableType
from rich.syntax import Syntax
from rich.table import Table

from orchestrator.cli import durations, words
from orchestrator.cli.screen import fields, table
from orchestrator.cli.words import count, plain


def preview_view(preview: PreviewRolloutResponse, *, with_plan: bool = False) -> list[RenderableType]:
    """A preview for people.

    Args:
        preview: as the server made it.
        with_plan: show the plan with every default filled in as well.
    """
    parts: list[RenderableType] = [
        fields(
            ("release", plain(preview.release, "bold")),
            ("targeted", f"{count(preview.targeted)} of {count(preview.registered)} registered vehicles"),
            ("takes at least", durations.in_words(preview.shortest_duration.seconds)),
        ),
        waves_table(preview),
        targets_table(preview.cells),
    ]
    if preview.excluded:
        parts.append(excluded_table(preview))
    if with_plan:
        parts.append(Syntax(preview.effective_plan, "yaml", background_color="default"))
    parts += [plain(f"▲ warning: {warning}", words.AMBER) for warning in preview.warnings]
    return parts


def waves_table(preview: PreviewRolloutResponse) -> Table:
    """Vehicles that each wave adds, by region."""
    regions = sorted({region for wave in preview.waves for region in wave.added})
    result = table("wave", *regions, "all", numbers=len(regions) + 1, title="Added by each wave")
    for wave in preview.waves:
        added = [wave.added.get(region, 0) for region in regions]
        result.add_row(plain(wave.wave), *map(count, added), count(sum(added)))
    return result


def targets_table(cells: Iterable[CellCounts]) -> Table:
    """Targeted vehicles by region, hardware and cohort."""
    result = table("region", "hardware", "cohort", "vehicles", numbers=1, title="Targeted")
    for cell in sorted(cells, key=lambda item: (item.region, item.hardware, item.cohort)):
        result.add_row(plain(cell.region), plain(cell.hardware), plain(cell.cohort), count(cell.targeted))
    return result


def excluded_table(preview: PreviewRolloutResponse) -> Table:
    """Vehicles left out, by the rule that leaves them out."""
    result = table("rule", "vehicles", numbers=1, title="Left out")
    for rule, number in sorted(preview.excluded.items(), key=lambda item: (-item[1], item[0])):
        result.add_row(plain(rule), count(number))
    return result
