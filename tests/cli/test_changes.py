"""What operators do to rollouts: each change with a reason, once, and by somebody who has read what it does."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from outrider.v1.rollout_pb2 import (
    SIGNAL_KIND_SAFETY,
    VERDICT_KIND_HOLD,
    VERDICT_KIND_PROCEED,
    Approval,
    ProposeRevertResponse,
    RegionProgress,
    ScopeVerdict,
)

from tests.cli.answers import PREVIEWED_PLAN, a_brake, a_gate, a_preview, a_rollout, a_signal
from tests.cli.conftest import Outrider
from tests.cli.server import OperatorServer, Refused

VERBS = ("launch", "pause", "resume", "abort", "approve", "revert")
REVERT_PLAN = "name: spring-1-1-0-revert\nrelease: 1.1.0-revert\n"


def wanting(**waves: str) -> list[RegionProgress]:
    """Regions by name, with the wave that each wants approved."""
    return [RegionProgress(region=region, approval_wanted=wave) for region, wave in waves.items()]


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        ("pause", "Nobody new begins and no permit is given; 15 under way keep their place."),
        ("resume", "Vehicles may begin again."),
        ("abort", "It is over. Whoever has a permit finishes"),
    ],
)
def test_changes_carry_reason_etag_and_request_id(
    verb: str, said: str, server: OperatorServer, data: Path, outrider: Outrider
) -> None:
    """Every change lands in the ledger with a reason and cannot happen twice."""
    method = f"{verb.capitalize()}Rollout"
    server.will_answer(method, a_rollout("PAUSED"))
    yes = ["--yes"] if verb == "abort" else []
    outcome = outrider("rollout", verb, "spring", "--reason", "sick canary", "--etag", "W/3", *yes)
    assert outcome.exit_code == 0
    assert outcome.stdout.startswith(said)
    assert "Ⅱ paused" in outcome.stdout
    assert "Next: outrider rollout" in outcome.stdout
    [request] = server.asked(method)
    assert (request.name, request.reason, request.etag) == ("rollouts/spring", "sick canary", "W/3")
    assert len(request.request_id) == 36


@pytest.mark.parametrize(
    ("verb", "said", "next_command"),
    [
        (
            "pause",
            "In eu/gen1 nobody new begins and no permit is given; the rest goes on.",
            'Next: outrider rollout resume spring --scope eu/gen1 --reason "..."',
        ),
        ("resume", "Vehicles in eu/gen1 may begin again.", "Next: outrider rollout watch spring"),
    ],
)
def test_one_part_can_be_paused_and_resumed_by_its_scope(
    verb: str, said: str, next_command: str, server: OperatorServer, data: Path, outrider: Outrider
) -> None:
    """One bad variant must not cost the others their update; the way back names the same part."""
    left = [a_brake()] if verb == "pause" else [a_brake("us")]
    server.will_answer(f"{verb.capitalize()}Rollout", a_rollout(brakes=left))
    outcome = outrider("rollout", verb, "spring", "--scope", "eu/gen1", "--reason", "odd")
    assert outcome.stdout.startswith(said)
    assert next_command in outcome.stdout
    assert server.asked(f"{verb.capitalize()}Rollout")[0].scope == "eu/gen1"


def test_resume_says_what_stands_still_all_the_same(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """At three in the morning `resumed` must not mean half of it."""
    scopes = [
        ScopeVerdict(scope="all", verdict=VERDICT_KIND_PROCEED),
        ScopeVerdict(scope="us/gen1", verdict=VERDICT_KIND_HOLD, message="us/gen1: 2 of 25 exposed failed"),
    ]
    server.will_answer("ResumeRollout", a_rollout(brakes=[a_brake()], gate=a_gate(scopes=scopes)))
    said = " ".join(outrider("rollout", "resume", "spring", "--reason", "odd").stdout.split())
    assert said.startswith(
        "Resumed. But eu/gen1 stays halted: 5 of 25 exposed failed; "
        "the gate would hold us/gen1 for another reason: 2 of 25 exposed failed."
    )
    assert 'Next: outrider rollout resume spring --scope eu/gen1 --reason "..." # once looked at' in said
    dark = a_brake("eu", "PAUSED", actor="evaluator", reason="its network seems to be down")
    server.will_answer("ResumeRollout", a_rollout(brakes=[dark, a_brake("us")]))
    part = outrider("rollout", "resume", "spring", "--scope", "eu", "--reason", "odd").stdout
    assert part.startswith("Resumed. But eu stays paused: its network seems to be down.")


def test_start_can_write_down_a_draft(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """Nothing begins, so nothing is asked; whoever has to approve is named next."""
    (data / "plan.yaml").write_text(REVERT_PLAN)
    server.will_answer("PreviewRollout", a_preview())
    server.will_answer("CreateRollout", a_rollout("DRAFT", approvals_wanted=2))
    outcome = outrider("rollout", "start", data / "plan.yaml", "--draft")
    assert outcome.exit_code == 0
    assert server.asked("CreateRollout")[0].draft
    assert "◌ draft  0 of 2 approvals" in outcome.stdout
    assert (
        "Rollout spring-1-1-0 is a draft: nothing begins. Next: outrider --as APPROVER rollout approve"
        in outcome.stdout
    )


def test_a_plan_that_asks_for_approvals_is_written_down_without_a_question(
    server: OperatorServer, data: Path, outrider: Outrider
) -> None:
    """`Type spring to start it` would be a lie: nothing starts before others have approved."""
    (data / "plan.yaml").write_text(REVERT_PLAN)
    server.will_answer("PreviewRollout", a_preview(effective_plan=PREVIEWED_PLAN + "approvals: 2\n"))
    server.will_answer("CreateRollout", a_rollout("DRAFT", approvals_wanted=2))
    outcome = outrider("rollout", "start", data / "plan.yaml")
    assert (outcome.exit_code, "is a draft: nothing begins" in outcome.stdout) == (0, True)


def test_launch_shows_the_plan_of_the_draft_and_has_it_confirmed(
    server: OperatorServer, data: Path, outrider: Outrider
) -> None:
    """The fleet may have changed since it was written; what is started is what was shown."""
    server.will_answer("GetRollout", a_rollout("APPROVED", plan=REVERT_PLAN))
    server.will_answer("PreviewRollout", a_preview())
    server.will_answer("StartRollout", a_rollout())
    unsure = outrider("rollout", "launch", "spring-1-1-0", "--reason", "both have approved")
    assert (unsure.exit_code, "120 of 200 vehicles" in unsure.stderr) == (2, True)
    assert server.asked("PreviewRollout")[0].plan == REVERT_PLAN
    assert not server.asked("StartRollout")
    outcome = outrider("rollout", "launch", "spring-1-1-0", "--reason", "both have approved", "--yes")
    assert outcome.stdout.startswith("Rollout spring-1-1-0 is under way.")
    [request] = server.asked("StartRollout")
    assert (request.name, request.reason, len(request.request_id)) == (
        "rollouts/spring-1-1-0",
        "both have approved",
        36,
    )


@pytest.mark.parametrize(
    ("status", "given", "said", "next_command"),
    [
        ("DRAFT", 1, "Approved; 1 more person must approve", "--as APPROVER rollout approve spring-1-1-0"),
        ("APPROVED", 2, "Approved: it may be started.", "rollout launch spring-1-1-0"),
    ],
)
def test_approving_a_draft_names_no_wave_and_says_who_is_missing(
    status: str, given: int, said: str, next_command: str, server: OperatorServer, data: Path, outrider: Outrider
) -> None:
    """A draft has no region that waits; the approval is of the rollout itself."""
    approvals = [Approval(actor=f"p{number}") for number in range(given)]
    server.will_answer("GetRollout", a_rollout("DRAFT"))
    server.will_answer("ApproveWave", a_rollout(status, approvals_wanted=2, approvals=approvals))
    outcome = outrider("rollout", "approve", "spring-1-1-0", "--reason", "read it")
    assert outcome.stdout.startswith(said)
    assert next_command in outcome.stdout
    assert server.asked("ApproveWave")[0].wave == ""


def test_a_signal_is_posted_whole_and_the_answer_lists_what_stands(
    server: OperatorServer, data: Path, outrider: Outrider
) -> None:
    """A program posts it; a person reads what it means."""
    server.will_answer("PostSignal", a_rollout(signals=[a_signal(), a_signal("codes", 0.3)]))
    options = ("--value", "2.4", "--limit", "1.5", "--kind", "safety", "--scope", "eu", "--reason", "EU desk")
    outcome = outrider("rollout", "signal", "post", "spring", "tow_rate", *options)
    assert outcome.stdout.startswith("Posted tow_rate 2.4 (limit 1.5) in eu: the gate looks at it within a second.")
    assert "▲ 2.4" in outcome.stdout
    assert "▲ 0.3" not in outcome.stdout
    [request] = server.asked("PostSignal")
    sent = request.signal
    assert (sent.signal, sent.kind, sent.scope, sent.value, sent.limit) == (
        "tow_rate",
        SIGNAL_KIND_SAFETY,
        "eu",
        2.4,
        1.5,
    )
    assert (request.name, request.reason, len(request.request_id)) == ("rollouts/spring", "EU desk", 36)
    document = outrider("rollout", "signal", "post", "spring", "tow_rate", *options, "-o", "json").json
    assert [each["signal"] for each in document["signals"]] == ["tow_rate", "codes"]


def test_a_signal_says_when_it_was_measured_and_how_long_it_is_good(
    server: OperatorServer, data: Path, outrider: Outrider
) -> None:
    """Left out, the server decides: a client of last year must not say what it never heard of."""
    server.will_answer("PostSignal", a_rollout(signals=[a_signal()]))
    options = ("rollout", "signal", "post", "spring", "tow_rate", "--value", "1", "--limit", "2", "--reason", "EU desk")
    outrider(*options)
    outrider(*options, "--good-for", "1d12h", "--measured-at", "2031-04-05T06:00+02:00")
    usual, said = (request.signal for request in server.asked("PostSignal"))
    assert not usual.HasField("good_for")
    assert not usual.HasField("measure_time")
    assert said.good_for.seconds == 36 * 3600
    assert said.measure_time.ToJsonString() == "2031-04-05T04:00:00Z"


@pytest.mark.parametrize("given", [("--good-for", "long"), ("--good-for", "0h"), ("--measured-at", "noon")])
def test_an_age_that_is_none_is_refused_before_any_call(
    given: tuple[str, str], server: OperatorServer, data: Path, outrider: Outrider
) -> None:
    """The remedy shows how one is written."""
    options = ("--value", "1", "--limit", "2", "--reason", "x", *given)
    outcome = outrider("rollout", "signal", "post", "spring", "tow_rate", *options)
    assert outcome.exit_code == 2
    assert f"{given[0]}: '{given[1]}' is no" in outcome.stderr
    assert "write it as" in outcome.stderr
    assert not server.requests


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_a_signal_that_is_no_number_is_refused_before_any_call(
    number: str, server: OperatorServer, data: Path, outrider: Outrider
) -> None:
    """A probe that broke must not take a standing warning away: nan is never beyond a limit."""
    options = ("--limit", "1.5", "--reason", "x", f"--value={number}")
    outcome = outrider("rollout", "signal", "post", "spring", "tow_rate", *options)
    assert (outcome.exit_code, "is not a finite number" in outcome.stderr) == (2, True)
    assert not server.requests


def test_a_signal_is_taken_back_by_name_and_scope(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """One of a name stands in each scope."""
    server.will_answer("ClearSignal", a_rollout())
    outcome = outrider("rollout", "signal", "clear", "spring", "tow_rate", "--scope", "eu", "--reason", "a storm")
    assert outcome.stdout.startswith("Took back tow_rate in eu.")
    assert "No signal stands." in outcome.stdout
    [request] = server.asked("ClearSignal")
    assert (request.signal, request.scope, request.reason) == ("tow_rate", "eu", "a storm")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("given", [(), ("--reason", "  ")])
def test_changes_without_a_reason_are_refused_before_any_call(
    verb: str, given: tuple[str, ...], server: OperatorServer, data: Path, outrider: Outrider
) -> None:
    """A ledger of blank reasons is worthless."""
    outcome = outrider("rollout", verb, "spring", *given)
    assert outcome.exit_code == 2
    assert "reason" in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert not server.requests


def test_an_abort_that_nobody_confirms_ends_nothing(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """A script that aborts says --yes; without it the numbers are shown and nothing happens."""
    server.will_answer("GetRollout", a_rollout())
    outcome = outrider("rollout", "abort", "spring-1-1-0", "--reason", "x")
    assert outcome.exit_code == 2
    assert "60 of 120 done. An abort is for good: 15 under way without a permit are withdrawn" in outcome.stderr
    assert (
        outcome.stderr.splitlines()[-1]
        == "error: a person must confirm to end it for good -> add --yes if you are sure"
    )
    assert not server.asked("AbortRollout")


def test_approve_takes_the_wave_that_wants_it_now(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """An approver need not know how waves are called; what was approved is said."""
    server.will_answer("GetRollout", a_rollout(regions=wanting(eu="early", us="")))
    server.will_answer("ApproveWave", a_rollout())
    outcome = outrider("rollout", "approve", "spring", "--reason", "canary is fine", "--etag", "W/3")
    assert outcome.stdout.startswith("Wave early is approved for every region.")
    [request] = server.asked("ApproveWave")
    assert (request.name, request.wave, request.region) == ("rollouts/spring", "early", "")
    assert (request.reason, request.etag, len(request.request_id)) == ("canary is fine", "W/3", 36)


def test_approve_may_name_wave_and_region(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """Ahead of time, or for one region only."""
    server.will_answer("ApproveWave", a_rollout())
    outcome = outrider("rollout", "approve", "spring", "--wave", "all", "--region", "us", "--reason", "ok")
    assert outcome.stdout.startswith("Wave all is approved for region us.")
    [request] = server.asked("ApproveWave")
    assert (request.wave, request.region) == ("all", "us")


@pytest.mark.parametrize(
    ("regions", "options", "exit_code", "said"),
    [
        (wanting(eu="", us=""), [], 4, "no wave of rollout spring-1-1-0 waits for an approval now"),
        (wanting(eu="early", us="canary"), [], 2, "several waves want approval: early (eu), canary (us)"),
        (wanting(eu="early"), ["--region", "mars"], 2, "has no region mars"),
    ],
)
def test_approve_does_not_guess(
    regions: list[RegionProgress],
    options: list[str],
    exit_code: int,
    said: str,
    server: OperatorServer,
    data: Path,
    outrider: Outrider,
) -> None:
    """An approval of the wrong wave cannot be taken back."""
    server.will_answer("GetRollout", a_rollout(regions=regions))
    outcome = outrider("rollout", "approve", "spring-1-1-0", "--reason", "ok", *options)
    assert (outcome.exit_code, said in outcome.stderr) == (exit_code, True)
    assert not server.asked("ApproveWave")


def test_a_creator_who_approves_reads_why_not(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """The refusal names the person and the way out, in one line."""
    refusal = Refused(grpc.StatusCode.PERMISSION_DENIED, "admin created spring", remedy="ask another approver")
    server.will_answer("ApproveWave", refusal)
    outcome = outrider("rollout", "approve", "spring", "--wave", "all", "--reason", "ok")
    assert (outcome.exit_code, outcome.stderr) == (6, "error: admin created spring -> ask another approver\n")


def test_revert_previews_and_creates_the_servers_plan(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """A rollout of its own, tied to the one that it undoes."""
    server.will_answer("ProposeRevert", ProposeRevertResponse(plan=REVERT_PLAN, release="1.1.0-revert"))
    server.will_answer("PreviewRollout", a_preview(release="1.1.0-revert"))
    server.will_answer("CreateRollout", a_rollout(name="rollouts/spring-1-1-0-revert"))
    unsure = outrider("rollout", "revert", "spring-1-1-0", "--reason", "brakes")
    assert unsure.exit_code == 2
    assert not server.asked("CreateRollout")
    outcome = outrider("rollout", "revert", "spring-1-1-0", "--reason", "brakes", "--yes")
    assert outcome.exit_code == 0
    assert "Undoing rollout spring-1-1-0 by a rollout of release 1.1.0-revert:" in outcome.stderr
    assert "Release 1.1.0-revert would go to 120 of 200 vehicles" in outcome.stderr
    assert "Next: outrider rollout watch spring-1-1-0-revert" in outcome.stdout
    [request] = server.asked("CreateRollout")
    assert (request.plan, request.reverts, request.reason) == (REVERT_PLAN, "rollouts/spring-1-1-0", "brakes")
    assert server.asked("PreviewRollout")[0].plan == REVERT_PLAN


def test_revert_can_write_its_plan_to_be_edited(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """The server's proposal is a start: a person may narrow it; nothing that exists is overwritten."""
    server.will_answer("ProposeRevert", ProposeRevertResponse(plan=REVERT_PLAN, release="1.1.0-revert"))
    path = data / "revert.yaml"
    outcome = outrider("rollout", "revert", "spring", "--reason", "brakes", "--out", path)
    assert path.read_text() == REVERT_PLAN
    assert f"Next: outrider rollout start {path} --reverts spring" in outcome.stdout
    assert not server.asked("CreateRollout")
    again = outrider("rollout", "revert", "spring", "--reason", "brakes", "--out", path)
    assert (again.exit_code, "File exists" in again.stderr) == (2, True)


def test_start_can_say_what_it_undoes(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """An edited plan of a revert stays tied to the rollout that it undoes."""
    (data / "plan.yaml").write_text(REVERT_PLAN)
    server.will_answer("PreviewRollout", a_preview())
    server.will_answer("CreateRollout", a_rollout())
    assert outrider("rollout", "start", data / "plan.yaml", "--reverts", "spring", "--yes").exit_code == 0
    assert server.asked("CreateRollout")[0].reverts == "rollouts/spring"


def test_a_revert_without_a_release_for_it_says_what_to_do(
    server: OperatorServer, data: Path, outrider: Outrider
) -> None:
    """At 3 a.m. the answer must name the next step."""
    refusal = Refused(grpc.StatusCode.FAILED_PRECONDITION, "no release undoes 1.1.0", remedy="publish one")
    server.will_answer("ProposeRevert", refusal)
    outcome = outrider("rollout", "revert", "spring", "--reason", "brakes")
    assert (outcome.exit_code, outcome.stderr) == (4, "error: no release undoes 1.1.0 -> publish one\n")
