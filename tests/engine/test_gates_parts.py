"""Parts of a rollout at the gate: strata, what is said of a region, and what more than one bad part means."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.engine.gates import STRATA_HALTED, judge, waiver
from orchestrator.engine.gates.signals import SAFETY
from orchestrator.model.fleet import Stratum
from orchestrator.model.rollout import Brake, BrakeKind, SignalKind, VerdictKind
from tests.builders import DAY_MS, HOUR_MS, NOW, a_cell, a_plan, a_signal, a_tally, after

PLAN = a_plan()
PROCEED, HOLD, HALT = VerdictKind.PROCEED, VerdictKind.HOLD, VerdictKind.HALT
GOOD = a_tally(succeeded=1000, aged=((1000, 40), (1000, 40)))
BAD = a_tally(failed=3, succeeded=2, aged=((5, 0), (5, 0)))
SAFETY_SIGNAL = a_signal("airbag", kind=SignalKind.SAFETY)


def a_brake(scope: str, kind: BrakeKind) -> Brake:
    """What the gate did earlier."""
    return Brake(scope, kind, NOW, "gate", "earlier")


def kinds(judgement) -> dict[str, VerdictKind]:
    """Kind of each verdict by scope."""
    return {"all" if found.scope is None else str(found.scope): found.kind for found in judgement.verdicts}


def four_strata(**bad) -> dict:
    """Three good hardware variants of eu and gen1 of us; those named are as given."""
    cells = {a_cell(hardware=f"gen{n}"): GOOD for n in (1, 2, 3)} | {a_cell("us", "gen1"): GOOD}
    return cells | {a_cell(*name.split("_")): tally for name, tally in bad.items()}


def test_two_bad_strata_halt_the_whole():
    """One bad variant is a matter of the variant; two are a matter of the release."""
    one = judge(four_strata(eu_gen2=BAD), PLAN)
    assert kinds(one) == {"all": PROCEED, "eu/gen1": PROCEED, "eu/gen2": HALT, "eu/gen3": PROCEED, "us/gen1": PROCEED}
    two = judge(four_strata(eu_gen2=BAD, us_gen1=BAD), PLAN)
    assert (two.worst.kind, two.worst.rule) == (HALT, STRATA_HALTED)
    assert "eu/gen2, us/gen1" in two.worst.message
    assert (two.permit_allowance, two.grant_ceiling) == (0, 0)


def test_a_halted_part_is_no_evidence_against_the_rest():
    """One trim of one region fails in a small fleet: it stands still, and everybody else goes on."""
    few = a_tally(succeeded=40, aged=((40, 2), (40, 2)))
    cells = {a_cell(hardware="gen1"): few, a_cell("us", "gen1"): few, a_cell(hardware="gen2"): BAD}
    answer = judge(cells, PLAN)
    assert kinds(answer) == {"all": PROCEED, "eu/gen1": PROCEED, "eu/gen2": HALT, "us/gen1": PROCEED}
    assert answer.permit_ceiling == 85 + answer.permit_allowance
    young = a_tally(succeeded=40, aged=((9, 0), (0, 0)))
    early = judge({a_cell(hardware="gen1"): young, a_cell("us", "gen1"): young, a_cell(hardware="gen2"): BAD}, PLAN)
    assert kinds(early)["all"] is not PROCEED


def test_a_stratum_that_was_halted_earlier_counts():
    """Evidence may sink again while the brake stays: the second bad variant is the second all the same."""
    standing = [a_brake("us/gen1", BrakeKind.HALTED)]
    assert judge(four_strata(eu_gen2=BAD), PLAN, brakes=standing).worst.rule == STRATA_HALTED
    assert judge(four_strata(), PLAN, brakes=standing).worst.kind is PROCEED
    same = [a_brake("eu/gen2", BrakeKind.HALTED)]
    assert judge(four_strata(eu_gen2=BAD), PLAN, brakes=same).worst.kind is PROCEED
    paused = [a_brake("us/gen1", BrakeKind.PAUSED), a_brake("us", BrakeKind.HELD)]
    assert judge(four_strata(eu_gen2=BAD), PLAN, brakes=paused).worst.kind is PROCEED


def test_who_accepts_two_halted_strata_has_not_accepted_three():
    """A waiver of what is counted covers what the person saw."""
    both = four_strata(eu_gen2=BAD, us_gen1=BAD)
    seen = waiver(judge(both, PLAN).worst)
    assert seen == "strata_halted=2@all"
    assert judge(both, PLAN, waived=[seen]).worst.kind is PROCEED
    third = four_strata(eu_gen2=BAD, us_gen1=BAD, eu_gen3=BAD)
    assert judge(third, PLAN, waived=[seen]).worst.rule == STRATA_HALTED


def test_hold_of_a_stratum_clears_lower_than_it_begins():
    """Hysteresis goes by the stratum's own brake, not by the rollout's status."""
    between = four_strata(eu_gen2=a_tally(failed=2, succeeded=80))
    assert kinds(judge(between, PLAN))["eu/gen2"] is PROCEED
    assert kinds(judge(between, PLAN, held=True))["eu/gen2"] is PROCEED
    assert kinds(judge(between, PLAN, brakes=[a_brake("eu/gen2", BrakeKind.HELD)]))["eu/gen2"] is HOLD


@pytest.mark.parametrize(
    ("scope", "held"),
    [("all", ["all"]), ("", ["all"]), ("eu", ["eu"]), ("eu/gen2", ["eu/gen2"]), ("us/gen9", ["us/gen9"])],
)
def test_a_warning_holds_its_scope(scope, held):
    """Trouble codes of one variant in one region are no reason to stop the others; a part without counts counts."""
    judgement = judge(four_strata(), PLAN, signals=[a_signal(scope=scope, value=7.5)])
    assert [name for name, kind in kinds(judgement).items() if kind is HOLD] == held
    (found,) = [found for found in judgement.verdicts if found.kind is HOLD]
    assert found.rule == "signal_tow_rate"
    assert "tow_rate (7.5) > limit (5)" in found.message
    assert (judgement.permit_allowance > 0) == (held != ["all"])


@pytest.mark.parametrize(
    ("value", "limit", "kind"),
    [(5.0, 5.0, PROCEED), (5.1, 5.0, HOLD), (float("nan"), 5.0, HOLD), (1.0, float("nan"), HOLD)],
)
def test_a_warning_within_its_limit_does_not_hold(value, limit, kind):
    """And what is no number is not within its limit."""
    assert judge(four_strata(), PLAN, signals=[a_signal(value=value, limit=limit)]).worst.kind is kind


def test_a_signal_about_the_only_stratum_is_heard():
    """Its counters are those of the whole, but what is said of it is said of it."""
    judgement = judge({a_cell(): GOOD}, PLAN, signals=[a_signal(scope="eu/gen2", value=9.0)])
    assert kinds(judgement) == {"all": PROCEED, "eu/gen2": HOLD}


def test_a_region_is_a_scope_of_its_own():
    """A brake is put on what the verdict names: a region is written without hardware."""
    judgement = judge(four_strata(), PLAN, signals=[a_signal(scope="eu", value=9.0)])
    assert Stratum("eu", "") in [found.scope for found in judgement.verdicts]
    assert str(Stratum("eu", "")) == "eu"


def test_a_part_is_let_go_when_nothing_is_said_of_it_any_more():
    """The signal is cleared: only a verdict that proceeds takes the brake off."""
    judgement = judge(four_strata(), PLAN, brakes=[a_brake("eu", BrakeKind.HELD)])
    assert kinds(judgement)["eu"] is PROCEED


@pytest.mark.parametrize("scope", ["all", "eu", "us/gen2"])
def test_a_signal_that_is_overdue_holds_its_scope_whatever_it_said(scope):
    """The probe is dead and its last word was good: that is a missing input, and never a leave to go on."""
    feed = a_signal(scope=scope, value=0.0, measured_at=NOW, good_for_ms=6 * HOUR_MS)
    assert judge(four_strata(), PLAN, signals=[feed], now=after(6 * HOUR_MS - 1)).worst.kind is PROCEED
    judgement = judge(four_strata(), PLAN, signals=[feed], now=after(6 * HOUR_MS))
    assert [name for name, kind in kinds(judgement).items() if kind is HOLD] == [scope]
    (found,) = [found for found in judgement.verdicts if found.kind is HOLD]
    assert found.rule == "overdue_tow_rate"
    assert (
        "tow_rate is overdue: measured at 2026-01-01T00:00:00Z, good for 6 h, and nothing newer came" in found.message
    )
    assert judge(four_strata(), PLAN, signals=[replace(feed, good_for_ms=0)], now=after(DAY_MS)).worst.kind is PROCEED


def test_a_signal_from_before_a_clock_went_back_is_overdue():
    """A restored host lives in last week: what is measured next week is not today's."""
    feed = a_signal(value=0.0, measured_at=after(7 * DAY_MS), good_for_ms=6 * HOUR_MS)
    assert judge(four_strata(), PLAN, signals=[feed], now=NOW).worst.rule == "overdue_tow_rate"


