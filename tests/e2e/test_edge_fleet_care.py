"""Looking after a fleet by command line, against the running service: what changes, and what the ledger has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from outrider.v1 import vehicle_pb2

from tests.e2e.test_edge_install import attempts, downloaded, start, vehicles_in
from tests.processes import Installation, eventually, run_cli
from tests.vehicles import AVehicle, import_fleet, offered

WHY = ("--reason", "moved house")


def fields(document: Any) -> list[str]:
    """Ids of the vehicles of a list, in order."""
    return [vehicle["vehicle_id"] for vehicle in document["vehicles"]]


def found(installation: Installation, where: str) -> list[str]:
    """Ids of the vehicles that a filter finds."""
    return sorted(fields(installation.must("fleet", "list", "--where", where)))


def page(installation: Installation, *arguments: str) -> str:
    """What a person reads."""
    return run_cli("--data", installation.data, *arguments).stdout


def told(installation: Installation, *arguments: str, words: Sequence[str]) -> str:
    """A vehicle's or an attempt's story, once the ledger has all of these words."""

    def ask() -> str:
        text = page(installation, "ledger", "show", *arguments)
        return text if all(word in text for word in words) else ""

    return eventually(ask, what=f"the ledger tells {words}")


def test_vehicles_are_moved_counted_and_exported(installation: Installation) -> None:
    """What `set` says it did is what lists, counts and the export show; and the export is what import reads."""
    import_fleet(installation, [AVehicle(f"mv-{number}", region="mv") for number in range(6)])
    answer = installation.must(
        "fleet", "set", "--where", "region=mv,vehicle_id!=mv-0|mv-1", "--cohort", "late", "--zone", "Europe/Berlin",
        "--tag", "taxi", "--yes", *WHY,
    )  # fmt: skip
    assert answer == {"changed_count": 4, "unchanged_count": 0}
    assert found(installation, "region=mv,tag=taxi,cohort=late") == ["mv-2", "mv-3", "mv-4", "mv-5"]
    counts = installation.must("fleet", "count", "--by", "cohort,zone", "--where", "region=mv")
    assert [(each["values"], each["count"]) for each in counts["counts"]] == [
        ({"cohort": "late", "zone": "Europe/Berlin"}, "4"),
        ({"cohort": "canary", "zone": ""}, "2"),
    ]
    file = installation.data / "exported.csv"
    assert installation.must("fleet", "export", "--where", "region=mv", "--out", file)["vehicle_count"] == 6
    again = installation.must("fleet", "import", file)
    assert (again["added_count"], again["changed_count"], again["unchanged_count"]) == (0, 0, 6)
    text = told(installation, "--vehicle", "mv-2", words=["cohort canary -> late", "moved house", "admin"])
    assert "zone none -> Europe/Berlin" in text


def test_faulty_filter_is_told_with_its_column(installation: Installation) -> None:
    """And nothing is asked or changed."""
    outcome = installation.cli("fleet", "quarantine", "--where", "region=eu,colour=red", "--yes", *WHY)
    assert outcome.exit_code == 2
    assert "filter:11: `colour` is not a field" in outcome.stderr


def test_filter_without_a_person_needs_yes(installation: Installation) -> None:
    """A script that did not say so changes nothing."""
    import_fleet(installation, [AVehicle("yes-1", region="yes")])
    outcome = installation.cli("fleet", "remove", "--where", "region=yes", *WHY)
    assert outcome.exit_code == 2
    assert "1 vehicles fit region=yes" in outcome.stderr
    assert found(installation, "region=yes") == ["yes-1"]


def test_quarantined_vehicle_is_withdrawn_told_why_and_let_in_again(installation: Installation) -> None:
    """From the operator's word to the vehicle and back, through every part."""
    (vehicle,) = vehicles_in(installation, "lemon")
    start(installation, "lemon")
    attempt = downloaded(vehicle)
    installation.must("fleet", "quarantine", "lemon-1", "--reason", "boots twice")
    assert vehicle.check_in().directive.withdraw.attempt_id == attempt
    assert attempts(installation, vehicle)[0].failure_code == "excluded"
    assert vehicle.check_in().directive.WhichOneof("kind") == "none"
    explained = installation.must("vehicle", "explain", "lemon-1")
    assert explained["explanations"][0]["reason"] == "quarantined"
    assert "boots twice" in explained["summary"]
    assert found(installation, "excluded=quarantine") == ["lemon-1"]
    installation.must("fleet", "quarantine", "lemon-1", "--lift", "--reason", "repaired")
    (said,) = installation.must("vehicle", "explain", "lemon-1", "--rollout", "lemon")["explanations"]
    assert said["reason"] in ("grant", "retry_later")
    told(installation, "--vehicle", "lemon-1", words=["kept out of every rollout", "let into every rollout again"])


