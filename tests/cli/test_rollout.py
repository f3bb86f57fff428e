"""`outrider rollout` against a real server with mutual TLS."""

from __future__ import annotations

import io
from pathlib import Path

import grpc
import pytest
from outrider.v1.rollout_pb2 import (
    SIGNAL_KIND_SAFETY,
    VERDICT_KIND_HALT,
    VERDICT_KIND_HOLD,
    VERDICT_KIND_PROCEED,
    Approval,
    HabitGroup,
    ListRolloutsResponse,
    ScopeVerdict,
)
from rich.console import Console

from orchestrator.cli.rollout_view import COUNTED, counts_table, one_line
from tests.cli.answers import a_brake, a_cell, a_gate, a_preview, a_rollout, a_signal, ago, an_age_group
from tests.cli.conftest import Outrider
from tests.cli.server import OperatorServer, Refused

PLAN = "name: spring-1-1-0\nrelease: 1.1.0\nwaves:\n  - {name: canary, cohorts: [canary], soak: 24h}\n"


@pytest.fixture
def plan(data: Path) -> Path:
    path = data / "plan.yaml"
    path.write_text(PLAN, encoding="utf-8")
    return path


def test_status_shows_waves_counts_and_the_gates_numbers(
    server: OperatorServer, data: Path, outrider: Outrider
) -> None:
    """One page answers where it is, what became of whom, and why the gate says what it says."""
    server.will_answer("GetRollout", a_rollout("HELD", gate=a_gate("HOLD")))
    outcome = outrider("rollout", "status", "spring-1-1-0")
    assert outcome.exit_code == 0
    for words in (
        "▲ held",
        "canary looked good (admin, 2 h ago)",
        "✓ canary  ▶ early  · general",
        "20 exposures, 12 so far",
        "▲ hold",
        "failures_evalue on eu/gen1",
        "evalue 1.235, exposed 25, failed 2",
        "75 permits, 6 failed, 9 silent",
        "9 timed out; `outrider vehicle explain`",
        "2031-04-05 06:07:08 UTC",
    ):
        assert words in outcome.stdout
    eu = next(line for line in outcome.stdout.splitlines() if line.split()[:2] == ["eu", "canary"])
    assert eu.split()[2:] == ["80", "40", "10", "4", "6", "6", "20"]


def test_status_names_who_created_approved_and_what_is_undone(
    server: OperatorServer, data: Path, outrider: Outrider
) -> None:
    """Two persons stand behind an approved wave; both are named where one looks first."""
    given = Approval(wave="early", region="eu", actor="ann", reason="fine", create_time=ago(hours=1))
    rollout = a_rollout(creator="bob", reverts="rollouts/winter", approvals=[given])
    server.will_answer("GetRollout", rollout)
    lines = [" ".join(line.split()) for line in outrider("rollout", "status", "x").stdout.splitlines()]
    for line in ("created by bob", "undoes winter", "approved wave early for eu by ann, 1 h ago: fine"):
        assert line in lines


@pytest.mark.parametrize("stands_still", [True, False])
def test_status_says_how_many_may_yet_begin_once_it_stands_still(
    server: OperatorServer, data: Path, outrider: Outrider, stands_still: bool
) -> None:
    """A halt is over when the last permit has lapsed, not when the word is there."""
    status = "HALTED" if stands_still else "RUNNING"
    rollout = a_rollout(status, outstanding_permits=3, outstanding_permits_end_time=ago(hours=-9))
    server.will_answer("GetRollout", rollout)
    said = " ".join(outrider("rollout", "status", "x").stdout.split())
    line = "permits out 3 may still be used, the last until 2031-04-05 15:07:08 UTC, in 9 h; nothing calls them back"
    assert (line in said) is stands_still


