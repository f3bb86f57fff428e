"""`outrider rehearse`: what it says of a plan, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from outrider.v1.rollout_pb2 import CellCounts, PreviewRolloutResponse

from orchestrator.cli import rehearse_values as values
from orchestrator.cli.errors import BadInputError, ExitCode
from orchestrator.cli.rehearse_options import Given
from orchestrator.rehearsal import Ending
from tests.cli.conftest import Outrider
from tests.cli.server import OperatorServer

PLAN = """\
name: spring
release: 1.1.0
waves:
  - {name: canary, cohorts: [canary], soak: 12h}
  - {name: all, soak: 12h, approvals: 1}
regions: {eu: {}, us: {follow: eu, consent: required}}
limits: {in_flight: 1000, starts_per_minute: 1000, blast_budget: 500}
"""
GOOD = ("--vehicles", "600", "--failure-rate", "0%", "--model", "1.3", "--garage", "0%", "--lost", "0%")
CSV = """\
vehicle_id,model,hardware,region,cohort,tags,ecu_serial,hardware_id,primary,public_key
v1,S,g1,eu,canary,,a,h,true,AA==
v1,S,g1,eu,canary,,b,i,false,AA==
v2,S,g2,us,general,,c,h,true,AA==
v3,S,g2,cn,general,,d,h,true,AA==
"""


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan, and no server anywhere."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN, encoding="utf-8")
    return path


def answered(outrider: Outrider, *arguments: object) -> Any:
    outcome = outrider("rehearse", *(str(one) for one in arguments), "-o", "json")
    assert outcome.exit_code == 0, outcome.stderr
    return outcome.json


def test_a_good_release_comes_through_and_says_when(plan: Path, outrider: Outrider) -> None:
    """Days to finish, who was harmed, when each region came where: without a server."""
    outcome = outrider("rehearse", plan, *GOOD)
    assert outcome.exit_code == 0, outcome.stderr
    lines = [" ".join(line.split()) for line in outcome.stdout.splitlines()]
    assert lines[0] == "spring: release 1.1.0 rehearsed on 600 vehicles."
    assert lines[1] == "Assumed: 0 % fail, 30 % of them silently; fleet model 1.3; seed 1."
    assert any(line.startswith("✓ completed after ") for line in lines)
    assert "harmed 0 (0 % of the target)" in lines
    assert "exposed 600 of 600" in lines
    assert "came to eu us" in lines
    assert "pending – 0 s" in lines


def test_what_the_model_leaves_out_is_said_aloud(plan: Path, outrider: Outrider) -> None:
    """An answer that hides its assumptions is believed too much."""
    left_out = " ".join(answered(outrider, plan, *GOOD)["left_out"])
    assert "consent: every owner is taken to agree" in left_out
    assert "downloads" in left_out
    assert "conditions" not in left_out


def test_several_runs_give_the_chance_of_a_false_stop(plan: Path, outrider: Outrider) -> None:
    """None of five is no promise: the interval says how little five runs know."""
    outcome = outrider("rehearse", plan, *GOOD, "--runs", "5", "--seed", "7")
    shown = " ".join(outcome.stdout.split())
    assert "Chance of a false stop: 0 %, within 0 % to 52.2 % at 95 % confidence" in shown
    assert "the release keeps the limit of 1 %" in shown
    document = answered(outrider, plan, *GOOD, "--runs", "2", "--seed", "7")
    assert [run["seed"] for run in document["runs"]] == [7, 8]
    assert document["chances"]["endings"][Ending.COMPLETED.value]["runs"] == 2


def test_a_bad_release_is_stopped_and_the_answer_names_the_rule(plan: Path, outrider: Outrider) -> None:
    """Whoever rehearses a catastrophe wants to know what would have caught it."""
    bad = ("--vehicles", "600", "--failure-rate", "60%", "--silent", "0%", "--model", "1.3", "--runs", "3")
    document = answered(outrider, plan, *bad)
    assert document["chances"]["stopped"]["runs"] == 3
    assert set(document["chances"]["rules"]) <= {"failures_evalue", "strata_halted"}
    assert all(0 < run["harmed"] < 200 for run in document["runs"])
    assert "Chance that it is stopped: 100 %" in " ".join(outrider("rehearse", plan, *bad).stdout.split())


def test_one_part_of_the_fleet_may_break_alone(plan: Path, outrider: Outrider) -> None:
    """The variant that always fails is what strata are for."""
    document = answered(
        outrider, plan, *GOOD, "--hardware", "g1=90%", "--hardware", "g2=10%", "--breaks", "*/g2=100%", "--silent", "0"
    )
    broken = {(one["region"], one["hardware"]) for one in document["assumed"]["failure_rates"]}
    assert broken == {("eu", "g2"), ("us", "g2")}
    assert 0 < document["runs"][0]["harmed"] <= 60


def test_the_plot_is_written(plan: Path, outrider: Outrider) -> None:
    """A picture for the meeting in which it is decided."""
    outcome = outrider("rehearse", plan, *GOOD, "--runs", "2", "--svg", "plot.svg")
    assert "Plot: plot.svg" in outcome.stdout
    root = ElementTree.parse(plan.parent / "plot.svg").getroot()
    assert "spring: release 1.1.0 rehearsed on 600 vehicles" in "".join(root.itertext())


def test_the_vehicles_of_a_fleet_file_are_rehearsed(plan: Path, outrider: Outrider) -> None:
    """As many as the plan targets, each with the draw that it would have."""
    (plan.parent / "fleet.csv").write_text(CSV, encoding="utf-8")
    document = answered(outrider, plan, "--fleet", "fleet.csv", "--failure-rate", "0%")
    assert document["assumed"]["vehicles"] == 2
    assert document["assumed"]["excluded"] == {"region_not_in_plan": 1}
    shown = outrider("rehearse", plan, "--fleet", "fleet.csv", "--failure-rate", "0%").stdout
    assert "Of 3 vehicles in the file 1 by `region_not_in_plan` are left out." in " ".join(shown.split())


def test_the_fleet_of_a_server_is_rehearsed(server: OperatorServer, data: Path, plan: Path, outrider: Outrider) -> None:
    """With `--live` the server says how many of each kind the plan targets."""
    cells = [
        CellCounts(region="eu", hardware="g1", cohort="canary", targeted=30),
        CellCounts(region="us", hardware="g1", cohort="general", targeted=70),
    ]
    server.will_answer("PreviewRollout", PreviewRolloutResponse(registered=120, targeted=100, cells=cells))
    document = answered(outrider, plan, "--live", "--failure-rate", "0%", "--model", "1.3")
    assert (document["assumed"]["vehicles"], document["assumed"]["registered"]) == (100, 120)
    assert [cell["vehicles"] for cell in document["assumed"]["cells"]] == [30, 70]


def test_a_server_whose_vehicles_the_plan_is_not_for_is_refused(
    server: OperatorServer, data: Path, plan: Path, outrider: Outrider
) -> None:
    """A rehearsal of nobody would complete at once, and look like success."""
    server.will_answer("PreviewRollout", PreviewRolloutResponse(registered=120))
    outcome = outrider("rehearse", plan, "--live")
    assert outcome.exit_code == ExitCode.BAD_INPUT
    assert "targets none of the server's 120 vehicles" in outcome.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--failure-rate", "2"), "--failure-rate: '2' is no ratio up to 100 % -> write it as 2% or 0.02"),
        (("--failure-rate", "1"), "--failure-rate: '1' is no ratio"),
        (("--silent", "101%"), "--silent: '101%' is no ratio"),
        (("--vehicles", "0"), "a fleet of no vehicles has nothing to rehearse"),
        (("--outage", "eu:3d"), "--outage: 'eu:3d' is no outage -> write it as eu:3d+12h"),
        (("--outage", "eu:3d+0s"), "lasts no time"),
        (("--outage", "mars:3d+12h"), "--outage: 'mars' is no region here -> there are eu, us"),
        (("--region", "eu=60%"), "--region: the shares add up to 60 %"),
        (("--region", "eu=60%", "--region", "cn=40%"), "--region: 'cn' is no region of the plan here"),
        (("--region", "eu"), "--region: 'eu' is no share"),
        (("--cohort", "a=50%", "--cohort", "a=50%"), "--cohort: a stands twice"),
        (("--breaks", "eu"), "--breaks: 'eu' names no part and rate"),
        (("--breaks", "eu/g9=100%"), "--breaks: no vehicle is in eu/g9 -> there are eu/any, us/any"),
        (("--model", "mars"), "there is no fleet model 'mars' -> one of 1.3, habits"),
        (("--calls", "hourly=10%", "--calls", "monthly=90%"), "'monthly' is no call pattern of model habits"),
        (("--install", "1"), "--install: '1' is no duration"),
        (("--start", "soon"), "--start: 'soon' is no date"),
        (("--fleet", "nowhere.csv"), "nowhere.csv cannot be read"),
        (("--fleet", "plan.yaml"), "plan.yaml: the first line has no column `vehicle_id`"),
        (("--fleet", "x.csv", "--live"), "--fleet and --live exclude each other"),
        (("--live", "--cohort", "a=100%"), "--live and --cohort exclude each other"),
        (("--svg", "nowhere/plot.svg"), "nowhere/plot.svg cannot be written (no such folder)"),
        (("--runs", "0"), "Invalid value for '--runs'"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_remedy(
    options: tuple[str, ...], says: str, plan: Path, outrider: Outrider
) -> None:
    """One line, before anything runs."""
    outcome = outrider("rehearse", plan.name, *options)
    assert outcome.exit_code in (ExitCode.BAD_INPUT, ExitCode.NOT_FOUND)
    assert says in outcome.stderr
    assert outcome.stdout == ""


def test_faults_of_the_plan_stand_before_the_error(plan: Path, outrider: Outrider) -> None:
    """As from the server, so that an editor jumps to them."""
    plan.write_text("release: 1.1.0\nwavs: []\n", encoding="utf-8")
    outcome = outrider("rehearse", plan.name)
    assert outcome.exit_code == ExitCode.BAD_INPUT
    assert outcome.stderr.startswith("plan.yaml:2:1: unknown field `wavs`")
    assert "error: the plan has 1 fault; nothing was rehearsed" in outcome.stderr


def test_without_numpy_it_says_how_to_get_it(plan: Path, outrider: Outrider, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra: whoever runs a server does without."""
    monkeypatch.setitem(sys.modules, "numpy", None)
    outcome = outrider("rehearse", plan.name)
    assert outcome.exit_code == ExitCode.FAILED
    assert "needs NumPy, which is not installed here -> install Outrider with its extra `judge`" in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def test_no_other_command_loads_numpy() -> None:
    """A second at every tab key is a second too much."""
    code = "import sys; from orchestrator.cli import run; run(['rehearse', '--help']); sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_dates_are_utc_and_a_day_begins_at_nine() -> None:
    """The same as the fleet models take it."""
    nine = 1_803_978_000_000
    assert values.moment("2027-03-02", lambda: 0, "--start") == nine
    assert values.moment("2027-03-02T09:00", lambda: 0, "--start") == nine
    assert values.moment("2027-03-02T10:00+01:00", lambda: 0, "--start") == nine
    assert values.moment("", lambda: nine + 5_000_000, "--start") == nine


def test_every_option_has_a_field() -> None:
    """The options are data: one that nobody reads would be ignored without a word."""
    source = Path(values.__file__).with_name("rehearse_run.py").read_text(encoding="utf-8")
    unread = [name for name in Given.__dataclass_fields__ if f"given.{name}" not in source]
    assert unread == []


def test_a_share_of_nothing_is_none() -> None:
    """A pattern of 0 % is left out."""
    assert values.shares(["a=100%", "b=0%"], "--calls") == {"a": 1.0}
    with pytest.raises(BadInputError, match="add up to 0 %"):
        values.shares(["a=0%"], "--calls")
