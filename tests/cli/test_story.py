"""`outrider ledger show`: what the ledger holds, told so that a person who was not there understands it."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from outrider.v1 import case_pb2, ledger_pb2

from orchestrator.cli.story import TELLERS, told
from orchestrator.engine import steps
from orchestrator.engine.progress import SignalCleared, SignalPosted, Step, step
from orchestrator.model.rollout import Signal, SignalKind
from tests.builders import NOW
from tests.builders import a_rollout as engine_rollout
from tests.cli.answers import a_case, a_rollout
from tests.cli.conftest import Outrider
from tests.cli.server import FLEET_TIME, OperatorServer


def at(**after: float) -> Timestamp:
    """A moment that long after the server's fleet time."""
    moment = Timestamp()
    moment.FromDatetime(FLEET_TIME + timedelta(**after))
    return moment


def an_entry(number: int, kind: str, when: Timestamp, **data: Any) -> ledger_pb2.LedgerEntry:
    """An entry of the ledger on the wire."""
    packed = Struct()
    packed.update({"rollout_id": "spring-1-1-0", **data})
    return ledger_pb2.LedgerEntry(number=number, kind=kind, create_time=when, data=packed, hash="ab" * 32)


def a_struct(**data: Any) -> Struct:
    """Data of an entry that is about no rollout."""
    packed = Struct()
    packed.update(data)
    return packed


GATE_SAYS = "us/gen2: 5 of 5 exposed were silent after 15 min"
VERDICT = {
    "kind": "halt",
    "rule": "silence_evalue_0",
    "scope": "us/gen2",
    "message": GATE_SAYS,
    "inputs": {"evalue": 682.1234, "exposed": 5, "silent": 5},
}
STORY = [
    an_entry(
        3,
        "rollout_created",
        at(),
        actor="alice",
        reason="brakes",
        release="1.1.0",
        targeted={"eu/gen1/canary": 80, "eu/gen2/canary": 20, "us/gen2/canary": 1000},
    ),
    an_entry(9, "regions_advanced", at(hours=1), actor="evaluator", reason="eu: wave canary -> wave early"),
    an_entry(70, "rollout_halted", at(hours=2), actor="gate", reason=GATE_SAYS, verdicts=[{"kind": "hold"}, VERDICT]),
    an_entry(99, "rollout_aborted", at(days=1, hours=3), actor="bob", reason="bad brakes"),
]


