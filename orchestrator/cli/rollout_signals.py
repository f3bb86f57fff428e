"""`outrider rollout signal`: what somebody outside says about the vehicles of a rollout. Also for programs.

Owns posting, taking back and listing. What a signal means is the gate's matter, which judges it within a second.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp
from outrider.v1.rollout_pb2 import (
    SIGNAL_KIND_SAFETY,
    SIGNAL_KIND_WARNING,
    ClearSignalRequest,
    GetRolloutRequest,
    PostSignalRequest,
    Rollout,
    Signal,
)

from orchestrator.cli.client import request_id
from orchestrator.cli.errors import BadInputError
from orchestrator.cli.inputs import ReasonOption, RolloutArgument, require_reason, time_given
from orchestrator.cli.rollout_parts import beyond, number_of, signals_table
from orchestrator.cli.session import Session, operator_command
from orchestrator.cli.words import plain
from orchestrator.engine.plan.values import read_duration

app = typer.Typer(no_args_is_help=True, add_completion=False)

NameArgument = Annotated[
    str, typer.Argument(metavar="SIGNAL", help="Its name, `[a-z0-9_]{1,64}`, for example `tow_rate`.")
]
SignalScope = Annotated[
    str,
    typer.Option(
        "--scope", metavar="SCOPE", help="About one region, `eu`, or one variant there, `eu/gen1`. Default: all."
    ),
]


class Kind(StrEnum):
    """What a signal means."""

    WARNING = "warning"
    SAFETY = "safety"


KINDS = {Kind.WARNING: SIGNAL_KIND_WARNING, Kind.SAFETY: SIGNAL_KIND_SAFETY}


@app.callback()
def group() -> None:
    """Say how the vehicles of a rollout fare, from outside: trouble codes, tows, calls."""


@operator_command(app, "post")
def post(
    session: Session,
    rollout_id: RolloutArgument,
    signal: NameArgument,
    value: Annotated[float, typer.Option("--value", metavar="NUMBER", help="What was measured.")],
    limit: Annotated[float, typer.Option("--limit", metavar="NUMBER", help="What it should not exceed.")],
    reason: ReasonOption,
    kind: Annotated[
        Kind,
        typer.Option(
            "--kind", help="A `warning` holds while its value exceeds the limit; of `safety`, one holds and two halt."
        ),
    ] = Kind.WARNING,
    scope: SignalScope = "",
    good_for: Annotated[
        str,
        typer.Option(
            "--good-for",
            metavar="DURATION",
            help="How long the value is good, for example `6h` (the default); then a warning is overdue, and holds.",
        ),
    ] = "",
    measured_at: Annotated[
        str,
        typer.Option("--measured-at", metavar="TIME", help="When, UTC, for example `2031-04-05T06:00`; default now."),
    ] = "",
) -> None:
    """Post a signal; one of the same name and scope is replaced."""
    check_finite(value=value, limit=limit)
    request = PostSignalRequest(
        name=f"rollouts/{rollout_id}",
        signal=Signal(
            signal=signal,
            kind=KINDS[kind],
            scope=scope,
            value=value,
            limit=limit,
            good_for=duration_of(good_for),
            measure_time=time_of(measured_at),
        ),
        request_id=request_id(),
        reason=require_reason(reason),
    )
    with session.client() as client:
        rollout = client.ask(client.rollouts.PostSignal, request)
    means = "the gate looks at it within a second" if beyond(request.signal) else "it is within its limit"
    said = f"Posted {signal} {number_of(value)} (limit {number_of(limit)}) in {scope or 'all'}: {means}."
    show_signals(session, rollout, said, f"outrider rollout status {rollout_id}")


@operator_command(app, "clear")
def clear(
    session: Session, rollout_id: RolloutArgument, signal: NameArgument, reason: ReasonOption, scope: SignalScope = ""
) -> None:
    """Take a signal back."""
    request = ClearSignalRequest(
        name=f"rollouts/{rollout_id}",
        signal=signal,
        scope=scope,
        request_id=request_id(),
        reason=require_reason(reason),
    )
    with session.client() as client:
        rollout = client.ask(client.rollouts.ClearSignal, request)
    said = f"Took back {signal} in {scope or 'all'}. What it halted waits for a person all the same."
    show_signals(session, rollout, said, f"outrider rollout status {rollout_id}")


@operator_command(app, "list")
def list_(session: Session, rollout_id: RolloutArgument) -> None:
    """List the signals that stand."""
    with session.client() as client:
        rollout = client.ask(client.rollouts.GetRollout, GetRolloutRequest(name=f"rollouts/{rollout_id}"))
    show_signals(session, rollout, "", "")


def show_signals(session: Session, rollout: Rollout, said: str, following: str) -> None:
    """Say what was done, and which signals stand."""
    document = {
        "rollout": rollout.name,
        "signals": [
            MessageToDict(each, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
            for each in rollout.signals
        ],
    }
    table = signals_table(rollout.signals, rollout.fleet_time) if rollout.signals else "No signal stands."
    session.screen.answer(
        document,
        *([plain(said, "bold")] if said else []),
        table,
        *([plain(f"Next: {following}")] if following else []),
    )


def duration_of(text: str) -> Duration | None:
    """How long a value is good, as a plan file writes durations; None when nothing is said.

    Raises:
        BadInputError: it is no duration.
    """
    if not text:
        return None
    milliseconds = read_duration(text.strip())
    if not milliseconds:
        raise BadInputError(f"--good-for: {text!r} is no duration", remedy="write it as 30m, 6h or 1d12h")
    result = Duration()
    result.FromMilliseconds(milliseconds)
    return result


def time_of(text: str) -> Timestamp | None:
    """When a value was measured; None when nothing is said.

    Raises:
        BadInputError: it is no time.
    """
    if not text:
        return None
    result = Timestamp()
    result.FromDatetime(time_given("--measured-at", text))
    return result


def check_finite(**given: float) -> None:
    """See that numbers are numbers.

    Raises:
        BadInputError: one is infinite, or none at all.
    """
    for name, value in given.items():
        if not math.isfinite(value):
            raise BadInputError(
                f"--{name} {value} is not a finite number",
                remedy="leave the last value standing rather than send none, and see what measures it",
            )
