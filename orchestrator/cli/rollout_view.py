"""How a rollout looks: status, each region's walk over the waves, region x cohort, the gate's last word.

Leaves what is to be said of single parts (brakes, signals, strata) to `rollout_parts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from google.protobuf.timestamp_pb2 import Timestamp
from outrider.v1.rollout_pb2 import GateReport, RegionProgress, Rollout
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.cli import durations, rollout_parts, words
from orchestrator.cli.gate_words import deciding
from orchestrator.cli.rollout_counts import Counts, by_region_and_cohort, endings, losses, total
from orchestrator.cli.screen import fields, table
from orchestrator.cli.words import count, moment, of_id, phase_of, plain, region_phase, rollout_status, since, status

COUNTED = ("targeted", "done", "active", "failed", "silent", "ended", "waiting")
BAR_WIDTH = 40
STANDS_STILL = frozenset({"paused", "held", "halted", "aborted", "superseded"})
"""Statuses in which nobody is permitted any more, for now or for good."""
SHOWN_MAX = 6
"""Strata that are named of those that are judged together; `--output json` has all of them."""


def rollout_view(rollout: Rollout) -> Group:
    """Everything about a rollout on one page."""
    brakes = [rollout_parts.brakes_table(rollout)] if rollout.brakes else []
    signals = [rollout_parts.signals_table(rollout.signals, rollout.fleet_time)] if rollout.signals else []
    return Group(header(rollout), *brakes, regions_table(rollout), counts_table(rollout), *signals, gate_view(rollout))


def header(rollout: Rollout) -> RenderableType:
    """Status, release, progress and exposure."""
    counts = total(rollout.cells)
    progress = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=max(1, counts.targeted), completed=counts.done, width=BAR_WIDTH)
    progress.add_row(bar, f"{count(counts.done)} of {count(counts.targeted)} done")
    return fields(
        ("rollout", plain(of_id(rollout.name), "bold")),
        ("release", plain(rollout.release)),
        ("status", status_line(rollout)),
        ("because", last_word(rollout)),
        *persons(rollout),
        ("progress", progress),
        ("exposed", exposure(counts)),
        *before_permit(rollout),
        *permits_out(rollout),
        *lines_of("silent", rollout_parts.silence_lines(rollout)),
        *lines_of("quota", rollout_parts.quota_lines(rollout)),
        *ended(rollout),
        *judged_together(rollout),
        ("fleet time", moment(rollout.fleet_time)),
    )


def status_line(rollout: Rollout) -> Text:
    """The status, and what a person must know with it."""
    text = status(rollout_status(rollout.status))
    if rollout.hold_final:
        text.append(f"  {rollout_parts.FINAL}", words.AMBER)
    if parts := rollout_parts.for_a_person(rollout):
        text.append_text(plain(f"  {parts}", words.AMBER))
    if rollout_status(rollout.status) == "draft" and rollout.approvals_wanted:
        given = sum(not each.wave for each in rollout.approvals)
        text.append(f"  {given} of {rollout.approvals_wanted} approvals", words.AMBER)
    return text


def exposure(counts: Counts) -> Text:
    """Permits and what became of them; diagnoses and reports of safety where there are any."""
    text = plain(f"{count(counts.exposed)} permits, {count(counts.failed)} failed")
    if counts.diagnosed:
        text.append(f" ({count(counts.diagnosed)} of them by a diagnosis after the installation)", words.RED)
    text.append(f", {count(counts.silent)} silent")
    if counts.safety:
        text.append(f", ✗ {count(counts.safety)} reported as a matter of safety", words.RED)
    return text


def permits_out(rollout: Rollout) -> list[tuple[str, RenderableType]]:
    """How many vehicles may yet begin although the rollout, or a part of it, stands still, and until when."""
    stands = rollout.brakes or rollout_status(rollout.status) in STANDS_STILL
    if not stands or not rollout.outstanding_permits:
        return []
    ends = rollout.outstanding_permits_end_time
    when = f"the last until {moment(ends)}, {since(ends, rollout.fleet_time)}"
    text = f"{count(rollout.outstanding_permits)} may still be used, {when}; nothing calls them back"
    return [("permits out", plain(text, words.AMBER))]


def before_permit(rollout: Rollout) -> list[tuple[str, RenderableType]]:
    """What was lost before a permit, as a payload can crash whoever merely downloads it; nothing before any grant."""
    lost = losses(rollout.cells)
    if not lost.granted:
        return []
    text = plain(f"{count(lost.granted)} granted, {count(lost.failed)} failed before a permit")
    if lost.aged:
        age = durations.in_words(lost.age_s)
        text.append(f", {count(lost.silent)} of {count(lost.aged)} silent without one after {age}")
    return [("before", text)]


def lines_of(name: str, lines: Sequence[Text]) -> list[tuple[str, RenderableType]]:
    """One row with several lines; none when there are none."""
    return [(name, rollout_parts.stacked(lines))] if lines else []


def ended(rollout: Rollout) -> list[tuple[str, RenderableType]]:
    """How attempts ended that neither succeeded nor hurt: a release that every vehicle rejects moves nothing else."""
    parts = [f"{count(number)} {state.replace('_', ' ')}" for state, number in endings(rollout.cells).items()]
    if not parts:
        return []
    return [("ended", plain(f"{', '.join(parts)}; `outrider vehicle explain` says why of each vehicle"))]


def judged_together(rollout: Rollout) -> list[tuple[str, RenderableType]]:
    """Which strata `_other` stands for, where there are too many to judge each on its own."""
    names = list(rollout.judged_together)
    if not names:
        return []
    more = f" and {count(len(names) - SHOWN_MAX)} more" if len(names) > SHOWN_MAX else ""
    return [
        ("_other", plain(f"{count(len(names))} small strata, judged together: {', '.join(names[:SHOWN_MAX])}{more}"))
    ]


def persons(rollout: Rollout) -> list[tuple[str, RenderableType]]:
    """Who created it, who let it or which waves begin, what it is for and what it undoes; only what there is."""
    rows: list[tuple[str, RenderableType]] = []
    if rollout.creator:
        rows.append(("created by", plain(rollout.creator)))
    if rollout.reverts:
        rows.append(("undoes", plain(of_id(rollout.reverts))))
    if rollout.supersedes:
        rows.append(("takes the place of", plain(of_id(rollout.supersedes))))
    if rollout.priority:
        rows.append(("priority", plain(f"{rollout.priority} ({rollout.purpose})")))
    for given in rollout.approvals:
        where = f" for {given.region}" if given.region else ""
        when = since(given.create_time, rollout.fleet_time)
        what = f"wave {given.wave}{where}" if given.wave else "the rollout"
        rows.append(("approved", plain(f"{what} by {given.actor}, {when}: {given.reason}")))
    return rows


def last_word(rollout: Rollout) -> Text:
    """Who made the last transition, why and when."""
    when = since(rollout.update_time, rollout.fleet_time)
    return plain(f"{rollout.last_reason or words.NONE} ({rollout.last_actor or 'nobody'}, {when})")


def regions_table(rollout: Rollout) -> Table:
    """Each region's walk over the waves, and what it waits for."""
    result = table("region", "phase", "waves", "in this wave since", "waits for")
    for region in rollout.regions:
        result.add_row(
            plain(region.region),
            status(phase_of(rollout, region)),
            wave_bar(rollout.waves, region),
            since(region.wave_start_time, rollout.fleet_time),
            region_waits(region, rollout.fleet_time),
        )
    return result


