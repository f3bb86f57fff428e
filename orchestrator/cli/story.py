"""A rollout's story, or a vehicle's, in plain words: one sentence an entry of the ledger.

Owns how each kind of entry is told. A kind that is not known here is told by its name and its data, so that nothing
is left out because this command line is older than the record. Leaves layout to `story_view`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.cli.gate_words import deciding
from orchestrator.cli.words import number

Data = Mapping[str, Any]

BY_THEMSELVES = ("evaluator", "gate", "recovery", "service")
"""Actors that are parts of the orchestrator, not people."""
LEFT_OUT = frozenset({"rollout_id", "vehicle_id", "attempt_id", "number", "epoch", "fence", "change"})
"""Names that the heading says already, or that say nothing to people."""


@dataclass(frozen=True, slots=True)
class Told:
    """One entry in words."""

    word: str
    """Status word that gives mark and colour; empty for neither."""
    text: str
    """What happened, by whom, why."""
    numbers: str = ""
    """What decided it; empty when nothing was weighed."""


def told(kind: str, data: Data) -> Told:
    """An entry in words.

    Args:
        kind: of the entry.
        data: of the entry, as JSON.
    """
    teller = TELLERS.get(kind)
    if teller is not None:
        return teller(data)
    facts = ", ".join(f"{name} {short(value)}" for name, value in data.items() if name not in LEFT_OUT and value)
    return Told("", f"{kind.replace('_', ' ')}: {facts}" if facts else kind.replace("_", " "))


def _created(data: Data) -> Told:
    targeted: Mapping[str, float] = data.get("targeted") or {}
    regions: dict[str, float] = {}
    for cell, vehicles in targeted.items():
        region = cell.split("/")[0]
        regions[region] = regions.get(region, 0) + vehicles
    parts = ", ".join(f"{region} {number(vehicles)}" for region, vehicles in sorted(regions.items()))
    undoes = f" It undoes rollout {data['reverts']}." if data.get("reverts") else ""
    sum_of_all = number(sum(regions.values()))
    release = f"Release {data.get('release')} for {sum_of_all} vehicles ({parts})."
    if data.get("status") == "draft":
        return Told("draft", f"written down as a draft by {who(data)}: {quoted(data)}. {release}{undoes}")
    return Told("running", f"started by {who(data)}: {quoted(data)}. {release}{undoes}")


def _started(data: Data) -> Told:
    return Told("running", f"the draft was started by {who(data)}: {quoted(data)}")


def _superseded(data: Data) -> Told:
    by = data.get("superseded_by") or "another rollout"
    return Told("superseded", f"superseded: {by} takes its place. Attempts without a permit are withdrawn.")


def _advanced(data: Data) -> Told:
    return Told("proceed", moves(str(data.get("reason", ""))))


def _completed(data: Data) -> Told:
    return Told("completed", f"completed: {moves(str(data.get('reason', '')))}")


def _held(data: Data) -> Told:
    return Told("held", f"held by the gate: {data.get('reason')}. Nobody new begins until that clears.", decided(data))


def _cleared(data: Data) -> Told:
    return Told("running", f"the hold cleared by itself: {data.get('reason')}. It goes on.", decided(data))


def _final(data: Data) -> Told:
    return Told("held", f"the hold is final, {data.get('final_because')}: a person must resume or abort")


def _braked(data: Data) -> Told:
    reason = str(data.get("reason", ""))
    signs = (
        ("halted", ": halted"),
        ("held", ": held"),
        ("held", ": the hold is final"),
        ("paused", "went dark"),
    )
    word = next((word for word, sign in signs if sign in reason), "running")
    return Told(word, f"in part: {moves(reason)}", decided(data))


def _places(data: Data) -> Told:
    regions: Mapping[str, Any] = data.get("regions") or {}
    quotas = {name: sum(quota for quota, _ in (of.get("openings") or {}).values()) for name, of in regions.items()}
    parts = ", ".join(f"{name} {number(quota)}" for name, quota in sorted(quotas.items()) if quota)
    return Told("", f"the places of the wave were counted: {parts or 'none'}")


def _folded(data: Data) -> Told:
    return Told("", f"more strata than can be judged each on its own: {data.get('reason')}")


def _part_paused(data: Data) -> Told:
    return Told("paused", f"{data.get('scope')} paused by {who(data)}: {quoted(data)}. The rest goes on.")


def _part_resumed(data: Data) -> Told:
    return Told("running", f"{data.get('scope')} resumed by {who(data)}: {quoted(data)}", waived(data))


def _signal_posted(data: Data) -> Told:
    return Told("warning", f"signal from {who(data)}: {of_signal(data)}. {quoted(data)}")


def _signal_cleared(data: Data) -> Told:
    return Told("settled", f"signal taken back by {who(data)}: {of_signal(data)}. {quoted(data)}")


def _halted(data: Data) -> Told:
    text = f"halted by the gate: {data.get('reason')}. Attempts without a permit are withdrawn; it needs a person."
    return Told("halted", text, decided(data))


def _paused(data: Data) -> Told:
    return Told("paused", f"paused by {who(data)}: {quoted(data)}")


def _recovery(data: Data) -> Told:
    return Told("paused", f"paused after a restart that could not be proven complete: {data.get('reason')}")


def _resumed(data: Data) -> Told:
    return Told("running", f"resumed by {who(data)}: {quoted(data)}", waived(data))


def _aborted(data: Data) -> Told:
    text = f"aborted by {who(data)}: {quoted(data)}. Attempts without a permit are withdrawn, running installs go on."
    return Told("aborted", text)


def _approved(data: Data) -> Told:
    region = f"region {data['region']}" if data.get("region") else "every region"
    return Told("approved", f"wave {data.get('wave', '?')} approved for {region} by {who(data)}: {quoted(data)}")


def _draft_approved(data: Data) -> Told:
    return Told("approved", f"the draft was approved by {who(data)}: {quoted(data)}")


def _granted(data: Data) -> Told:
    return Told("", f"rollout {data.get('rollout_id')} offered it release {data.get('release', '?')}{nth(data)}")


def _changed(data: Data) -> Told:
    code = f" ({data['failure_code']})" if data.get("failure_code") else ""
    return Told(str(data.get("to", "")), f"{data.get('from')} -> {data.get('to')}{code}", about(data))


def _corrected(data: Data) -> Told:
    code = f" ({data['failure_code']})" if data.get("failure_code") else ""
    text = f"a late word corrects the record: {data.get('from')} -> {data.get('to')}{code}"
    return Told(str(data.get("to", "")), text, about(data))


def _aged(data: Data) -> Told:
    checkpoint = number(float(data.get("checkpoint", 0)) + 1)
    if data.get("silent"):
        return Told("silent", f"silent at checkpoint {checkpoint}: it has not said how the installation ended")
    return Told("succeeded", f"settled by its own word at checkpoint {checkpoint}")


def _aged_by_habit(data: Data) -> Told:
    habit, hours = data.get("habit"), number(float(data.get("age_ms", 0)) / 3_600_000)
    if data.get("silent"):
        return Told("silent", f"silent after {hours} h: it calls {habit}, and has not said how the installation ended")
    return Told("succeeded", f"settled by its own word after {hours} h, as one that calls {habit}")


def _grant_silent(data: Data) -> Told:
    return Told("silent", f"not heard since its grant, at the first checkpoint; {data.get('state')}")


def _watched(data: Data) -> Told:
    calls = "how often it calls is not known yet" if data.get("habit") == "unknown" else f"it calls {data.get('habit')}"
    return Told("", f"it could have its permit, and waits by a coin for one more call, watched as a control; {calls}")


def _control_silent(data: Data) -> Told:
    hours = number(float(data.get("age_ms", 0)) / 3_600_000)
    return Told("silent", f"as a control not heard again within {hours} h: so much is normal")


def _case(data: Data) -> Told:
    return Told("open", f"a case: {data.get('cause')}, {data.get('detail')}")


def _case_changed(data: Data) -> Told:
    return Told("open", f"the case is now one of {data.get('cause')}, {data.get('detail')}")


def _case_settled(data: Data) -> Told:
    return Told("settled", f"the case settled by itself: the attempt is {data.get('state')}")


def _case_closed(data: Data) -> Told:
    return Told("settled", f"the case was closed by {who(data)}: {quoted(data)}")


def _vehicle_changed(data: Data) -> Told:
    changes: Mapping[str, Any] = data.get("changed") or {}
    parts = [f"{name} {shown(before)} -> {shown(after)}" for name, (before, after) in changes.items()]
    return Told("", f"changed by {who(data)}: {', '.join(parts)}. {quoted(data)}")


def _consented(data: Data) -> Told:
    return Told("approved", f"its owner agreed to install release {data.get('release', '?')}")


def _excluded(data: Data) -> Told:
    return Told("quarantined", f"kept out of {scope(data)} by {who(data)}: {quoted(data)}")


def _readmitted(data: Data) -> Told:
    return Told("enrolled", f"let into {scope(data)} again by {who(data)}: {quoted(data)}")


def _removed(data: Data) -> Told:
    return Told("revoked", f"taken out of the inventory by {who(data)}: {quoted(data)}")


def _manifest(data: Data) -> Told:
    installed = data.get("installed")
    proves = f"proves release {installed}" if installed else "matches no registered release"
    return Told("", f"a signed manifest {proves}")


def _manifest_refused(data: Data) -> Told:
    return Told("failed", f"a manifest was refused: {data.get('message')}")


def _head_signed(data: Data) -> Told:
    return Told("", "a day is over: the end of the ledger is signed")


def _archived(data: Data) -> Told:
    note: Mapping[str, Any] = data.get("signed") or {}
    span = f"entries {number(float(note.get('first', 0)))} to {number(float(note.get('last', 0)))}"
    return Told("", f"{who(data)} archived {span} in {note.get('file')}: {quoted(data)}")


def _repaired(data: Data) -> Told:
    counter = f"counter {data.get('counter')} of {data.get('field')}"
    return Told(
        "failed", f"{who(data)} put {counter} right, from {data.get('was')} to {data.get('is')}: {quoted(data)}"
    )


TELLERS: Mapping[str, Callable[[Data], Told]] = {
    "rollout_created": _created,
    "rollout_started": _started,
    "rollout_superseded": _superseded,
    "rollout_approved": _draft_approved,
    "hold_final": _final,
    "parts_braked": _braked,
    "places_counted": _places,
    "strata_folded": _folded,
    "part_paused": _part_paused,
    "part_resumed": _part_resumed,
    "signal_posted": _signal_posted,
    "signal_cleared": _signal_cleared,
    "regions_advanced": _advanced,
    "rollout_completed": _completed,
    "rollout_held": _held,
    "hold_cleared": _cleared,
    "rollout_halted": _halted,
    "rollout_paused": _paused,
    "recovery_paused": _recovery,
    "rollout_resumed": _resumed,
    "rollout_aborted": _aborted,
    "wave_approved": _approved,
    "attempt_granted": _granted,
    "consent_given": _consented,
    "attempt_changed": _changed,
    "attempt_corrected": _corrected,
    "exposure_aged": _aged,
    "habit_aged": _aged_by_habit,
    "grant_silent": _grant_silent,
    "control_enrolled": _watched,
    "control_silent": _control_silent,
    "case_opened": _case,
    "case_changed": _case_changed,
    "case_settled": _case_settled,
    "case_closed": _case_closed,
    "vehicle_changed": _vehicle_changed,
    "vehicle_excluded": _excluded,
    "vehicle_readmitted": _readmitted,
    "vehicle_removed": _removed,
    "manifest_accepted": _manifest,
    "manifest_refused": _manifest_refused,
    "ledger_head_signed": _head_signed,
    "ledger_archived": _archived,
    "counter_repaired": _repaired,
}
"""By kind of entry."""


def who(data: Data) -> str:
    """Who did it."""
    actor = str(data.get("actor") or "nobody")
    return f"the {actor}" if actor in BY_THEMSELVES else actor


def quoted(data: Data) -> str:
    """The reason that was given, as it was given."""
    return f'"{data["reason"]}"' if data.get("reason") else "no reason given"


def of_signal(data: Data) -> str:
    """A signal from outside, for example `tow_rate at 2.4, limit 1.5, in all`."""
    signal: Mapping[str, Any] = data.get("signal") or {}
    numbers = f"at {short(signal.get('value'))}, limit {short(signal.get('limit'))}"
    kind = " (safety)" if signal.get("kind") == "safety" else ""
    return f"{signal.get('name')}{kind} {numbers}, in {signal.get('scope') or 'all'}"


def waived(data: Data) -> str:
    """What the gate does not look at any more, as people overruled it; empty when nothing."""
    rules = ", ".join(map(str, data.get("waived") or ()))
    return f"waived from now on: {rules}" if rules else ""


def scope(data: Data) -> str:
    """What an exclusion is of."""
    return f"rollout {data['scope']}" if data.get("scope") else "every rollout"


def shown(value: Any) -> str:
    """A field's value before or after a change."""
    return ";".join(map(str, value)) or "none" if isinstance(value, list) else str(value) or "none"


