"""What is to be said of single parts of a rollout: which stand still, what the gate says of each, what signals say.

Owns brakes, signals, verdicts by scope, quotas, and silence beside its controls. Leaves the page that they stand on to
`rollout_view`, and sums to `rollout_counts`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from google.protobuf.timestamp_pb2 import Timestamp
from outrider.v1.rollout_pb2 import Brake, BrakeKind, Rollout, Signal, SignalKind
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli import durations, words
from orchestrator.cli.rollout_counts import AgeSum, ages, by_region, quotas
from orchestrator.cli.screen import table
from orchestrator.cli.words import count, number, plain, since, status, verdict_kind

FINAL = "will not clear by itself any more: a person must resume or abort"
PART_FINAL = "waits for a person"
SHORT_MAX = 3
"""Cells of a region that are named where their quota is not full."""
LOUD = ("halted", "held", "paused")
"""Kinds of brakes, what needs a person first."""


def brake_kind(value: BrakeKind.ValueType) -> str:
    """For example `halted`."""
    return BrakeKind.Name(value).removeprefix("BRAKE_KIND_").lower()


def signal_kind(value: SignalKind.ValueType) -> str:
    """For example `warning`."""
    return SignalKind.Name(value).removeprefix("SIGNAL_KIND_").lower()


def loudest_first(brakes: Iterable[Brake]) -> list[Brake]:
    """Brakes, those that need a person first."""

    def rank(each: Brake) -> tuple[int, bool]:
        kind = brake_kind(each.kind)
        return LOUD.index(kind) if kind in LOUD else 0, not each.final

    return sorted(brakes, key=rank)


def beyond(signal: Signal) -> bool:
    """Whether a signal says that something is wrong."""
    return signal_kind(signal.kind) == "safety" or not signal.value <= signal.limit


def for_a_person(rollout: Rollout) -> str:
    """Parts that only a person lets go, halted or held for too long, on one line; empty when there is none."""
    parts = [each.scope for each in loudest_first(rollout.brakes) if each.final or brake_kind(each.kind) == "halted"]
    if len(parts) > 1:
        return f"{parts[0]} and {len(parts) - 1} more part{'s' if len(parts) > 2 else ''} wait for a person"
    return f"{parts[0]} {PART_FINAL}" if parts else ""


def still_stands(rollout: Rollout, scope: str = "") -> list[str]:
    """What goes on standing still of what was resumed, for people: parts, and what the gate would stop next.

    Args:
        rollout: After it.
        scope: The part that was resumed; empty: the whole.
    """
    brakes = [each for each in rollout.brakes if scope in ("", each.scope)]
    said = [f"{each.scope} stays {brake_kind(each.kind)}: {bare(each.scope, each.reason)}" for each in brakes]
    braked = {each.scope for each in rollout.brakes}
    for each in rollout.gate.scopes:
        verdict = verdict_kind(each.verdict)
        if scope in ("", each.scope) and each.scope not in braked and verdict in ("hold", "halt"):
            what = "it" if each.scope == "all" else each.scope
            said.append(f"the gate would {verdict} {what} for another reason: {bare(each.scope, each.message)}")
    return said


def alarms(signals: Iterable[Signal]) -> list[str]:
    """What signals hold for, for example `tow_rate 2.4 in eu` or `tow_rate overdue`; those that do not are left out."""
    return [
        f"{each.signal} {number_of(each.value) if beyond(each) else 'overdue'}{where(each)}"
        for each in signals
        if beyond(each) or each.overdue
    ]


def brakes_table(rollout: Rollout) -> Table:
    """Parts that stand still, one a line."""
    result = table("part", "stands still", "since", "by", "because")
    for each in loudest_first(rollout.brakes):
        when = since(each.since_time, rollout.fleet_time)
        kind = status(brake_kind(each.kind))
        if each.final:
            kind.append(f", {PART_FINAL}", words.AMBER)
        result.add_row(plain(each.scope, "bold"), kind, when, plain(each.actor), plain(bare(each.scope, each.reason)))
    return result


def signals_table(signals: Iterable[Signal], now: Timestamp | None) -> Table:
    """Signals from outside that stand, one a line; those beyond their limit, or overdue, carry a mark."""
    result = table("signal", "of", "value", "limit", "kind", "measured", "good", "by", "because")
    for column in result.columns[2:4]:
        column.justify = "right"
    for each in signals:
        mark = "▲ " if beyond(each) else ""
        result.add_row(
            plain(each.signal, "bold"),
            plain(each.scope or "all"),
            plain(f"{mark}{number_of(each.value)}", words.AMBER if mark else ""),
            number_of(each.limit),
            signal_kind(each.kind),
            since(measured_time(each), now),
            good(each, now),
            plain(each.actor),
            plain(each.reason),
        )
    return result


def measured_time(signal: Signal) -> Timestamp:
    """When a value was measured; of a signal without, when it was posted."""
    return signal.measure_time if signal.HasField("measure_time") else signal.create_time


def good(signal: Signal, now: Timestamp | None) -> Text:
    """How long a measurement is still good, or since when it is not; a dash where that does not end."""
    if not signal.HasField("good_for"):
        return plain(words.NONE)
    if signal.overdue:
        return plain("▲ overdue", words.AMBER)
    if now is None or not now.ByteSize():
        return plain(durations.in_words(signal.good_for.seconds))
    return plain(f"for {durations.in_words(signal.measure_time.seconds + signal.good_for.seconds - now.seconds)}")


def number_of(value: float) -> str:
    """A measured number; also one that is none, which only a newer server would send."""
    return number(value) if math.isfinite(value) else str(value)


def scopes_lines(rollout: Rollout) -> list[tuple[str, RenderableType]]:
    """What the gate says of each stratum that it would not let proceed; those that stand still are shown as such."""
    rows: list[tuple[str, RenderableType]] = []
    shown = {"all", *(each.scope for each in rollout.brakes)}
    for each in rollout.gate.scopes:
        verdict = verdict_kind(each.verdict)
        if each.scope not in shown and verdict not in ("proceed", "none yet"):
            rows.append((each.scope, Text.assemble(status(verdict), plain(f"  {bare(each.scope, each.message)}"))))
    return rows


def bare(scope: str, message: str) -> str:
    """The gate's words without the scope that stands beside them."""
    return message.removeprefix(f"{scope}: ")