def test_who_went_on_without_a_feed_did_not_do_so_for_the_next_time_it_dies():
    """A person accepted this silence of the probe, not every one to come."""
    feed = a_signal(value=0.0, measured_at=NOW, good_for_ms=6 * HOUR_MS)
    seen = waiver(judge(four_strata(), PLAN, signals=[feed], now=after(DAY_MS)).worst)
    assert judge(four_strata(), PLAN, signals=[feed], now=after(DAY_MS), waived=[seen]).worst.kind is PROCEED
    again = replace(feed, measured_at=after(DAY_MS))
    assert judge(four_strata(), PLAN, signals=[again], now=after(2 * DAY_MS), waived=[seen]).worst.kind is HOLD


def test_who_lets_the_whole_go_on_has_answered_for_the_part_that_reported():
    """One report of one vehicle is told of all and of its stratum: it is one question, and one answer is enough."""
    hurt = replace(GOOD, after_permit={**GOOD.after_permit}, safety=1)
    cells = four_strata(eu_gen2=hurt)
    first = judge(cells, PLAN)
    assert (first.worst.rule, kinds(first)["eu/gen2"]) == (SAFETY, HOLD)
    seen = waiver(first.worst)
    assert seen == "safety_reports=1@all"
    assert set(kinds(judge(cells, PLAN, waived=[seen])).values()) == {PROCEED}
    beside = judge(cells, PLAN, waived=["safety_reports=1@us/gen1"])
    assert kinds(beside)["eu/gen2"] is HOLD
    second = judge(four_strata(eu_gen2=hurt, us_gen1=hurt), PLAN, waived=[seen])
    assert (second.worst.kind, kinds(second)["us/gen1"]) == (HALT, HOLD), "and what came later is another question"
    both = judge(four_strata(eu_gen2=hurt, us_gen1=hurt), PLAN, waived=[waiver(second.worst)])
    assert set(kinds(both).values()) == {PROCEED}


