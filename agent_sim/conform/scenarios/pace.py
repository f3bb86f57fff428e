"""Scenarios of when the agent speaks: idle, refused, overloaded, without an answer, and to a server that died."""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import pairwise
from typing import Any

import grpc
from outrider.v1 import vehicle_pb2 as pb

from agent_sim.conform.scenario import Scenario
from agent_sim.conform.stage import Stage
from agent_sim.conform.tape import AUTHORIZE, CHECK_IN, SUBMIT, SeenCall

_POLL_FLEET_S = 120
_GAPS = 7
_SLACK_S = 3.0
"""Machine time that an answer may take on a busy machine."""
_FAILING_FLEET_S = 1200.0
_FAILING_CALLS_MAX = 16
"""Full jitter from 5 s on, doubled each time, makes about nine calls in twenty minutes; a fixed minute makes twenty."""
_RETRY_S = 3.0
_BIG_BYTES = 6 * 1024 * 1024
_UNKNOWN_FIELD = 999


def _gaps(stage: Stage) -> list[float]:
    """Fleet seconds between an answered poll and the next, where there was no news to tell."""
    polls = list(stage.tape.calls(CHECK_IN))
    return [
        stage.fleet_s(before.ended_ms or before.at_ms, after.at_ms)
        for before, after in pairwise(polls)
        if before.answered and not before.reply.manifest_wanted and not before.request.events
    ]


async def idle(stage: Stage) -> None:
    """Nothing to do, and an answer that asks for a poll in two minutes."""
    stage.desk.next_poll_s = _POLL_FLEET_S
    await stage.start_agent()
    await stage.until(lambda: bool(stage.desk.manifests), "P-MANIFEST-5", "the manifest that is wanted")
    await stage.until(lambda: len(_gaps(stage)) >= _GAPS, "P-POLL-1", "the next poll")
    gaps, slack = _gaps(stage), stage.fleet_s(0, _SLACK_S * 1000)
    early, late = min(gaps), max(gaps)
    stage.check("P-POLL-1", early >= 0.47 * _POLL_FLEET_S, f"polled after {early:.0f} s, {_POLL_FLEET_S} s were asked")
    stage.check(
        "P-POLL-1", late <= 1.5 * _POLL_FLEET_S + slack, f"polled after {late:.0f} s, {_POLL_FLEET_S} s were asked"
    )
    alike = late - early < 0.05 * _POLL_FLEET_S
    stage.check("P-POLL-1", not alike, f"{len(gaps)} waits between {early:.0f} s and {late:.0f} s: not drawn anew")


async def impatient_server(stage: Stage) -> None:
    """The server asks for a poll every second, below the bound of a minute."""
    stage.desk.next_poll_s = 1
    await stage.start_agent()
    await stage.until(lambda: len(_gaps(stage)) >= _GAPS, "P-POLL-1", "the next poll")
    early = min(_gaps(stage))
    stage.check("P-POLL-1", early >= 28, f"polled after {early:.0f} s; what is below 60 s counts as 60 s")


async def overloaded(stage: Stage) -> None:
    """RESOURCE_EXHAUSTED with RetryInfo, once for each kind of call."""
    offer = stage.offer()
    for method in (CHECK_IN, AUTHORIZE, SUBMIT):
        stage.fault(method, status=grpc.StatusCode.RESOURCE_EXHAUSTED, reason="OVERLOADED", retry_s=_RETRY_S)
    await stage.start_agent()
    await stage.succeeded(offer, "P-ERR-1")
    calls = list(stage.tape.calls())
    for refused, after in pairwise(calls):
        if refused.status == "RESOURCE_EXHAUSTED":
            waited_s = (after.at_ms - (refused.ended_ms or refused.at_ms)) / 1000
            seen = f"{after.method} came {waited_s:.1f} s after a refusal that asked for {_RETRY_S:.1f} s"
            stage.check("P-POLL-5", waited_s >= 0.97 * _RETRY_S, seen)


async def _failing(stage: Stage, clause: str, status: grpc.StatusCode, reason: str) -> None:
    """Everything fails in one way for twenty minutes of fleet time, then all is well."""
    offer = stage.offer()
    await stage.start_agent()
    await stage.polled(clause="P-POLL-1")
    for method in (CHECK_IN, AUTHORIZE, SUBMIT):
        stage.fault(method, status=status, reason=reason, times=10_000)
    await stage.until(lambda: bool(_ended(stage, status)), "P-POLL-1", "the next call")
    await asyncio.sleep(stage.machine_s(_FAILING_FLEET_S))
    count = len(_ended(stage, status))
    seen = f"{count} calls in twenty minutes of {status.name}; back-off makes about nine"
    stage.check(clause, count <= _FAILING_CALLS_MAX, seen)
    stage.mischief.clear()
    # The next call may be as far away as the longest back-off.
    await stage.until(lambda: offer.succeeded, "P-ERR-1", "the update once all was well", patience_s=_recovery_s(stage))
    stage.kept("P-ERR-1")


def _recovery_s(stage: Stage) -> float:
    return stage.machine_s(2400.0) + stage.conditions.patience_s