def silence_lines(rollout: Rollout) -> list[Text]:
    """Silence at each age, its controls beside it: `after 1 d: 4 of 60, controls 3 of 61; not compared 9 of 200`."""
    return [silence_line(each) for each in ages(rollout.cells) if each.exposed or each.unpaired]


def silence_line(each: AgeSum) -> Text:
    """One age."""
    whose = f", of those that call {each.habit}" if each.habit else ""
    controls = f", controls {count(each.controls_silent)} of {count(each.controls)}" if each.controls else ""
    alone = f"; not compared {count(each.unpaired_silent)} of {count(each.unpaired)}" if each.unpaired else ""
    compared = f"{count(each.silent)} of {count(each.exposed)}{controls}{alone}"
    text = f"after {durations.in_words(each.age_s)}{whose}: {compared}"
    return plain(text, words.RED if each.conspicuous else "")


def quota_lines(rollout: Rollout) -> list[Text]:
    """Who was admitted of each region's quota, and the cells that are still short of theirs."""
    lines: list[Text] = []
    for region, cells in by_region(quotas(rollout.cells)).items():
        admitted, quota = (sum(getattr(each, name) for each in cells) for name in ("admitted", "quota"))
        short = [each for each in cells if each.admitted < each.quota]
        shown = [f"{each.hardware}/{each.cohort} {each.admitted} of {each.quota}" for each in short[:SHORT_MAX]]
        more = [f"{len(short) - SHORT_MAX} more"] if len(short) > SHORT_MAX else []
        still = f"; still open: {', '.join([*shown, *more])}" if short and len(cells) > 1 else ""
        lines.append(plain(f"{region} {count(admitted)} of {count(quota)} admitted{still}"))
    return lines


def stacked(lines: Sequence[Text]) -> Text:
    """Several lines as one value."""
    return Text("\n").join(lines)


def standing(rollout: Rollout) -> str:
    """What stands still and what warns, on one line without a moment; empty when nothing does."""
    parts = []
    if rollout.brakes:
        brakes = ", ".join(
            f"{each.scope} {brake_kind(each.kind)}{' (final)' if each.final else ''}"
            for each in loudest_first(rollout.brakes)
        )
        parts.append(f"stands still: {brakes}")
    if loud := alarms(rollout.signals):
        parts.append(f"signals: {', '.join(loud)}")
    return " | ".join(parts)


def where(signal: Signal) -> str:
    """The scope of a signal where it is not the whole rollout."""
    return f" in {signal.scope}" if signal.scope not in ("", "all") else ""