def region_waits(region: RegionProgress, now: Timestamp) -> Text:
    """What a region waits for: what the evaluator says, an approval, its window."""
    down = f"network down for {since(region.dark_since_time, now).removesuffix(' ago')}"
    dark = [down] if region.HasField("dark_since_time") else []
    text = plain("; ".join([*filter(None, [region.waiting_for]), *dark]) or words.NONE)
    if region.approval_wanted and "approv" not in region.waiting_for:
        text = plain(f"approval of wave {region.approval_wanted}")
    if region.approval_wanted or dark:
        text.stylize(words.AMBER)
    if region.HasField("window_open_time"):
        text.append(f" (window opens {since(region.window_open_time, now)})", words.DIM)
    return text


def wave_bar(waves: Sequence[str], region: RegionProgress) -> Text:
    """The waves in order: ✓ passed, ▶ where the region is, · to come."""
    rolling = region_phase(region.phase) in ("rolling", "pending")
    text = Text()
    for index, name in enumerate(waves):
        passed = index < region.wave or not rolling
        mark, style = ("✓", words.GREEN) if passed else ("▶", "bold") if index == region.wave else ("·", words.DIM)
        text.append(f"{mark} {words.clean(name)}" + ("  " if index + 1 < len(waves) else ""), style=style)
    return text


