"""Drafts, parts that stand still, and signals from outside: by command line, against the running service."""

from __future__ import annotations

from typing import Any

import pytest

from tests.processes import Installation, eventually
from tests.vehicles import AVehicle, enrolled, installing, offered

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

PLAN = """\
name: {name}
release: 1.1.0
holdout: 0%
target: {{region: [{name}]}}
waves: [{{name: all, soak: 0s}}]
"""


def status(installation: Installation, name: str) -> Any:
    """Where a rollout stands, as JSON."""
    return installation.must("rollout", "status", name)


def becomes(installation: Installation, name: str, word: str) -> Any:
    """The rollout, once it has that status."""
    wanted = f"ROLLOUT_STATUS_{word}"

    def looked() -> Any:
        found = status(installation, name)
        return found if found["status"] == wanted else None

    return eventually(looked, what=f"{name} is {word}")


def two_variants(installation: Installation, region: str) -> tuple[AVehicle, AVehicle]:
    """Enrolled vehicles of two hardware variants in a region of their own."""
    gen1 = AVehicle(f"{region}-1", hardware="gen1", region=region)
    gen2 = AVehicle(f"{region}-2", hardware="gen2", region=region)
    enrolled(installation, gen1, gen2)
    return gen1, gen2


def test_a_draft_admits_nobody_until_it_is_launched(installation: Installation) -> None:
    """Written down on Friday, approved on Monday: nothing may begin in between."""
    car, _ = two_variants(installation, "draft")
    plan = PLAN.format(name="draft") + "approvals: 1\n"
    created = installation.must("rollout", "start", installation.write("draft.yaml", plan), "--draft")
    assert created["status"] == "ROLLOUT_STATUS_DRAFT"
    assert car.check_in().directive.WhichOneof("kind") == "none"
    early = installation.cli("rollout", "launch", "draft", "--yes", "--reason", "go")
    assert (early.exit_code, "approval" in early.stderr) == (4, True)
    assert installation.cli("rollout", "approve", "draft", "--reason", "mine").exit_code == 6
    installation.must("ca", "issue-operator", "ann", "--role", "approver")
    approved = installation.must("rollout", "approve", "draft", "--reason", "read it", "--as", "ann")
    assert approved["status"] == "ROLLOUT_STATUS_APPROVED"
    launched = installation.must("rollout", "launch", "draft", "--yes", "--reason", "approved")
    assert launched["status"] == "ROLLOUT_STATUS_RUNNING"
    eventually(lambda: installing(car.check_in()), what="it is offered")


def test_one_variant_stands_still_and_the_other_goes_on(installation: Installation) -> None:
    """Calls about one variant at 3 a.m.: that one stops, within a second, and nothing else does."""
    gen1, gen2 = two_variants(installation, "parts")
    installation.must("rollout", "start", installation.write("parts.yaml", PLAN.format(name="parts")), "--yes")
    wrong = installation.cli("rollout", "pause", "parts", "--scope", "parts/gen7", "--reason", "brakes")
    assert (wrong.exit_code, "there are gen1, gen2" in wrong.stderr) == (2, True)
    paused = installation.must("rollout", "pause", "parts", "--scope", "parts/gen1", "--reason", "brakes")
    assert [(brake["scope"], brake["kind"]) for brake in paused["brakes"]] == [("parts/gen1", "BRAKE_KIND_PAUSED")]
    assert paused["status"] == "ROLLOUT_STATUS_RUNNING"
    assert offered(gen2)
    assert gen1.check_in().directive.WhichOneof("kind") == "none"
    installation.must("rollout", "resume", "parts", "--scope", "parts/gen1", "--reason", "a charger")
    assert offered(gen1)


def test_a_signal_from_outside_holds_while_it_stands(installation: Installation) -> None:
    """What a call centre hears is judged within a tick, and what is taken back lets the rollout go on."""
    two_variants(installation, "tows")
    installation.must("rollout", "start", installation.write("tows.yaml", PLAN.format(name="tows")), "--yes")
    numbers = ("--value", "2.4", "--limit", "1.5", "--reason", "EU desk")
    posted = installation.must("rollout", "signal", "post", "tows", "tow_rate", *numbers)
    assert [each["signal"] for each in posted["signals"]] == ["tow_rate"]
    held = becomes(installation, "tows", "HELD")
    assert "tow_rate" in held["gate"]["rule"]
    assert "2.4" in held["gate"]["message"]
    assert "▲ 2.4" in installation.cli("rollout", "status", "tows", "-o", "table").stdout
    eventually(lambda: installation.metric("outrider_signals", rollout="tows", kind="warning") == 1)
    installation.must("rollout", "signal", "clear", "tows", "tow_rate", "--reason", "a storm")
    becomes(installation, "tows", "RUNNING")
    for words in ("signal from admin: tow_rate at 2.4", "held by the gate", "signal taken back", "the hold cleared"):
        eventually(lambda: words in installation.cli("ledger", "show", "tows", "-o", "table").stdout, what=words)  # noqa: B023 - called at once


def test_safety_signals_halt_at_the_second(installation: Installation) -> None:
    """Somebody may be hurt: one holds, two halt, and taking them back does not start it again."""
    two_variants(installation, "safety")
    installation.must("rollout", "start", installation.write("safety.yaml", PLAN.format(name="safety")), "--yes")
    report = ("--kind", "safety", "--value", "1", "--limit", "0", "--reason", "ticket")
    installation.must("rollout", "signal", "post", "safety", "brakes", *report)
    becomes(installation, "safety", "HELD")
    installation.must("rollout", "signal", "post", "safety", "steering", *report)
    becomes(installation, "safety", "HALTED")
    for name in ("brakes", "steering"):
        installation.must("rollout", "signal", "clear", "safety", name, "--reason", "wrong car")
    assert status(installation, "safety")["status"] == "ROLLOUT_STATUS_HALTED"