def test_vehicle_that_fails_in_three_rollouts_is_kept_out_until_somebody_lets_it_in(installation: Installation) -> None:
    """Through worker, Valkey, ledger and command line: the reason, the case, the filter, and the way back."""
    vehicle, *_ = vehicles_in(installation, "worn", count=9)
    for number in range(4):
        start(installation, "worn", f"worn-{number}", "gate: {failure_ratio: 30%}\nlimits: {attempts: 1}\n")
    for number in range(3):
        directive = offered(vehicle)
        assert directive.attempt_id == f"worn-{number}.worn-1.1"
        vehicle.check_in(vehicle.event(directive.attempt_id, "FAILED", "flash_worn"))
    eventually(lambda: found(installation, "excluded=quarantine,region=worn") == ["worn-1"], what="it is kept out")
    assert vehicle.check_in().directive.WhichOneof("kind") == "none"
    summary = installation.must("vehicle", "explain", "worn-1")["summary"]
    assert "quarantined" in summary
    assert "failed in 3 rollouts in a row, limit 3: worn-0 (failed: flash_worn)" in summary
    (case,) = installation.must("case", "list", "--rollout", "worn-2")["cases"]
    assert (case["cause"], case["vehicle_id"]) == ("repeated", "worn-1")
    assert "--lift" in page(installation, "case", "show", "worn-2.worn-1.1")
    installation.must("fleet", "quarantine", "worn-1", "--lift", "--reason", "new flash")
    assert offered(vehicle).attempt_id == "worn-3.worn-1.1"
    told(installation, "--vehicle", "worn-1", words=["kept out of every rollout by the service", "new flash"])


def test_denied_vehicle_is_kept_out_of_one_rollout(installation: Installation) -> None:
    """A rollout that does not exist cannot be denied."""
    (vehicle,) = vehicles_in(installation, "deny")
    start(installation, "deny")
    outcome = installation.cli("fleet", "deny", "deny-1", "--rollout", "denyy", *WHY)
    assert (outcome.exit_code, "no rollout denyy" in outcome.stderr) == (3, True)
    installation.must("fleet", "deny", "deny-1", "--rollout", "deny", *WHY)
    assert vehicle.check_in().directive.WhichOneof("kind") == "none"
    (said,) = installation.must("vehicle", "explain", "deny-1", "--rollout", "deny")["explanations"]
    assert said["reason"] == "denied"
    installation.must("fleet", "deny", "deny-1", "--rollout", "deny", "--lift", *WHY)
    eventually(lambda: vehicle.check_in().directive.HasField("install"), what="the vehicle is let in again")


def test_vehicle_moved_into_a_running_rollout_is_admitted(installation: Installation) -> None:
    """Its next call is judged by the inventory as it is."""
    (vehicle,) = vehicles_in(installation, "outside")
    vehicles_in(installation, "inside")
    start(installation, "inside")
    assert vehicle.check_in().directive.WhichOneof("kind") == "none"
    installation.must("fleet", "set", "outside-1", "--region", "inside", *WHY)
    assert eventually(lambda: offered(vehicle).rollout_id, what="it is offered the rollout") == "inside"


def test_removed_vehicle_leaves_and_comes_back_with_its_history(installation: Installation) -> None:
    """In the middle of an update it stays; afterwards it is gone for lists and for the vehicle itself."""
    (vehicle,) = vehicles_in(installation, "gone")
    start(installation, "gone")
    attempt = offered(vehicle).attempt_id
    outcome = installation.cli("fleet", "remove", "gone-1", "--yes", *WHY)
    assert (outcome.exit_code, "nothing was removed: gone-1 has a live attempt" in outcome.stderr) == (4, True)
    vehicle.check_in(vehicle.event(attempt, "REJECTED", "no_space"))
    assert installation.must("fleet", "remove", "gone-1", "--yes", *WHY) == {"removed_count": 1}
    assert found(installation, "vehicle_id=gone-1") == []
    assert installation.cli("vehicle", "show", "gone-1").exit_code == 3
    import_fleet(installation, [vehicle])
    assert [one.number for one in attempts(installation, vehicle)] == [1]


def test_critical_diagnosis_is_a_case_that_a_person_closes(installation: Installation) -> None:
    """From the vehicle's word over list and advice to the reason in the ledger."""
    (vehicle,) = vehicles_in(installation, "ill")
    start(installation, "ill")
    attempt = downloaded(vehicle)
    assert vehicle.authorize(attempt).HasField("permit")
    diagnostic = vehicle_pb2.Diagnostic(
        code="U0100", ecu_serial=vehicle.primary, severity=vehicle_pb2.SEVERITY_CRITICAL
    )
    conditions = vehicle_pb2.Conditions(link_type=vehicle_pb2.LINK_TYPE_WIFI, battery_percent=11, parked=True)
    vehicle.check_in(diagnostics=[diagnostic], conditions=conditions)
    (case,) = installation.must("case", "list", "--rollout", "ill")["cases"]
    assert (case["attempt_id"], case["cause"]) == (attempt, "diagnosis")
    shown = eventually(
        lambda: installation.must("vehicle", "show", "ill-1")["diagnostics"], what="the diagnosis is written behind"
    )
    assert shown[0]["code"] == "U0100"
    told(installation, "--attempt", attempt, words=["a case: diagnosis"])
    shown_case = page(installation, "case", "show", attempt)
    for words in ("U0100", "What happened", "a case: diagnosis", "What could be done", "outrider case close"):
        assert words in shown_case, shown_case
    installation.must("case", "close", attempt, "--reason", "sensor replaced")
    assert installation.must("case", "list", "--rollout", "ill")["cases"] == []
    assert installation.cli("case", "close", attempt, "--reason", "again").exit_code == 4
    told(installation, "--attempt", attempt, words=["the case was closed by admin", "sensor replaced"])