def counts_table(rollout: Rollout) -> Table:
    """Region x cohort with what became of the vehicles, and the sum."""
    result = table("region", "cohort", *COUNTED, numbers=len(COUNTED))
    for column in result.columns[:2]:
        # `genera` and `l` on the next line is no cohort.
        column.no_wrap = True
    # Else it is two columns too wide for 80, and headings are cut.
    result.collapse_padding = True
    for (region, cohort), counts in by_region_and_cohort(rollout).items():
        result.add_row(plain(region), plain(cohort), *counts_row(counts))
    if len(result.rows) > 1:
        result.add_section()
        result.add_row("all", "", *counts_row(total(rollout.cells)), style="bold")
    return result


def counts_row(counts: Counts) -> list[Text]:
    """The numbers of one row; what is bad stands out where it is not nought."""
    bad = {"failed": words.RED, "silent": words.RED}
    cells = []
    for name in COUNTED:
        value: int = getattr(counts, name)
        style = bad.get(name, "") if value else words.DIM
        cells.append(Text(count(value), style=style))
    return cells


def gate_view(rollout: Rollout) -> RenderableType:
    """The gate's last word; when it stopped something, the rule and every number that decided."""
    gate = rollout.gate
    if not gate.verdict:
        return fields(("gate", "has not judged yet"))
    verdict = words.verdict_kind(gate.verdict)
    decided: list[tuple[str, RenderableType]] = [
        ("rule", plain(f"{gate.rule} on {gate.scope or 'all'}")),
        ("numbers", plain(deciding(gate.rule, gate.inputs) or words.NONE)),
    ]
    return fields(
        ("gate", status(verdict)),
        ("says", plain(gate.message or words.NONE)),
        *([] if verdict == "proceed" else decided),
        *rollout_parts.scopes_lines(rollout),
        ("judged", moment(gate.judge_time)),
        ("permits left", count(gate.permit_allowance)),
    )


def one_line(rollout: Rollout) -> str:
    """What changed, on one line, for a watch without a terminal. Holds no moment: equal states make equal lines."""
    counts = total(rollout.cells)
    regions = "; ".join(region_words(rollout, region) for region in rollout.regions) or "no region"
    parts = [
        rollout_status(rollout.status),
        f"done {counts.done}/{counts.targeted}",
        f"active {counts.active}",
        f"exposed {counts.exposed}",
        f"failed {counts.failed}",
        f"silent {counts.silent}",
        regions,
        gate_words(rollout.gate),
        *filter(None, [rollout_parts.standing(rollout), "the hold is final" if rollout.hold_final else ""]),
    ]
    return words.clean(" | ".join(parts))


def region_words(rollout: Rollout, region: RegionProgress) -> str:
    """For example `eu canary (1 of 3) rolling`."""
    phase = phase_of(rollout, region)
    if phase not in ("rolling", "stopped") or region.wave >= len(rollout.waves):
        return f"{region.region} {phase}"
    stopped = "stopped in " if phase == "stopped" else ""
    return f"{region.region} {stopped}{rollout.waves[region.wave]} ({region.wave + 1} of {len(rollout.waves)})"


def gate_words(gate: GateReport) -> str:
    """For example `gate hold by failures_evalue: 3 of 20 failed`."""
    verdict = words.verdict_kind(gate.verdict)
    if verdict in ("none yet", "proceed"):
        return f"gate {verdict}"
    return f"gate {verdict} by {gate.rule} on {gate.scope or 'all'}: {gate.message}"


def rollouts_table(rollouts: Iterable[Rollout]) -> Table:
    """One rollout a line."""
    columns = ("rollout", "release", "status", "created", "changed", "because", "targeted", "done", "failed", "silent")
    result = table(*columns, numbers=4)
    result.columns[2].no_wrap = True
    for rollout in rollouts:
        counts = total(rollout.cells)
        result.add_row(
            plain(of_id(rollout.name)),
            plain(rollout.release),
            listed_status(rollout),
            moment(rollout.create_time),
            since(rollout.update_time, rollout.fleet_time),
            plain(rollout.last_reason),
            *map(count, (counts.targeted, counts.done, counts.failed, counts.silent)),
        )
    return result


def listed_status(rollout: Rollout) -> Text:
    """The status in a list, with how many parts stand still."""
    text = status(rollout_status(rollout.status))
    if rollout.hold_final:
        text.append(" (final)", words.AMBER)
    if rollout.brakes:
        parts = len(rollout.brakes)
        text.append(f" ({parts} part{'' if parts == 1 else 's'} not)", words.AMBER)
    return text
