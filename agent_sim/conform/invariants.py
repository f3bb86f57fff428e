"""What must hold on every tape, whatever the scenario did: numbering, permits, order, identity, manifests.

Pure: a tape in, findings out. Owns no waiting and no scenario. A rule speaks only of what the tape shows; where there
was no occasion to break it, it says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise

from outrider.v1 import vehicle_pb2 as pb

from agent_sim.conform.tape import AUTHORIZE, CHECK_IN, ENROLL, SUBMIT, SeenCall, Tape
from agent_sim.conform.verdicts import Finding, Verdict
from agent_sim.conform.words import kind_name

EVENTS_MAX = 64
MANIFEST_BYTES_MAX = 65_536
DIAGNOSTICS_MAX = 32
CALLS_MAX, WINDOW_FLEET_S = 600, 600.0
_OVERLAP_MS = 250.0
"""Two calls that overlap by less may be a slow answer on this machine."""
_CODE = re.compile(r"[a-z0-9_]{1,64}")
_OUTBOX_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_WITH_CODE = frozenset(
    {pb.EVENT_KIND_FAILED, pb.EVENT_KIND_ROLLED_BACK, pb.EVENT_KIND_REJECTED, pb.EVENT_KIND_DEFERRED}
)
_INSTALLS = (pb.EVENT_KIND_INSTALL_STARTED, pb.EVENT_KIND_REBOOT_STARTED, pb.EVENT_KIND_VERIFY_STARTED)
_ORDER = {
    pb.EVENT_KIND_DOWNLOAD_STARTED: 1,
    pb.EVENT_KIND_DOWNLOAD_FINISHED: 2,
    pb.EVENT_KIND_INSTALL_STARTED: 3,
    pb.EVENT_KIND_REBOOT_STARTED: 4,
    pb.EVENT_KIND_VERIFY_STARTED: 5,
}


@dataclass(frozen=True, slots=True)
class Known:
    """What a judge has to know beside the tape."""

    scenario: str
    vehicle_id: str
    offered: frozenset[str]
    """Attempts that the server ever named."""
    scale: float
    refused_manifests: tuple[str, ...]
    """Why, for each that did not verify."""
    new_digests: frozenset[str]
    """Images that only a permit leads to."""
    proven: tuple[tuple[float, frozenset[str]], ...]
    """(machine time, digests that ran) of every manifest that was taken."""


Rule = Callable[[Tape, Known], Iterator[tuple[str, str]]]
"""Yields (clause, what was seen) for a breach, and (clause, "") for an occasion on which it was kept."""


def judge(tape: Tape, known: Known) -> list[Finding]:
    """Apply every rule; one finding for each clause that had an occasion, the first breach first."""
    found: dict[str, Finding] = {}
    for rule in _RULES:
        for clause, seen in rule(tape, known):
            before = found.get(clause)
            if before is None or (seen and before.verdict is Verdict.PASS):
                verdict = Verdict.FAIL if seen else Verdict.PASS
                found[clause] = Finding(clause, verdict, known.scenario, seen)
    return list(found.values())


# Numbering


def _numbers(tape: Tape, known: Known) -> Iterator[tuple[str, str]]:
    """A number means one event, and numbers have no hole."""
    events: dict[tuple[str, int], bytes] = {}
    highest: dict[str, int] = {}
    for call in tape.calls(CHECK_IN):
        box = call.request.outbox_id
        for event in call.request.events:
            content = event.SerializeToString(deterministic=True)
            known_content = events.setdefault((box, event.number), content)
            if known_content != content:
                yield "P-OUTBOX-1", f"number {event.number} of outbox {box} means two different events"
            top = highest.get(box, 0)
            if event.number > top + 1:
                yield "P-OUTBOX-1", f"number {event.number} follows {top}: a number was left out"
            highest[box] = max(top, event.number)
            yield "P-OUTBOX-1", ""


def _calls_carry(tape: Tape, known: Known) -> Iterator[tuple[str, str]]:
    """Oldest first, ascending, without a hole, with the right `oldest_number`, not too many."""
    for call in tape.calls(CHECK_IN):
        numbers = [event.number for event in call.request.events]
        oldest = call.request.oldest_number
        if not numbers and oldest:
            yield "P-OUTBOX-3", f"oldest_number is {oldest} and no event is sent"
        if not numbers:
            continue
        if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
            yield "P-OUTBOX-3", f"events {numbers[:8]} are not ascending without a hole"
        elif oldest != numbers[0]:
            yield "P-OUTBOX-3", f"oldest_number is {oldest}, the first event sent is {numbers[0]}"
        elif len(numbers) > EVENTS_MAX:
            yield "P-OUTBOX-3", f"{len(numbers)} events in one call, at most {EVENTS_MAX}"
        else:
            yield "P-OUTBOX-3", ""


def _kept_until_acknowledged(tape: Tape, known: Known) -> Iterator[tuple[str, str]]:
    """Whatever was told and not acknowledged stands in every later poll."""
    told: dict[str, int] = {}
    acknowledged: dict[str, int] = {}
    for call in tape.calls(CHECK_IN):
        box, numbers = call.request.outbox_id, {event.number for event in call.request.events}
        missing = set(range(acknowledged.get(box, 0) + 1, told.get(box, 0) + 1)) - numbers
        if missing and len(numbers) < EVENTS_MAX:
            yield "P-OUTBOX-4", f"event {min(missing)} was told, not acknowledged, and is missing in a later poll"
        elif told.get(box, 0) > acknowledged.get(box, 0):
            yield "P-OUTBOX-4", ""
        told[box] = max([told.get(box, 0), *numbers])
        if call.answered:
            acknowledged[box] = max(acknowledged.get(box, 0), call.reply.acknowledged_number)


def _outbox_id(tape: Tape, known: Known) -> Iterator[tuple[str, str]]:
    """One outbox as long as nobody gave it a reason for another."""
    calls = list(tape.calls(CHECK_IN))
    given = 0
    for before, after in pairwise(calls):
        given = max([given, *(event.number for event in before.request.events)])
        forced = before.answered and before.reply.acknowledged_number > given
        if before.request.outbox_id != after.request.outbox_id and not forced:
            yield "P-OUTBOX-5", f"outbox {before.request.outbox_id} became {after.request.outbox_id} without a reason"
        elif before.boot != after.boot:
            yield "P-OUTBOX-5", ""
    for call in calls:
        if not _OUTBOX_ID.fullmatch(call.request.outbox_id):
            yield "P-OUTBOX-5", f"outbox id {call.request.outbox_id[:80]!r} is not [A-Za-z0-9_-]{{1,64}}"


# Events


def _event_form(tape: Tape, known: Known) -> Iterator[tuple[str, str]]:
    """Codes where they belong, and nothing about strangers' attempts."""
    for event in tape.events():
        name = kind_name(event.kind)
        if event.kind in _WITH_CODE:
            good = _CODE.fullmatch(event.failure_code) is not None
            yield "P-EVENT-2", "" if good else f"{name} with failure_code {event.failure_code[:80]!r}"
        elif event.failure_code and not _CODE.fullmatch(event.failure_code):
            yield "P-EVENT-2", f"{name} with failure_code {event.failure_code[:80]!r}"
        mine = event.attempt_id in known.offered
        yield "P-EVENT-3", "" if mine else f"{name} about attempt {event.attempt_id[:80]!r}, which was never offered"