def test_story_says_who_what_why_and_with_which_numbers(data: Path, server: OperatorServer, outrider: Outrider) -> None:
    """Read a week later by somebody who was not there."""
    server.will_answer("GetRollout", a_rollout("ABORTED"))
    server.will_answer("ListLedgerEntries", ledger_pb2.ListLedgerEntriesResponse(entries=STORY))
    silent = [a_case(open_time=at(hours=1, minutes=30)), a_case(open_time=at(hours=1, minutes=31), settle_time=at())]
    failed = a_case(cause="rolled_back", open_time=at(hours=5))
    server.will_answer("ListCases", case_pb2.ListCasesResponse(cases=[failed, *silent]))
    outcome = outrider("ledger", "show", "spring-1-1-0")
    assert outcome.exit_code == 0
    lines = [" ".join(line.split()) for line in outcome.stdout.strip().splitlines()]
    assert lines == [
        '2031-04-05 06:07:08 UTC +0 s ▶ started by alice: "brakes". Release 1.1.0 for 1,100 vehicles '
        "(eu 100, us 1,000).",
        "2031-04-05 07:07:08 UTC +1 h ✓ eu goes from wave canary to wave early",
        "2031-04-05 07:37:08 UTC +1 h 30 min ▲ 2 cases opened from here on: 2 silent",
        f"2031-04-05 08:07:08 UTC +2 h ■ halted by the gate: {GATE_SAYS}. Attempts without a permit are withdrawn; "
        "it needs a person.",
        "rule silence_evalue_0 on us/gen2: evalue 682.1, exposed 5, silent 5",
        "2031-04-05 11:07:08 UTC +5 h ▲ 1 case opened from here on: 1 rolled back",
        '2031-04-06 09:07:08 UTC +1 d 3 h ■ aborted by bob: "bad brakes". Attempts without a permit are withdrawn, '
        "running installs go on.",
        "Now: ■ aborted; 60 of 120 done, 75 exposed, 6 failed, 9 silent; 3 cases, 2 open.",
    ]
    [asked] = server.asked("ListLedgerEntries")
    assert (asked.rollout, asked.decisions_only) == ("rollouts/spring-1-1-0", True)


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("rollout_held", {"reason": "weak"}, "held by the gate: weak. Nobody new begins until that clears."),
        ("hold_cleared", {"reason": "fine"}, "the hold cleared by itself: fine. It goes on."),
        ("rollout_created", {"actor": "al", "status": "draft", "release": "1.1.0"}, "written down as a draft by al"),
        ("rollout_started", {"actor": "al", "reason": "go"}, 'the draft was started by al: "go"'),
        ("rollout_approved", {"actor": "ann", "reason": "read it"}, 'the draft was approved by ann: "read it"'),
        ("rollout_superseded", {"superseded_by": "summer"}, "summer takes its place"),
        (
            "hold_final",
            {"final_because": "held for 7 d"},
            "the hold is final, held for 7 d: a person must resume or abort",
        ),
        ("parts_braked", {"reason": "eu/gen1: halted (5 of 25)"}, "in part: eu/gen1: halted (5 of 25)"),
        (
            "places_counted",
            {"regions": {"eu": {"openings": {"gen1/canary": [12, 0.1], "gen2/canary": [30, 0.1]}}, "us": {}}},
            "the places of the wave were counted: eu 42",
        ),
        ("part_paused", {"scope": "eu", "actor": "eve", "reason": "ice"}, 'eu paused by eve: "ice". The rest goes on.'),
        ("part_resumed", {"scope": "eu", "actor": "eve", "reason": "sun"}, 'eu resumed by eve: "sun"'),
        ("rollout_paused", {"actor": "eve", "reason": "lunch"}, 'paused by eve: "lunch"'),
        ("recovery_paused", {"reason": "gap"}, "paused after a restart that could not be proven complete: gap"),
        ("rollout_resumed", {"actor": "eve", "reason": "seen"}, 'resumed by eve: "seen"'),
        ("wave_approved", {"actor": "ann", "wave": "all", "region": "eu", "reason": "ok"}, "region eu by ann"),
        ("wave_approved", {"actor": "ann", "wave": "all", "reason": "ok"}, "wave all approved for every region"),
        ("consent_given", {"release": "1.1.0"}, "owner agreed to install release 1.1.0"),
        ("rollout_completed", {"reason": "eu: holdout -> done; every region is through"}, "every region is through"),
        ("attempt_changed", {"from": "installing", "to": "failed", "failure_code": "E7"}, "installing -> failed (E7)"),
        ("exposure_aged", {"checkpoint": 0, "silent": True}, "silent at checkpoint 1"),
        ("habit_aged", {"habit": "often", "age_ms": 21_600_000, "silent": True}, "silent after 6 h: it calls often"),
        ("habit_aged", {"habit": "daily", "age_ms": 21_600_000, "silent": False}, "settled by its own word after 6 h"),
        ("grant_silent", {"state": "timed_out"}, "not heard since its grant"),
        (
            "control_enrolled",
            {"habit": "often"},
            "waits by a coin for one more call, watched as a control; it calls oft",
        ),
        ("control_enrolled", {"habit": "unknown"}, "how often it calls is not known yet"),
        ("control_silent", {"age_ms": 21_600_000}, "as a control not heard again within 6 h"),
        ("case_settled", {"state": "succeeded"}, "the case settled by itself: the attempt is succeeded"),
        ("case_closed", {"actor": "eve", "reason": "towed"}, 'the case was closed by eve: "towed"'),
        (
            "vehicle_changed",
            {"actor": "eve", "reason": "x", "changed": {"region": ["eu", "us"], "tags": [[], ["a", "b"]]}},
            'changed by eve: region eu -> us, tags none -> a;b. "x"',
        ),
        ("vehicle_excluded", {"actor": "eve", "reason": "x", "scope": ""}, 'kept out of every rollout by eve: "x"'),
        ("vehicle_readmitted", {"actor": "eve", "scope": "spring"}, "let into rollout spring again by eve"),
        ("vehicle_removed", {"actor": "eve", "reason": "sold"}, 'taken out of the inventory by eve: "sold"'),
        ("vehicle_towed", {"actor": "eve", "to_city": "Ulm"}, "vehicle towed: actor eve, to_city Ulm"),
    ],
)
def test_every_kind_of_entry_is_told(kind: str, data: dict[str, Any], words: str) -> None:
    """One that this command line does not know is told by its name: nothing is left out."""
    assert words in told(kind, data).text


def test_every_step_of_the_engine_has_words() -> None:
    """A kind that the engine learns is told in a sentence, not by its name and its data."""
    source = Path(steps.__file__).read_text(encoding="utf-8")
    listed = re.findall(r"`([a-z]+_[a-z]+)`", source.partition("In the past, for the journal: ")[2].partition('"""')[0])
    assert len(listed) > 15
    assert [kind for kind in listed if kind not in TELLERS] == []


def test_signals_are_told_as_the_engine_writes_them() -> None:
    """The entry is what the engine made of it, not what somebody thought that it would be."""
    signal = Signal("tow_rate", SignalKind.SAFETY, "", 2.4, 1.5, "ci", "EU desk", NOW)
    posted = step(engine_rollout(), SignalPosted(signal), NOW)
    assert isinstance(posted, Step)
    line = told(posted.kind, posted.data)
    assert line.text == 'signal from ci: tow_rate (safety) at 2.4, limit 1.5, in all. "EU desk"'
    cleared = step(posted.rollout, SignalCleared("tow_rate", "", "ann", "a storm"), NOW)
    assert isinstance(cleared, Step)
    line = told(cleared.kind, cleared.data)
    assert line.text == 'signal taken back by ann: tow_rate (safety) at 2.4, limit 1.5, in all. "a storm"'