async def unavailable(stage: Stage) -> None:
    """UNAVAILABLE for twenty minutes."""
    await _failing(stage, "P-POLL-4", grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")


async def defective(stage: Stage) -> None:
    """INTERNAL with a reason that nobody knows, for twenty minutes."""
    await _failing(stage, "P-ERR-1", grpc.StatusCode.INTERNAL, "A_REASON_OF_TOMORROW")


async def unwanted(stage: Stage) -> None:
    """INVALID_ARGUMENT for twenty minutes: repeating does not help."""
    await _failing(stage, "P-ERR-2", grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED")


async def server_dies(stage: Stage) -> None:
    """The server is killed while images are on their way, and comes up again."""
    offer = stage.offer()
    stage.server.images.pause_s = 0.1
    await stage.start_agent()
    await stage.until(lambda: bool(stage.tape.downloads()), "P-IMAGE-1", "a download")
    await stage.server.stop()
    await asyncio.sleep(stage.machine_s(60))
    stage.server.images.pause_s = 0.0
    await stage.server.start()
    await stage.until(
        lambda: offer.succeeded, "P-ERR-1", "the update after a restart of the server", patience_s=_recovery_s(stage)
    )
    stage.kept("P-ERR-1", "P-IMAGE-3")


async def slow(stage: Stage) -> None:
    """Every answer takes two seconds."""
    offer = stage.offer()
    for method in (CHECK_IN, AUTHORIZE, SUBMIT):
        stage.fault(method, delay_s=2.0, times=1000)
    stage.desk.permit_s = 14_400.0
    await stage.start_agent()
    await stage.until(lambda: offer.succeeded, "P-POLL-6", "the update at a slow server", patience_s=90.0)
    stage.kept("P-POLL-6", "P-POLL-3")


async def silent(stage: Stage) -> None:
    """A poll is never answered."""
    stage.fault(CHECK_IN, hang=True)
    await stage.start_agent()
    polls = partial(_calls, stage, CHECK_IN)
    await stage.until(lambda: len(polls()) > 0, "P-POLL-1", "a poll")
    await stage.until(
        lambda: len(polls()) > 1,
        "P-POLL-6",
        "another poll after one without an answer",
        patience_s=75.0,
    )
    stage.kept("P-POLL-6")


async def words_of_tomorrow(stage: Stage) -> None:
    """Six megabytes of an unknown field, then a directive of an unknown kind, then an update."""
    unknown = pb.Directive.FromString(_length_delimited(_UNKNOWN_FIELD, b""))

    def big(reply: Any) -> Any:
        return pb.CheckInResponse.FromString(
            reply.SerializeToString() + _length_delimited(_UNKNOWN_FIELD, bytes(_BIG_BYTES))
        )

    def odd(reply: Any) -> Any:
        reply.directive.CopyFrom(unknown)
        return reply

    offer = stage.offer()
    stage.fault(CHECK_IN, change=odd, times=2)
    fat = stage.fault(CHECK_IN, change=big, times=2)
    await stage.start_agent()
    await stage.until(lambda: fat.hits == 2, "P-POLL-10", "the poll after a directive of an unknown kind")
    await stage.succeeded(offer, "P-POLL-8")
    stage.kept("P-POLL-8", "P-POLL-10")


def _length_delimited(field: int, content: bytes) -> bytes:
    """A field as protobuf writes it. Source: Protocol Buffers, Encoding."""
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


async def manifest_refused(stage: Stage) -> None:
    """A manifest is refused, and later one is wanted that was there before."""
    stage.fault(SUBMIT, status=grpc.StatusCode.INVALID_ARGUMENT, reason="MANIFEST_REFUSED")
    await stage.start_agent()
    handed = partial(_calls, stage, SUBMIT)
    await stage.until(lambda: len(handed()) > 1, "P-MANIFEST-6", "a manifest after one was refused")
    first, second = (call.request.manifest for call in handed()[:2])
    stage.check("P-MANIFEST-6", first != second, "the same manifest was handed in again after it was refused")
    await stage.until(lambda: bool(stage.desk.manifests), "P-MANIFEST-6", "a manifest that verifies")
    await stage.polled()
    stage.desk.manifests.clear()
    count, stage.desk.manifest_sha256 = len(handed()), ""
    await stage.until(lambda: len(handed()) > count, "P-MANIFEST-5", "the manifest that is wanted again")
    stage.kept("P-MANIFEST-5")


def _calls(stage: Stage, method: str) -> list[SeenCall]:
    return list(stage.tape.calls(method))


def _ended(stage: Stage, status: grpc.StatusCode) -> list[SeenCall]:
    return [call for call in stage.tape.calls() if call.status == status.name]


SCENARIOS = (
    Scenario("idle", "nothing to do", ("P-POLL-1", "P-MANIFEST-5", "P-POLL-3"), idle, short=True),
    Scenario("impatient-server", "polls are asked for every second", ("P-POLL-1",), impatient_server),
    Scenario("overloaded", "RESOURCE_EXHAUSTED with RetryInfo", ("P-POLL-5", "P-ERR-1"), overloaded, short=True),
    Scenario("unavailable", "UNAVAILABLE for a while", ("P-POLL-4", "P-ERR-1"), unavailable),
    Scenario("defective", "INTERNAL for a while", ("P-ERR-1",), defective),
    Scenario("unwanted", "INVALID_ARGUMENT for a while", ("P-ERR-2", "P-ERR-1"), unwanted),
    Scenario("server-dies", "the server is killed and comes back", ("P-ERR-1", "P-IMAGE-3"), server_dies),
    Scenario("slow", "every answer takes two seconds", ("P-POLL-6", "P-POLL-3"), slow),
    Scenario("silent", "a poll is never answered", ("P-POLL-6",), silent),
    Scenario("words-of-tomorrow", "unknown fields and directives", ("P-POLL-8", "P-POLL-10"), words_of_tomorrow),
    Scenario("manifest-refused", "a manifest is refused", ("P-MANIFEST-5", "P-MANIFEST-6"), manifest_refused),
)