def moves(reason: str) -> str:
    """What the evaluator wrote about regions, as sentences: `eu: wave canary -> wave early` becomes
    `eu goes from wave canary to wave early`.
    """
    parts: list[str] = []
    for part in filter(None, reason.split("; ")):
        region, colon, rest = part.partition(": ")
        before, arrow, after = rest.partition(" -> ")
        parts.append(f"{region} goes from {before} to {after}" if colon and arrow else part)
    return "; ".join(parts)


def decided(data: Data) -> str:
    """Rule, scope and inputs of the verdict that decided, for example `rule failures_evalue on us: evalue 682`."""
    verdicts: Sequence[Data] = data.get("verdicts") or ()
    # The one whose words became the reason, or a part of it; the gate writes both.
    reason = str(data.get("reason"))
    found = next((item for item in verdicts if item.get("message") and str(item["message"]) in reason), None)
    if found is None:
        return ""
    rule = str(found.get("rule"))
    return f"rule {rule} on {found.get('scope') or 'all'}: {deciding(rule, found.get('inputs') or {})}"


def nth(data: Data) -> str:
    """Which try this is, from the second on."""
    tries = float(data.get("number") or 1)
    return f", try {number(tries)}" if tries > 1 else ""


def about(data: Data) -> str:
    """Which attempt and what it was told, for a vehicle with several."""
    return f"{data.get('event', '')}, attempt {data.get('attempt_id', '?')}".removeprefix(", ")


def short(value: object) -> str:
    """A value on a line: numbers short, structures by their size."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, Mapping | list):
        return f"({len(value)} entries)" if value else "none"
    text = " ".join(str(value).split())
    return text if len(text) <= 120 else f"{text[:117]}..."