def test_a_braked_part_is_told_with_the_numbers_of_its_own_verdict() -> None:
    """The first verdict is about everything, and let the rest go on."""
    data = {"reason": f"us/gen2: halted ({GATE_SAYS})", "verdicts": [{"message": "all: fine", "rule": "none"}, VERDICT]}
    line = told("parts_braked", data)
    assert (line.word, line.numbers) == (
        "halted",
        "rule silence_evalue_0 on us/gen2: evalue 682.1, exposed 5, silent 5",
    )
    assert told("parts_braked", {"reason": "eu: went dark"}).word == "paused"
    assert told("strata_folded", {"reason": "63 apart"}).text.endswith("can be judged each on its own: 63 apart")
    assert told("parts_braked", {"reason": "eu/gen1: the hold is final (held for 7 d)"}).word == "held"
    assert told("parts_braked", {"reason": "eu/gen1: hold cleared (fine)"}).word == "running"


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--vehicle", "v-1"], {"vehicle": "vehicles/v-1"}),
        (["--attempt", "spring.v-1.1"], {"attempt_id": "spring.v-1.1"}),
        (["spring", "--all"], {"rollout": "rollouts/spring"}),
        ([], {"decisions_only": True}),
    ],
)
def test_a_vehicle_has_a_story_too(
    arguments: list[str], wanted: dict[str, Any], data: Path, server: OperatorServer, outrider: Outrider
) -> None:
    """Asked with the right filter, over all pages, and ended by the limit."""
    pages = [
        ledger_pb2.ListLedgerEntriesResponse(entries=[STORY[0]], next_page_token="3"),
        ledger_pb2.ListLedgerEntriesResponse(entries=[STORY[1]], next_page_token="9"),
    ]
    server.will_answer("ListLedgerEntries", *pages)
    outcome = outrider("ledger", "show", *arguments, "--limit", "2")
    assert outcome.exit_code == 0
    assert "There is more: --limit 0 shows all." in outcome.stdout
    first, second = server.asked("ListLedgerEntries")
    expected = ledger_pb2.ListLedgerEntriesRequest(page_size=2, **wanted)
    assert first == expected
    expected.page_size, expected.page_token = 1, "3"
    assert second == expected


def test_story_of_the_installation_names_the_rollout_of_each_line(
    data: Path, server: OperatorServer, outrider: Outrider
) -> None:
    """Two rollouts at once have a region eu each; a vehicle's or a rollout's own story needs no name."""
    server.will_answer("ListLedgerEntries", ledger_pb2.ListLedgerEntriesResponse(entries=STORY))
    assert "spring-1-1-0: eu goes from wave canary to wave early" in outrider("ledger", "show").stdout
    server.will_answer("GetRollout", a_rollout())
    assert "spring-1-1-0: eu goes" not in outrider("ledger", "show", "spring-1-1-0").stdout


def test_an_import_is_one_line(data: Path, server: OperatorServer, outrider: Outrider) -> None:
    """Each shard of the store writes its part; a person imported once."""
    entries = [
        ledger_pb2.LedgerEntry(number=1, kind="vehicles_imported", create_time=at(), data=a_struct(added=3)),
        ledger_pb2.LedgerEntry(
            number=2, kind="vehicles_imported", create_time=at(), data=a_struct(added=80, actor="ann", reason="spring")
        ),
    ]
    server.will_answer("ListLedgerEntries", ledger_pb2.ListLedgerEntriesResponse(entries=entries))
    assert outrider("ledger", "show").stdout.count("vehicles imported") == 1
    server.will_answer("ListLedgerEntries", ledger_pb2.ListLedgerEntriesResponse(entries=entries))
    assert outrider("ledger", "show", "--all").stdout.count("vehicles imported") == 2


def test_json_is_the_entries_as_they_are(data: Path, server: OperatorServer, outrider: Outrider) -> None:
    """Tools and auditors get the record, not the tale."""
    server.will_answer("GetRollout", a_rollout())
    server.will_answer("ListLedgerEntries", ledger_pb2.ListLedgerEntriesResponse(entries=STORY))
    document = outrider("ledger", "show", "spring-1-1-0", "-o", "json").json
    assert [entry["number"] for entry in document["entries"]] == ["3", "9", "70", "99"]
    assert document["entries"][2]["data"]["verdicts"][1] == VERDICT
    assert document["next_page_token"] == ""


def test_all_of_a_vehicle_is_no_question(data: Path, server: OperatorServer, outrider: Outrider) -> None:
    """Better said than guessed."""
    outcome = outrider("ledger", "show", "--vehicle", "v-1", "--all")
    assert outcome.exit_code == 2
    assert "leave it out" in outcome.stderr