def _order(tape: Tape, known: Known) -> Iterator[tuple[str, str]]:
    """An attempt goes forward; a deferral may go back to the download."""
    reached: dict[str, int] = {}
    deferred: set[str] = set()
    repeated: dict[tuple[str, int], int] = {}
    for event in tape.events():
        if event.kind == pb.EVENT_KIND_DEFERRED:
            deferred.add(event.attempt_id)
        step = _ORDER.get(event.kind)
        if step is None:
            continue
        name, before = kind_name(event.kind), reached.get(event.attempt_id, 0)
        goes_on = event.attempt_id in deferred and step <= 2
        if step < before and not goes_on:
            yield "P-EVENT-1", f"{name} of {event.attempt_id} was told after what comes later"
        elif event.event_time.seconds == 0:
            yield "P-EVENT-1", f"{name} of {event.attempt_id} has no time"
        else:
            yield "P-EVENT-1", ""
        reached[event.attempt_id] = step if goes_on else max(before, step)
        times = repeated[event.attempt_id, step] = repeated.get((event.attempt_id, step), 0) + 1
        if step == _ORDER[pb.EVENT_KIND_INSTALL_STARTED]:
            yield "P-INSTALL-3", "" if times == 1 else f"{event.attempt_id} was installed {times} times"
        if times > 1 and not goes_on and step <= 2:
            yield "P-ATTEMPT-1", f"{name} of {event.attempt_id} was told {times} times"


# Permits