def test_status_shows_what_stands_still_and_silence_beside_its_controls(
    server: OperatorServer, data: Path, outrider: Outrider
) -> None:
    """Running is not the whole truth when one variant was halted; silence says nothing without what is normal."""
    early = HabitGroup(habit="often", group=an_age_group(6, 50, 9, 40, 1))
    lost = {"failed_before_permit": 3, "grants": an_age_group(24, 28, 2)}
    cell = a_cell(
        age_groups=[an_age_group(24, 60, 4, 61, 3)], habit_groups=[early], quota=50, diagnosed=1, safety=1, **lost
    )
    stopped = ScopeVerdict(scope="eu/gen1", verdict=VERDICT_KIND_HALT, message="eu/gen1: 5 of 25 exposed failed")
    doubted = ScopeVerdict(scope="us/gen1", verdict=VERDICT_KIND_HOLD, message="us/gen1: 2 of 25 exposed failed")
    rollout = a_rollout(
        cells=[cell, a_cell(hardware="gen2", quota=20, age_groups=[])],
        brakes=[a_brake("us", "PAUSED", actor="evaluator", reason="its network seems to be down"), a_brake()],
        signals=[
            a_signal(),
            a_signal("codes", 0.3, measure_time=ago(hours=8), overdue=True),
            a_signal("brakes", 1, kind=SIGNAL_KIND_SAFETY, scope="eu", good_for=None),
        ],
        gate=a_gate(scopes=[ScopeVerdict(scope="all", verdict=VERDICT_KIND_PROCEED), stopped, doubted]),
    )
    server.will_answer("GetRollout", rollout)
    lines = [" ".join(line.split()) for line in outrider("rollout", "status", "x").stdout.splitlines()]
    for line in (
        "exposed 50 permits, 4 failed (1 of them by a diagnosis after the installation), 4 silent, "
        "✗ 1 reported as a matter of safety",
        "before 60 granted, 3 failed before a permit, 2 of 28 silent without one after 1 d",
        "silent after 6 h, of those that call often: 9 of 50, controls 1 of 40",
        "after 1 d: 4 of 60, controls 3 of 61",
        "quota eu 60 of 70 admitted; still open: gen1/canary 30 of 50",
        "eu/gen1 ■ halted 2 h ago gate 5 of 25 exposed failed",
        "us Ⅱ paused 2 h ago evaluator its network seems to be down",
        "tow_rate all ▲ 2.4 1.5 warning 12 min ago for 5 h 48 min ci tows a day per 1000",
        "codes all 0.3 1.5 warning 8 h ago ▲ overdue ci tows a day per 1000",
        "brakes eu ▲ 1 1.5 safety 12 min ago – ci tows a day per 1000",
        "us/gen1 ▲ hold 2 of 25 exposed failed",
    ):
        assert line in lines, line
    assert "eu/gen1 ■ halt 5 of 25 exposed failed" not in lines, "what stands still is said once"
    [halted] = [number for number, line in enumerate(lines) if line.startswith("eu/gen1 ■ halted")]
    [paused] = [number for number, line in enumerate(lines) if line.startswith("us Ⅱ paused")]
    assert halted < paused


