"""`outrider vehicle` and `outrider case`."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from outrider.v1.case_pb2 import ListCasesResponse
from outrider.v1.fleet_pb2 import Exclusion, ExplainVehicleResponse, Explanation
from outrider.v1.ledger_pb2 import LedgerEntry, ListLedgerEntriesResponse
from outrider.v1.vehicle_pb2 import LINK_TYPE_CELLULAR, SEVERITY_CRITICAL, Conditions, Diagnostic

from tests.cli.answers import a_case, a_release, a_vehicle, ago, an_attempt
from tests.cli.conftest import Outrider
from tests.cli.server import OperatorServer, Refused


def test_show_has_control_units_and_attempts(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """All that is known of one vehicle stands on one page."""
    attempts = [an_attempt("ROLLED_BACK", failure_code="boot_loop", permit_time=ago(hours=1))]
    server.will_answer("GetVehicle", a_vehicle(attempts=attempts))
    server.will_answer("GetRelease", a_release("1.0.0", rxswin=["R79 SWIN 0042-01"]))
    outcome = outrider("vehicle", "show", "v-0001")
    assert outcome.exit_code == 0
    for words in ("acme-gw-2", "R79 SWIN 0042-01", "Primary", "✗ rolled_back", "boot_loop", "2031-04-05 05:07:08 UTC"):
        assert words in outcome.stdout
    assert server.asked("GetVehicle")[0].name == "vehicles/v-0001"


@pytest.mark.parametrize(
    ("habit", "gap_s", "words"),
    [
        ("often", 3_720, "often, about every 1 h 2 min"),
        ("unknown", 3_600, "about every 1 h; too few gaps were heard to call it a habit"),
        ("unknown", None, "no gap between two contacts was heard yet"),
    ],
)
def test_show_says_how_often_a_vehicle_calls(
    habit: str, gap_s: int | None, words: str, server: OperatorServer, data: Path, outrider: Outrider
) -> None:
    """Six hours of silence are a sign from one that calls every hour, and nothing from one that calls on Sundays."""
    vehicle = a_vehicle(habit=habit)
    if gap_s is not None:
        vehicle.usual_gap.FromSeconds(gap_s)
    server.will_answer("GetVehicle", vehicle)
    server.will_answer("GetRelease", a_release("1.0.0", rxswin=["R79 SWIN 0042-01"]))
    lines = [" ".join(line.split()) for line in outrider("vehicle", "show", "v-0001").stdout.splitlines()]
    assert f"calls {words}" in lines


def test_an_unknown_vehicle_is_not_found(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """Scripts can tell a typing error from a server that is down."""
    server.will_answer(
        "GetVehicle",
        Refused(grpc.StatusCode.NOT_FOUND, "vehicle v-9 is not in the inventory", remedy="import it first"),
    )
    outcome = outrider("vehicle", "show", "v-9")
    assert outcome.exit_code == 3
    assert outcome.stderr == "error: vehicle v-9 is not in the inventory -> import it first\n"
    assert outcome.stdout == ""


def test_explain_names_the_rule_and_its_values(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """The owner of a waiting vehicle gets a reason with numbers, not a shrug."""
    explanation = Explanation(
        rollout="rollouts/spring",
        reason="wave_not_reached",
        message="cohort general joins in wave 3, eu is in wave 1",
        facts={"wave": "1", "cohort": "general"},
    )
    server.will_answer("ExplainVehicle", ExplainVehicleResponse(explanations=[explanation]))
    outcome = outrider("vehicle", "explain", "v-0001", "--rollout", "spring")
    for words in ("wave_not_reached", "cohort general joins in wave 3", "general"):
        assert words in outcome.stdout
    [request] = server.asked("ExplainVehicle")
    assert (request.name, request.rollout) == ("vehicles/v-0001", "rollouts/spring")


def test_explain_without_a_rollout_says_that_there_is_none(
    server: OperatorServer, data: Path, outrider: Outrider
) -> None:
    """An empty answer would look like a defect."""
    server.will_answer("ExplainVehicle", ExplainVehicleResponse())
    assert "No rollout is under way" in outrider("vehicle", "explain", "v-0001").stdout
    assert outrider("vehicle", "explain", "v-0001", "-o", "json").json == {"explanations": [], "summary": ""}


def test_cases_follow_pages_and_say_how_many_are_open(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """The vehicles that an update hurt are what an operator must not overlook."""
    server.will_answer(
        "ListCases",
        ListCasesResponse(cases=[a_case()], next_page_token="p2", open_count=1),
        ListCasesResponse(cases=[a_case(vehicle_id="v-0002", settle_time=ago(minutes=1))], open_count=1),
    )
    outcome = outrider("case", "list", "--rollout", "spring-1-1-0", "--settled")
    assert "▲ open" in outcome.stdout
    assert "✓ settled" in outcome.stdout
    assert "no word 24 h after the permit" in outcome.stdout
    assert outcome.stdout.endswith("2 shown, 1 open.\n")
    requests = server.asked("ListCases")
    assert [(item.rollout, item.show_settled, item.page_token) for item in requests] == [
        ("rollouts/spring-1-1-0", True, ""),
        ("rollouts/spring-1-1-0", True, "p2"),
    ]


def test_case_list_as_json_has_the_shape_of_the_answer(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """`jq '.cases[].vehicle_id'` must keep working."""
    server.will_answer("ListCases", ListCasesResponse(cases=[a_case()], open_count=1))
    document = outrider("case", "list", "--output", "json").json
    assert [case["vehicle_id"] for case in document["cases"]] == ["v-0001"]
    assert document["open_count"] == "1"


def test_show_has_conditions_diagnoses_and_exclusions(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """How it stood when it was last heard, and who keeps it out of what."""
    vehicle = a_vehicle(
        zone="Europe/Berlin",
        exclusions=[
            Exclusion(reason="boots twice", actor="ann", create_time=ago(days=1)),
            Exclusion(rollout="rollouts/spring", reason="test bench", actor="bob", create_time=ago(hours=1)),
        ],
        conditions=Conditions(link_type=LINK_TYPE_CELLULAR, metered=True, battery_percent=17, storage_free_bytes=10**9),
        diagnostics=[Diagnostic(code="U0100", ecu_serial="v-0001-gw", severity=SEVERITY_CRITICAL)],
    )
    server.will_answer("GetVehicle", vehicle)
    server.will_answer("GetRelease", a_release("1.0.0", rxswin=["R79 SWIN 0042-01"]))
    stdout = outrider("vehicle", "show", "v-0001").stdout
    for words in (
        "✗ quarantined",
        "Europe/Berlin",
        "cellular (metered), battery 17 %, not parked, 1.0 GB free",
        "every rollout (quarantine)",
        "boots twice",
        "rollout spring",
        "U0100",
        "✗ critical",
    ):
        assert words in stdout


def test_explain_begins_with_what_happens_next(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """One sentence first; the rules are for those who want to know more."""
    explanation = Explanation(rollout="rollouts/spring", reason="holdout", message="it stays out")
    server.will_answer(
        "ExplainVehicle", ExplainVehicleResponse(summary="Nothing before Monday.", explanations=[explanation])
    )
    assert outrider("vehicle", "explain", "v-0001").stdout.startswith("Nothing before Monday.\n")


def test_case_show_tells_what_happened_and_what_could_be_done(
    server: OperatorServer, data: Path, outrider: Outrider
) -> None:
    """Cause, history and advice on one page, in the order in which they are needed."""
    case = a_case(advice=["Wait for contact.", "Call the owner."])
    entry = LedgerEntry(kind="case_opened", create_time=ago(hours=2))
    entry.data.update({"cause": "silent", "detail": "checkpoint 1"})
    server.will_answer("GetCase", case)
    server.will_answer("ListLedgerEntries", ListLedgerEntriesResponse(entries=[entry]))
    outcome = outrider("case", "show", case.attempt_id)
    text = outcome.stdout
    assert text.index("▲ open") < text.index("a case: silent, checkpoint 1") < text.index("1.  Wait for contact.")
    assert "2.  Call the owner." in text
    assert server.asked("GetCase")[0].name == f"cases/{case.attempt_id}"
    assert server.asked("ListLedgerEntries")[0].attempt_id == case.attempt_id
    server.will_answer("ListLedgerEntries", ListLedgerEntriesResponse())
    assert "no entry of this attempt yet" in outrider("case", "show", f"cases/{case.attempt_id}").stdout


def test_case_close_needs_a_reason_and_says_that_it_is_done(
    server: OperatorServer, data: Path, outrider: Outrider
) -> None:
    """What was found stays with the case."""
    case = a_case()
    server.will_answer("CloseCase", case)
    assert outrider("case", "close", case.attempt_id, "--reason", " ").exit_code == 2
    outcome = outrider("case", "close", case.attempt_id, "--reason", "flashed")
    assert outcome.stdout == f"Case {case.attempt_id} is closed.\n"
    (request,) = server.asked("CloseCase")
    assert (request.name, request.reason) == (f"cases/{case.attempt_id}", "flashed")