def _permits(tape: Tape, known: Known) -> Iterator[tuple[str, str]]:
    """Nothing is installed before a permit for that attempt went out."""
    permitted: set[str] = set()
    seen: set[tuple[str, int]] = set()
    for at_ms, call in _by_time(tape):
        if call.method == AUTHORIZE and at_ms == call.ended_ms and call.answered:
            if call.reply.WhichOneof("answer") == "permit":
                permitted.add(call.reply.permit.attempt_id)
        elif call.method == CHECK_IN and at_ms == call.at_ms:
            for event in call.request.events:
                if event.kind in _INSTALLS and (call.request.outbox_id, event.number) not in seen:
                    seen.add((call.request.outbox_id, event.number))
                    told = f"{kind_name(event.kind)} of {event.attempt_id} was told without a permit for it"
                    yield "P-PERMIT-1", "" if event.attempt_id in permitted else told
    first_permit_ms = min((c.ended_ms or c.at_ms for c in tape.calls(AUTHORIZE) if _is_permit(c)), default=None)
    for at_ms, running in known.proven:
        if running & known.new_digests:
            early = first_permit_ms is None or at_ms < first_permit_ms
            yield "P-PERMIT-1", "a manifest shows the offered image running without any permit" if early else ""


def _refusals(tape: Tape, known: Known) -> Iterator[tuple[str, str]]:
    """Refusals are obeyed: wait as long as it says, or never ask again."""
    until_ms: dict[str, float] = {}
    over: dict[str, str] = {}
    for call in tape.calls(AUTHORIZE):
        attempt_id = call.request.attempt_id
        if attempt_id in over:
            yield "P-PERMIT-6", f"asked for a permit again after {over[attempt_id]!r} without retry_after"
        wanted = until_ms.get(attempt_id)
        if wanted is not None and call.at_ms < wanted:
            early_s = (wanted - call.at_ms) * known.scale / 1000
            yield "P-PERMIT-5", f"asked for a permit again {early_s:.0f} s of fleet time before retry_after had passed"
        elif wanted is not None:
            yield "P-PERMIT-5", ""
        if call.answered and call.reply.WhichOneof("answer") == "refusal":
            refusal = call.reply.refusal
            if refusal.HasField("retry_after"):
                wait_ms = refusal.retry_after.ToMilliseconds() / known.scale
                # An agent counts from when the answer came in; both ends share one clock here.
                until_ms[attempt_id] = (call.ended_ms or call.at_ms) + 0.97 * wait_ms
            else:
                over[attempt_id] = refusal.reason


def _downloaded_first(tape: Tape, known: Known) -> Iterator[tuple[str, str]]:
    """Whoever asks for a permit has everything."""
    told: set[str] = set()
    for _, call in _by_time(tape):
        if call.method == CHECK_IN:
            told |= {e.attempt_id for e in call.request.events if e.kind == pb.EVENT_KIND_DOWNLOAD_FINISHED}
        if call.method == AUTHORIZE and call.request.attempt_id in known.offered:
            # Telling first is a SHOULD; fetching first is not.
            fetched = bool(tape.downloads()) and min(d.at_ms for d in tape.downloads()) < call.at_ms
            had = call.request.attempt_id in told or fetched
            yield "P-PERMIT-2", "" if had else f"asked for a permit for {call.request.attempt_id} before any download"


def _offline(tape: Tape, known: Known) -> Iterator[tuple[str, str]]:
    """An offline permit is asked for where there is one."""
    allowed: dict[str, bool] = {}
    for at_ms, call in _by_time(tape):
        if call.method == CHECK_IN and at_ms == call.ended_ms and call.answered:
            install = call.reply.directive.install
            allowed[install.attempt_id] = install.HasField("offline_permit")
        elif call.method == AUTHORIZE and at_ms == call.at_ms:
            bold = call.request.offline and not allowed.get(call.request.attempt_id, False)
            told = f"asked for an offline permit for {call.request.attempt_id}, which its directive does not have"
            yield "P-PERMIT-8", told if bold else ""


# Calls


def _identity(tape: Tape, known: Known) -> Iterator[tuple[str, str]]:
    """TLS 1.3 everywhere, and a certificate where one is due."""
    for call in tape.calls():
        yield (
            "P-TLS-1",
            "" if call.tls == "TLSv1.3" else f"{call.method} over {call.tls or 'unknown TLS'}",
        )
        if call.method != ENROLL:
            refused = call.status == "PERMISSION_DENIED" and not call.certificate
            yield "P-TLS-2", f"{call.method} without a certificate of the vehicle" if refused else ""