def test_who_lets_the_whole_go_on_has_answered_for_the_signal_that_was_counted():
    """A vehicle's report and a signal about its stratum halt together; both were named to who resumed."""
    hurt = replace(GOOD, safety=1)
    signal = replace(SAFETY_SIGNAL, scope="eu/gen2")
    halted = judge(four_strata(eu_gen2=hurt), PLAN, signals=[signal])
    assert (halted.worst.kind, kinds(halted)["eu/gen2"]) == (HALT, HALT)
    seen = [waiver(halted.worst)]
    assert set(kinds(judge(four_strata(eu_gen2=hurt), PLAN, signals=[signal], waived=seen)).values()) == {PROCEED}


def test_a_signal_that_was_accepted_holds_again_when_it_rises():
    """A person looked at 7.5; nobody has looked at 9."""
    held = judge(four_strata(), PLAN, signals=[a_signal(value=7.5)])
    seen = waiver(held.worst)
    assert seen == "signal_tow_rate=7.5@all"
    assert judge(four_strata(), PLAN, signals=[a_signal(value=7.5)], waived=[seen]).worst.kind is PROCEED
    assert judge(four_strata(), PLAN, signals=[a_signal(value=6.0)], waived=[seen]).worst.kind is PROCEED
    assert judge(four_strata(), PLAN, signals=[a_signal(value=9.0)], waived=[seen]).worst.kind is HOLD
    elsewhere = a_signal(scope="eu", value=7.5)
    assert kinds(judge(four_strata(), PLAN, signals=[elsewhere], waived=[seen]))["eu"] is HOLD