def test_a_final_hold_says_that_it_waits_for_a_person(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """Whoever thinks that it clears by itself waits for ever."""
    server.will_answer("GetRollout", a_rollout("HELD", hold_final=True))
    assert "▲ held  will not clear by itself any more: a person must" in outrider("rollout", "status", "x").stdout
    server.will_answer("ListRollouts", ListRolloutsResponse(rollouts=[a_rollout("HELD", hold_final=True)]))
    assert "▲ held (final)" in outrider("rollout", "list").stdout


def test_a_part_that_only_a_person_lets_go_is_said_beside_the_status(
    server: OperatorServer, data: Path, outrider: Outrider
) -> None:
    """`running` alone would let somebody wait for ever."""
    final = a_brake("us/gen1", "HELD", final=True)
    server.will_answer("GetRollout", a_rollout(brakes=[a_brake("eu", "PAUSED"), final]))
    shown = outrider("rollout", "status", "x").stdout
    assert "running  us/gen1 waits for a person" in shown
    assert "held, waits for a person" in shown
    server.will_answer("GetRollout", a_rollout(brakes=[a_brake("eu", "HELD"), final, a_brake(), a_brake("us/gen3")]))
    assert "running  eu/gen1 and 2 more parts wait for a person" in outrider("rollout", "status", "x").stdout
    server.will_answer("GetRollout", a_rollout(brakes=[a_brake("eu", "HELD"), a_brake("us", "PAUSED")]))
    assert "for a person" not in outrider("rollout", "status", "x").stdout
    assert one_line(a_rollout(brakes=[final])).endswith("stands still: us/gen1 held (final)")


def test_status_names_what_is_judged_together(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """A brake on `_other` says nothing to somebody who does not know whom it stands for."""
    names = [f"eu/rare-{number}" for number in range(8)]
    server.will_answer("GetRollout", a_rollout(judged_together=names, brakes=[a_brake("_other")]))
    shown = " ".join(outrider("rollout", "status", "x").stdout.split())
    assert "_other 8 small strata, judged together: eu/rare-0, eu/rare-1" in shown
    assert "and 2 more" in shown
    assert "_other ■ halted" in shown
    server.will_answer("GetRollout", a_rollout())
    assert "_other" not in outrider("rollout", "status", "x").stdout


def test_one_line_of_a_watch_says_what_stands_still() -> None:
    """Without a terminal a watch writes a line a change: a part that was halted is one."""
    rollout = a_rollout(brakes=[a_brake("us", "PAUSED"), a_brake()], signals=[a_signal(), a_signal("codes", 0.3)])
    assert one_line(rollout).endswith("stands still: eu/gen1 halted, us paused | signals: tow_rate 2.4")
    rollout.signals[1].overdue = True
    assert one_line(rollout).endswith("| signals: tow_rate 2.4, codes overdue"), "a dead feed is one as well"
    assert "stands still" not in one_line(a_rollout())


def test_regions_of_a_draft_do_not_look_as_if_they_moved(
    server: OperatorServer, data: Path, outrider: Outrider
) -> None:
    """`rolling` beside a draft would make somebody call the supplier at night."""
    server.will_answer("GetRollout", a_rollout("DRAFT"))
    shown = outrider("rollout", "status", "x").stdout
    assert "· waiting" in shown
    assert "rolling" not in shown
    assert "eu waiting" in one_line(a_rollout("DRAFT"))


@pytest.mark.parametrize("standing", ["ABORTED", "SUPERSEDED"])
def test_regions_of_an_ended_rollout_do_not_look_as_if_they_moved(
    standing: str, server: OperatorServer, data: Path, outrider: Outrider
) -> None:
    """Whoever aborted it has to see that it stopped, and where."""
    server.will_answer("GetRollout", a_rollout(standing))
    shown = outrider("rollout", "status", "x").stdout
    assert "■ stopped" in shown
    assert "rolling" not in shown
    assert "eu stopped in " in one_line(a_rollout(standing))


def test_status_without_an_id_does_not_stop_at_a_draft(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """The draft of a way back is newer than the halted rollout, which is what somebody was woken for."""
    rollouts = [a_rollout("DRAFT", name="rollouts/back"), a_rollout("HALTED", name="rollouts/spring")]
    server.will_answer("ListRollouts", ListRolloutsResponse(rollouts=rollouts))
    server.will_answer("GetRollout", a_rollout())
    outrider("rollout", "status")
    assert server.asked("GetRollout")[0].name == "rollouts/spring"


def test_status_without_an_id_takes_the_newest_that_is_not_over(
    server: OperatorServer, data: Path, outrider: Outrider
) -> None:
    """In an emergency nobody wants to look up an id first."""
    server.will_answer(
        "ListRollouts",
        ListRolloutsResponse(
            rollouts=[a_rollout("COMPLETED", name="rollouts/newest"), a_rollout(name="rollouts/running")]
        ),
    )
    server.will_answer("GetRollout", a_rollout())
    assert outrider("rollout", "status").exit_code == 0
    assert server.asked("GetRollout")[0].name == "rollouts/running"


def test_status_without_any_rollout_says_how_to_start_one(
    server: OperatorServer, data: Path, outrider: Outrider
) -> None:
    """An empty installation is not a defect; the next step is named."""
    server.will_answer("ListRollouts", ListRolloutsResponse())
    outcome = outrider("rollout", "status")
    assert outcome.exit_code == 3
    assert outcome.stderr == "error: there is no rollout yet -> start one: `outrider rollout start PLAN.yaml`\n"


def test_json_holds_every_field_by_snake_case_name(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """Scripts rely on the names of the proto files, also for fields that are empty."""
    server.will_answer("GetRollout", a_rollout())
    for arguments in (("-o", "json", "rollout", "status", "x"), ("rollout", "status", "x", "--output", "json")):
        document = outrider(*arguments).json
        assert document["status"] == "ROLLOUT_STATUS_RUNNING"
        assert document["last_reason"] == "canary looked good"
        assert document["cells"][0]["age_groups"][0]["silent"] == "3"
        assert document["plan"] == ""


def test_list_follows_every_page(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """A list that stops at the first page hides rollouts."""
    server.will_answer(
        "ListRollouts",
        ListRolloutsResponse(rollouts=[a_rollout(name="rollouts/b")], next_page_token="more"),
        ListRolloutsResponse(rollouts=[a_rollout("ABORTED", name="rollouts/a")]),
    )
    outcome = outrider("rollout", "list")
    assert [line.split()[0] for line in outcome.stdout.splitlines() if "1.1.0" in line] == ["b", "a"]
    assert [request.page_token for request in server.asked("ListRollouts")] == ["", "more"]


def test_faults_of_a_plan_name_file_line_and_column(server: OperatorServer, plan: Path, outrider: Outrider) -> None:
    """An editor can jump to each fault; the exit code tells a script that the input is to blame."""
    refusal = Refused(
        grpc.StatusCode.INVALID_ARGUMENT,
        "the plan has 2 faults; nothing was changed",
        remedy="correct them and try again",
        violations=[("1:1", "unknown field `nam` (did you mean `name`?)"), ("3:5", "share (0) must be above 0")],
    )
    server.will_answer("PreviewRollout", refusal)
    for command in (("preview", plan), ("start", plan, "--yes")):
        outcome = outrider("rollout", *command)
        assert outcome.exit_code == 2
        assert outcome.stderr.splitlines() == [
            f"{plan}:1:1: unknown field `nam` (did you mean `name`?)",
            f"{plan}:3:5: share (0) must be above 0",
            "error: the plan has 2 faults; nothing was changed -> correct them and try again",
        ]
    assert not server.asked("CreateRollout")


def test_start_with_yes_creates_the_rollout_once(server: OperatorServer, plan: Path, outrider: Outrider) -> None:
    """The request carries an id, so that a repetition after a lost answer starts nothing twice."""
    server.will_answer("PreviewRollout", a_preview())
    server.will_answer("CreateRollout", a_rollout())
    outcome = outrider("rollout", "start", plan, "--yes", "--id", "spring", "--reason", "fixes recall 7", "-o", "json")
    assert outcome.json["name"] == "rollouts/spring-1-1-0"
    assert "120 of 200 vehicles" in outcome.stderr
    [request] = server.asked("CreateRollout")
    assert (request.plan, request.rollout_id, request.reason) == (PLAN, "spring", "fixes recall 7")
    assert len(request.request_id) == 36


def test_a_refusal_by_state_has_its_own_exit_code(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """Scripts can tell "too late" from "broken"."""
    server.will_answer(
        "ResumeRollout",
        Refused(grpc.StatusCode.FAILED_PRECONDITION, "spring is aborted", remedy="start a new rollout"),
    )
    outcome = outrider("rollout", "resume", "spring", "--reason", "again")
    assert outcome.exit_code == 4
    assert outcome.stderr == "error: spring is aborted -> start a new rollout\n"


def test_text_from_others_cannot_steer_the_terminal(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """A reason that another operator typed is data: neither escape sequences nor markup act."""
    server.will_answer("GetRollout", a_rollout(last_reason="\x1b[2J[red]gone[/red]", cells=[a_cell(region="[b]eu")]))
    outcome = outrider("rollout", "status", "x")
    assert "\x1b" not in outcome.stdout
    assert "[red]gone[/red]" in outcome.stdout
    assert "[b]eu" in outcome.stdout


def test_counts_fit_the_narrowest_terminal() -> None:
    """Neither a cohort's name nor a heading is cut at 80 columns."""
    written = io.StringIO()
    console = Console(width=80, file=written, color_system=None)
    console.print(counts_table(a_rollout(cells=[a_cell(cohort="internal"), a_cell(region="apac", cohort="general")])))
    lines = written.getvalue().splitlines()
    assert lines[1].split() == ["region", "cohort", *COUNTED]
    assert [line.split()[1] for line in lines[3:5]] == ["general", "internal"]