def _one_at_a_time(tape: Tape, known: Known) -> Iterator[tuple[str, str]]:
    """One call outstanding, and not too many in any window."""
    before: SeenCall | None = None
    calls = [call for call in tape.calls() if call.method != ENROLL]
    for call in calls:
        if before is not None and before.boot == call.boot:
            ended_ms = before.ended_ms
            overlap = ended_ms is None or ended_ms - call.at_ms > _OVERLAP_MS
            hangs = before.status == "CANCELLED" or ended_ms is None
            if overlap and not hangs:
                yield "P-POLL-3", f"{call.method} was made while {before.method} was not answered yet"
            else:
                yield "P-POLL-3", ""
        before = call
    window_ms = WINDOW_FLEET_S * 1000 / known.scale
    for number in range(len(calls) - CALLS_MAX):
        if calls[number + CALLS_MAX].at_ms - calls[number].at_ms < window_ms:
            yield "P-POLL-3", f"more than {CALLS_MAX} calls in ten minutes of fleet time"
            return


def _diagnoses(tape: Tape, known: Known) -> Iterator[tuple[str, str]]:
    """Not too many."""
    for call in tape.calls(CHECK_IN):
        count = len(call.request.diagnostics)
        if count > DIAGNOSTICS_MAX:
            yield "P-DIAG-1", f"{count} diagnoses in one call, at most {DIAGNOSTICS_MAX}"
        elif count:
            yield "P-DIAG-1", ""


# Manifests


def _manifests(tape: Tape, known: Known) -> Iterator[tuple[str, str]]:
    """They verify, their counter rises, they are as large as they may be, and polls name the last one."""
    for why in known.refused_manifests:
        counter = why.startswith("replay")
        yield "P-MANIFEST-2" if counter else "P-MANIFEST-1", f"a manifest was refused: {why}"
    for _ in known.proven:
        yield "P-MANIFEST-1", ""
        yield "P-MANIFEST-2", ""
    for call in tape.calls(SUBMIT):
        size = len(call.request.manifest)
        if size > MANIFEST_BYTES_MAX:
            yield "P-MANIFEST-1", f"a manifest of {size} bytes, at most {MANIFEST_BYTES_MAX}"


def _restarting(tape: Tape, known: Known) -> Iterator[tuple[str, str]]:
    """Between the word that it restarts and the restart, nothing says that the old software runs."""
    undone = any(e.kind in (pb.EVENT_KIND_ROLLED_BACK, pb.EVENT_KIND_FAILED) for e in tape.events())
    told_ms = min(
        (
            call.at_ms
            for call in tape.calls(CHECK_IN)
            if any(event.kind == pb.EVENT_KIND_REBOOT_STARTED for event in call.request.events)
        ),
        default=None,
    )
    if told_ms is None or undone:
        return
    for at_ms, running in known.proven:
        if at_ms > told_ms:
            old = not running & known.new_digests
            yield "P-MANIFEST-7", "after REBOOT_STARTED a manifest said that the old software runs" if old else ""


def _manifest_named(tape: Tape, known: Known) -> Iterator[tuple[str, str]]:
    """A poll names the manifest that was signed last: one that was handed in, or one that is about to be."""
    handed_in: list[str] = []
    for call in tape.calls():
        if call.method == SUBMIT:
            handed_in.append(sha256(call.request.manifest).hexdigest())
        elif call.method == CHECK_IN and handed_in:
            named, last = call.request.manifest_sha256, handed_in[-1]
            stale = named != last and (not named or named in handed_in)
            yield (
                "P-POLL-9",
                f"a poll names manifest {named[:12] or 'none'}, signed last was {last[:12]}" if stale else "",
            )


def _is_permit(call: SeenCall) -> bool:
    return bool(call.answered and call.reply.WhichOneof("answer") == "permit")


def _by_time(tape: Tape) -> list[tuple[float, SeenCall]]:
    """Begins and ends of calls in the order in which they happened."""
    moments: list[tuple[float, SeenCall]] = []
    for call in tape.calls():
        moments.append((call.at_ms, call))
        if call.ended_ms is not None:
            moments.append((call.ended_ms, call))
    return sorted(moments, key=lambda moment: moment[0])


_RULES: tuple[Rule, ...] = (
    _permits,
    _numbers,
    _calls_carry,
    _kept_until_acknowledged,
    _outbox_id,
    _event_form,
    _order,
    _refusals,
    _downloaded_first,
    _offline,
    _identity,
    _one_at_a_time,
    _diagnoses,
    _manifests,
    _restarting,
    _manifest_named,
)