@pytest.mark.parametrize(
    ("vehicles", "signals", "kind"),
    [
        (0, [], PROCEED),
        (1, [], HOLD),
        (2, [], HALT),
        (0, [SAFETY_SIGNAL], HOLD),
        (1, [SAFETY_SIGNAL], HALT),
        (0, [SAFETY_SIGNAL, replace(SAFETY_SIGNAL, name="brakes")], HALT),
        (0, [replace(SAFETY_SIGNAL, scope="eu")], PROCEED),
        (1, [replace(SAFETY_SIGNAL, scope="us")], HALT),
        (0, [replace(SAFETY_SIGNAL, scope="eu"), replace(SAFETY_SIGNAL, scope="us")], HALT),
    ],
)
def test_one_report_of_safety_holds_and_two_halt(vehicles, signals, kind):
    """From vehicles or from people, wherever they are: nobody waits for statistics where somebody may be hurt."""
    tally = replace(a_tally(failed=vehicles, succeeded=5000 - vehicles), safety=vehicles)
    judgement = judge(four_strata(eu_gen1=tally), PLAN, signals=signals)
    assert judgement.worst.kind is kind
    assert kind is PROCEED or judgement.worst.rule == SAFETY


def test_a_report_of_safety_about_a_region_holds_the_region():
    """Its one report is enough there; two of the same region halt it, and the whole."""
    one = judge(four_strata(), PLAN, signals=[replace(SAFETY_SIGNAL, scope="eu")])
    assert kinds(one)["eu"] is HOLD
    two = [replace(SAFETY_SIGNAL, scope="eu"), replace(SAFETY_SIGNAL, scope="eu", name="brakes")]
    assert (
        kinds(judge(four_strata(), PLAN, signals=two))["eu"],
        judge(four_strata(), PLAN, signals=two).worst.kind,
    ) == (
        HALT,
        HALT,
    )


def test_who_accepts_one_report_of_safety_has_not_accepted_two():
    """The second is what halts: it must not pass under a waiver of the first."""
    one = replace(a_tally(failed=1, succeeded=4999), safety=1)
    two = replace(a_tally(failed=2, succeeded=4998), safety=2)
    cells = four_strata(eu_gen1=one)
    seen = waiver(judge(cells, PLAN).worst)
    assert seen == "safety_reports=1@all"
    assert judge(cells, PLAN, waived=[seen]).worst.kind is PROCEED
    assert judge(four_strata(eu_gen1=two), PLAN, waived=[seen]).worst.kind is HALT
    assert judge(cells, PLAN, waived=["safety_reports@all", "safety_reports=nan@all"]).worst.kind is HOLD


def test_a_diagnosis_after_the_installation_is_a_failure():
    """Installed is not well: it counts against the limit, and not among the successes."""
    tally = replace(a_tally(succeeded=20), diagnosed=3)
    judgement = judge({a_cell(): tally}, PLAN)
    assert (judgement.worst.kind, judgement.worst.rule) == (HALT, "failures_evalue")
    assert (judgement.worst.inputs["k"], judgement.worst.inputs["s"]) == (3, 17)


def test_evidence_of_several_quantities_adds_up():
    """Failures nearly enough and silence nearly enough are enough together; the bound stays 1 / alpha."""
    failing = a_tally(failed=4, succeeded=46, aged=((50, 2), (0, 0)))
    silent = a_tally(timed_out=11, succeeded=39, aged=((50, 11, 400, 20), (0, 0)))
    both = a_tally(failed=4, timed_out=11, succeeded=35, aged=((50, 11, 400, 20), (0, 0)))
    evidence = [judge({a_cell(): tally}, PLAN).worst for tally in (failing, silent, both)]
    assert [found.kind for found in evidence] == [HOLD, HOLD, HALT]
