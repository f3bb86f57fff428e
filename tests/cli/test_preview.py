"""`outrider rollout preview`: what a person reads before anything moves, and that its examples are true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from outrider.v1.rollout_pb2 import PreviewRolloutResponse, RegionPreview

from orchestrator.cli.preview_gate import stopping
from orchestrator.cli.preview_regions import span_words, zone_of
from orchestrator.cli.preview_view import what_starts
from orchestrator.engine.gates import judge
from orchestrator.engine.plan.file import read_plan
from orchestrator.model.attempt import AttemptState
from orchestrator.model.rollout import VerdictKind
from orchestrator.model.tally import AgeGroup, Tally
from tests.builders import a_cell
from tests.cli.answers import PREVIEWED_PLAN, a_preview, an_open_window
from tests.cli.conftest import Outrider
from tests.cli.server import OperatorServer


@pytest.fixture
def plan(data: Path) -> Path:
    path = data / "plan.yaml"
    path.write_text(PREVIEWED_PLAN, encoding="utf-8")
    return path


def shown(outrider: Outrider, plan: Path, *options: str) -> list[str]:
    """The lines of a preview, runs of spaces as one."""
    outcome = outrider("rollout", "preview", plan, *options)
    assert outcome.exit_code == 0, outcome.stderr
    return [" ".join(line.split()) for line in outcome.stdout.splitlines()]


def test_preview_answers_in_the_order_in_which_a_person_asks(
    server: OperatorServer, plan: Path, outrider: Outrider
) -> None:
    """Who gets it, who does not and why, wave by wave, when, what stops it, what is odd, what next."""
    server.will_answer("PreviewRollout", a_preview())
    lines = shown(outrider, plan, "--effective")
    expected = [
        "Release 1.1.0 would go to 120 of 200 vehicles in 2 regions, in 2 waves; it takes 3 d 4 h at the earliest.",
        "80 are left out: 70 do not match `cohort`; 10 have this release already.",
        "canary 1d – 20 10 30 30",
        "everybody 2d 2 people 60 28 88 118",
        "eu 80 – 80",
        "eu 80 – is asked Sat 05 Apr 22:00–05:00 Europe/Berlin (70) Sat 05 Apr 20:00–03:00",
        "Sat 05 Apr 22:00–05:00 Europe/Lisbon (10) Sat 05 Apr 21:00–04:00",
        "us 40 eu – at any time –",
        "us: once eu is through with a wave",
        "What would stop it",
        "1. region ap has 3 vehicles, fewer than the sample of 20",
        "holdout: 1%",
        f"Next: outrider rollout start {plan}",
    ]
    places = [lines.index(line) for line in expected]
    assert places == sorted(places)
    assert server.asked("PreviewRollout")[0].plan == PREVIEWED_PLAN


def test_examples_of_what_stops_it_are_what_the_gate_does() -> None:
    """An example that the gate does not keep is a promise broken at the worst moment."""
    text = " ".join(stopping(a_preview()))
    halting, holding = (int(number) for number in re.findall(r"example (\d+) of the first 20", text))
    plan = read_plan(PREVIEWED_PLAN)

    def verdict(failed: int) -> VerdictKind:
        states = {AttemptState.FAILED: failed, AttemptState.SUCCEEDED: 20 - failed}
        tally = Tally(after_permit=states, age_groups=(AgeGroup(), AgeGroup()))
        return judge({a_cell(): tally}, plan, strata=2).worst.kind

    assert verdict(halting) is VerdictKind.HALT
    assert verdict(halting - 1) is not VerdictKind.HALT
    assert verdict(holding) is VerdictKind.HOLD
    assert verdict(holding - 1) is VerdictKind.PROCEED
    assert "7 silent of the first 20 hold it, 8 silent of the first 20 halt it" in text
    assert "at most 20 vehicles are exposed at once" in text
    lost = [int(number) for number in re.findall(r"(\d+) of the first 20 granted failing", text)]
    for number, kind in zip(lost, (VerdictKind.HOLD, VerdictKind.HALT), strict=True):
        for failed, wanted in ((number, True), (number - 1, False)):
            before = {AttemptState.FAILED: failed, AttemptState.DOWNLOADED: 20 - failed}
            tally = Tally(before_permit=before, age_groups=(AgeGroup(), AgeGroup()))
            assert (judge({a_cell(): tally}, plan, strata=2).worst.kind is kind) == wanted


def test_a_plan_of_a_newer_server_is_previewed_without_examples(
    server: OperatorServer, plan: Path, outrider: Outrider
) -> None:
    """A field that this command line does not know must not keep anybody from looking."""
    server.will_answer("PreviewRollout", a_preview(effective_plan="release: 1.1.0\nmoonphase: full\n"))
    lines = shown(outrider, plan)
    assert "What would stop it" not in lines
    assert "canary – – 20 10 30 30" in lines


def test_a_preview_that_reaches_nobody_says_so(server: OperatorServer, plan: Path, outrider: Outrider) -> None:
    """The commonest mistake, a target that matches nobody, is the first thing read."""
    nobody = PreviewRolloutResponse(release="1.1.0", registered=200, excluded={"model": 200})
    server.will_answer("PreviewRollout", nobody)
    first, second, *_ = shown(outrider, plan)
    assert first == "Release 1.1.0 would reach none of 200 vehicles."
    assert second == "200 are left out: 200 do not match `model`."


def test_terms_and_other_rollouts_are_read_before_the_waves(
    server: OperatorServer, plan: Path, outrider: Outrider
) -> None:
    """Who must approve, and who goes first, decides whether to go on reading."""
    text = "purpose: security\npriority: 7\nrequires: '>=1.0.4'\napprovals: 2\non_halt: propose_revert\n"
    conflict = (
        "rollout winter (1.0.5, running) wants 12 of these vehicles as well: this one goes first (priority 7 > 0)"
    )
    answer = a_preview(effective_plan=PREVIEWED_PLAN + text, conflicts=[conflict])
    answer.expected_duration.FromSeconds(33 * 86_400)
    answer.expected_often_duration.FromSeconds(5 * 86_400)
    server.will_answer("PreviewRollout", answer)
    lines = shown(outrider, plan)
    assert lines[0].endswith(
        "it takes 3 d 4 h at the earliest, about 5 d if all vehicles call often and 33 d if some call seldom."
    )
    assert lines[1] == (
        "Its purpose is security; it has priority 7; vehicles need >=1.0.4 before; "
        "2 people must approve it before it starts; a halt drafts the way back."
    )
    assert lines.index("▲ Other rollouts") < lines.index(conflict) < lines.index("Wave by wave")


def test_what_stops_it_names_habits_groups_and_the_end_of_a_hold() -> None:
    """Three things that surprise whoever has seen only the first version of the gate."""
    text = " ".join(stopping(a_preview()))
    assert "usually call every few hours, silence counts 6 h after it already" in text
    assert "one that is bad stands still by itself, a second one halts all" in text
    assert "A hold that lasts 7 d needs a person" in text


def test_schema_is_printed_without_a_server(outrider: Outrider) -> None:
    """Whoever writes plans by program has this command and no installation."""
    outcome = outrider("rollout", "schema", "--data", "nowhere")
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.stdout == (Path(__file__).parents[2] / "docs" / "plan.schema.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("rules", "words"),
    [("freeze: 2031-04-05", "never, as far as one sees"), ("windows: always", "at any time")],
)
def test_a_region_that_never_opens_is_not_said_to_be_open(
    rules: str, words: str, server: OperatorServer, plan: Path, outrider: Outrider
) -> None:
    """No opening means two things; the plan says which."""
    bound = f"{PREVIEWED_PLAN}regions: {{eu: {{{rules}}}}}\n"
    regions = [RegionPreview(region="eu", targeted=80)]
    server.will_answer("PreviewRollout", a_preview(effective_plan=bound, regions=regions))
    assert f"eu 80 – – {words} –" in shown(outrider, plan)


def test_start_says_how_far_it_goes_before_anybody_must_look() -> None:
    """Whoever types the name has read the number of vehicles that may follow unwatched."""
    words = what_starts(a_preview()).plain
    assert "30 vehicles in eu, us. At most 30 before somebody must approve wave everybody." in words
    draft = a_preview(effective_plan=f"{PREVIEWED_PLAN}approvals: 2\n")
    assert what_starts(draft).plain.startswith("It is written down as a draft: 2 people must approve it")
    unattended = a_preview(effective_plan=PREVIEWED_PLAN.replace(", approvals: 2", ""))
    assert "all 118 follow by themselves" in what_starts(unattended).plain


def test_windows_across_a_clock_change_show_what_the_dashboard_shows() -> None:
    """The night on which clocks go forward is one hour shorter; local times still read as the plan says."""
    window = an_open_window("Europe/Berlin", "2031-03-29T21:00:00Z", "2031-03-30T03:00:00Z")
    zone = zone_of("Europe/Berlin")
    assert zone is not None
    assert span_words(window, zone) == "Sat 29 Mar 22:00–05:00"
    assert zone_of("Mars/Olympus") is None


def test_a_zone_that_this_machine_lacks_does_not_hide_the_window(
    server: OperatorServer, plan: Path, outrider: Outrider
) -> None:
    """UTC is still right."""
    window = an_open_window("Mars/Olympus", "2031-04-05T20:00:00Z", "2031-04-06T03:00:00Z")
    server.will_answer("PreviewRollout", a_preview(regions=[RegionPreview(region="eu", targeted=1, windows=[window])]))
    assert "eu 1 – – by the clock of Mars/Olympus Sat 05 Apr 20:00–03:00" in shown(outrider, plan)
