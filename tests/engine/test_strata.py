"""More strata than can be judged each on its own: which are judged together, and what that means for each of them."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.admission import consider
from orchestrator.engine.gates import judge_rollout
from orchestrator.engine.inputs import cells_read, terms_read, written
from orchestrator.engine.openings import quotas
from orchestrator.engine.preview import preview
from orchestrator.engine.progress import Illegal, Judged, PauseRequested, ResumeRequested, Step, step, waiting_for
from orchestrator.engine.promotion import absent_strata, unproven
from orchestrator.engine.region_state import region_at
from orchestrator.engine.strata import STRATA_MAX, by_part, largest, together
from orchestrator.engine.targets import compile_target
from orchestrator.evaluator import fences_of
from orchestrator.model.decision import Grant, Refusal
from orchestrator.model.fleet import OTHER, Profile, Stratum
from orchestrator.model.ids import FleetTime, ReleaseVersion
from orchestrator.model.plan import Target
from orchestrator.model.rollout import BrakeKind, RegionPhase, RolloutStatus, VerdictKind, part_of
from tests.builders import (
    DAY_MS,
    HOUR_MS,
    NOW,
    a_brake,
    a_cell,
    a_gate,
    a_plan,
    a_record,
    a_release,
    a_rollout,
    a_tally,
    a_vehicle,
    a_wave,
    after,
)

PLAN = a_plan(
    regions=("eu", "us"), waves=(a_wave("tenth", share=0.1), a_wave("all")), gate=a_gate(stratum_sample_min=5)
)
FLEET = {a_cell(region, f"h{number:03}"): 1000 - number for region in ("eu", "us") for number in range(100)}
"""Two hundred strata, ever smaller."""
SMALL = a_cell("us", "h099")
GOOD = a_tally(succeeded=40, aged=((40, 2), (40, 2)))
LATER = after(HOUR_MS)


def looked_at(rollout, cells=None, waiting=None, now: FleetTime = LATER) -> Step:
    """A tick of the evaluator."""
    there = FLEET if waiting is None else waiting
    answer = step(rollout, Judged(judge_rollout(rollout, cells or {}, there, now), cells or {}, there), now)
    assert isinstance(answer, Step)
    return answer


def folded(**changes):
    """A running rollout after its first look."""
    return looked_at(a_rollout(plan=PLAN, **changes)).rollout


def answered(rollout, region: str, hardware: str) -> Grant | Refusal:
    """What admission says to a vehicle of a stratum."""
    record = a_record(a_vehicle(hardware=hardware, region=region))
    return consider(record, rollout, a_release(), compile_target(Target()), LATER)


def test_as_many_as_can_be_judged_are_judged_each_on_its_own():
    """Nothing changes for a fleet of 64 strata; of 65 two are too many, as one place is that of all others."""
    sizes = {Stratum("eu", f"h{number}"): number for number in range(STRATA_MAX)}
    assert largest(sizes) == ()
    more = largest({**sizes, Stratum("us", "h"): 1000})
    assert len(more) == STRATA_MAX - 1
    assert {str(each) for each in sizes} - set(more) == {"eu/h0", "eu/h1"}


@given(
    st.dictionaries(
        st.builds(Stratum, st.sampled_from(("eu", "us")), st.text("abc", min_size=1, max_size=4)),
        st.integers(0, 3),
        min_size=65,
        max_size=90,
    ),
    st.randoms(),
)
def test_choice_does_not_depend_on_the_order_of_the_fleet(sizes, chance):
    """Two evaluators, and a replay, must choose the same of equally large ones."""
    shuffled = list(sizes.items())
    chance.shuffle(shuffled)
    chosen = largest(dict(shuffled))
    assert chosen == largest(sizes)
    least = min(sizes[stratum] for stratum in sizes if str(stratum) in chosen)
    assert all(count <= least for stratum, count in sizes.items() if str(stratum) not in chosen)


def test_first_look_chooses_once_and_writes_it_down():
    """The largest 63; and whatever the fleet becomes, what is judged apart stays apart."""
    answer = looked_at(a_rollout(plan=PLAN))
    rollout = answer.rollout
    assert answer.kind == "strata_folded"
    assert "63 strata are judged each on its own, 137 together as _other" in str(answer.data["reason"])
    assert answer.data["apart"] == list(rollout.apart)
    assert len(rollout.apart) == 63
    assert {"eu/h000", "us/h000", "eu/h031"} <= set(rollout.apart)
    assert "us/h031" not in rollout.apart, "of equally large ones the first by name"
    grown = {**FLEET, SMALL: 100_000, a_cell("eu", "new"): 100_000}
    assert looked_at(rollout, waiting=grown).rollout.apart == rollout.apart
    assert part_of(Stratum("eu", "new"), rollout.apart) == OTHER
    shrunk = {a_cell("eu", "h000"): 5}
    assert looked_at(rollout, waiting=shrunk).rollout.apart == rollout.apart


def test_places_of_the_first_look_know_what_is_judged_together():
    """Else a thousand variants of one vehicle each would make a canary of five thousand."""
    rollout = folded()
    tiny = {a_cell("eu", "h000"): 1000, **{a_cell("eu", f"x{number}"): 10 for number in range(100)}}
    assert sum(quotas(PLAN, 0, tiny).values()) == 600
    counted = quotas(PLAN, 0, tiny, rollout.apart)
    assert sum(counted.values()) == 200
    assert sum(count for cell, count in counted.items() if cell.hardware != "h000") >= 5
    opened = rollout.regions["eu"].openings
    assert (
        opened["h099/canary"].quota
        == quotas(PLAN, 0, {c: n for c, n in FLEET.items() if c.region == "eu"}, rollout.apart)[a_cell("eu", "h099")]
    )


def test_alpha_is_split_by_what_is_judged():
    """Two hundred shares of alpha would ask each stratum for three times as much."""
    cells = dict.fromkeys(FLEET, GOOD)
    judgement = judge_rollout(folded(), cells, FLEET, LATER)
    parts = judgement.verdicts[1:]
    assert len(parts) == STRATA_MAX
    assert {round(verdict.inputs["evidence_min"]) for verdict in parts} == {round(STRATA_MAX / PLAN.gate.alpha)}
    (others,) = [verdict for verdict in parts if verdict.scope == OTHER]
    assert others.inputs["n"] == 137 * 40
    before = judge_rollout(a_rollout(plan=PLAN), cells, FLEET, LATER)
    assert before.verdicts == judgement.verdicts, "also in the look that chooses"


def test_decision_is_made_again_from_its_record():
    """What was judged together is an input like any other."""
    judgement = judge_rollout(folded(), dict.fromkeys(FLEET, GOOD), FLEET, LATER)
    record = written(judgement, dict.fromkeys(FLEET, GOOD), FLEET)
    assert terms_read(record) == judgement.terms
    assert cells_read(record) == dict.fromkeys(FLEET, GOOD)
    without = {**record, "terms": {key: value for key, value in record["terms"].items() if key != "apart"}}
    assert terms_read(without).apart == (), "ledgers keep decisions of builds that knew no such thing"


def test_bad_stratum_among_the_small_ones_stops_all_of_them_and_nobody_else():
    """None of them can be judged alone: one brake, and one fence, for each, also for those that nobody has seen."""
    cells = {**dict.fromkeys([*FLEET][:40], GOOD), SMALL: a_tally(failed=30)}
    halted = looked_at(folded(), cells).rollout
    assert (halted.status, [(each.scope, each.kind) for each in halted.brakes]) == (
        RolloutStatus.RUNNING,
        [("_other", BrakeKind.HALTED)],
    )
    assert dict(halted.fences) == {"_other": halted.epoch}
    for hardware in ("h099", "h050", "never-seen"):
        stratum = Stratum("us", hardware)
        assert halted.brake_on(stratum) == halted.brakes[0]
        assert halted.fence_of(stratum) == halted.epoch
        refused = answered(halted, "us", hardware)
        assert isinstance(refused, Refusal)
    assert halted.brake_on(Stratum("eu", "h000")) is None
    assert halted.fence_of(Stratum("eu", "h000")) == 0
    assert not looked_at(halted, cells).changed, "it counts in the whole no more, as any part that is halted"
    resumed = step(halted, ResumeRequested("bob", "a bench", "_other"), LATER)
    assert isinstance(resumed, Step)
    assert resumed.rollout.brakes == ()
    assert not looked_at(resumed.rollout, cells).rollout.brakes, "and it is not stopped for the same again"


def test_fences_for_the_sweep_spare_what_is_judged_apart():
    """What has no entry of its own shares that of the others."""
    rollout = replace(folded(), fences={"_other": 9, "eu": 3, "us/h099": 4, "eu/h000": 5})
    fences = fences_of([rollout])
    assert (fences["spring|_other"], fences["spring|us/h099"]) == (9, 9)
    assert (fences["spring|eu"], fences["spring|eu/h000"], fences["spring|us/h000"]) == (3, 5, 0)
    assert fences_of([replace(folded(), fences={"eu/h000": 5})]) == {"spring|eu/h000": 5}


def test_people_pause_and_resume_what_is_judged_together_by_its_name():
    """And hear of a slip where there is no such thing."""
    paused = step(folded(), PauseRequested("bob", "lunch", "_other"), LATER)
    assert isinstance(paused, Step)
    assert [each.scope for each in paused.rollout.brakes] == ["_other"]
    assert isinstance(step(a_rollout(plan=PLAN), PauseRequested("bob", "lunch", "_other"), LATER), Illegal)


def test_hold_of_what_is_judged_together_becomes_final_by_its_own_counters():
    """Not by those of a stratum that is judged apart and still young."""
    young = a_tally(failed=1, succeeded=9, aged=((9, 0), (0, 0)))
    old = a_tally(failed=1, succeeded=9, aged=((10, 0), (10, 0)))
    rollout = replace(folded(), brakes=(a_brake("_other", BrakeKind.HELD, since=NOW),))
    for small, final in ((young, False), (old, True)):
        cells = {a_cell("eu", "h000"): young, SMALL: small, a_cell("eu", "h080"): old}
        judgement = judge_rollout(rollout, cells, FLEET, LATER)
        doubted = replace(judgement, verdicts=tuple(v for v in judgement.verdicts if v.scope != OTHER))
        answer = step(rollout, Judged(doubted, cells, FLEET), after(2 * HOUR_MS))
        assert isinstance(answer, Step)
        assert [each.final for each in answer.rollout.brakes if each.scope == "_other"] == [final]


def test_what_stood_still_on_its_own_stays_apart():
    """A brake of a small variant must not be lost because the fleet grew."""
    rollout = a_rollout(plan=PLAN, brakes=(a_brake("us/h099", BrakeKind.HALTED),))
    assert "us/h099" in looked_at(rollout).rollout.apart


def test_region_waits_for_a_brake_on_the_others_only_where_it_has_some():
    """A region of large variants alone has nothing to do with it."""
    rollout = replace(folded(), brakes=(a_brake("_other", BrakeKind.HALTED),))
    done = replace(rollout.regions["eu"], phase=RegionPhase.AGING, wave=1)
    rollout = replace(rollout, regions={**rollout.regions, "eu": done})
    old = a_tally(succeeded=10, aged=((10, 0), (10, 0)))
    mixed = {a_cell("eu", "h000"): old, a_cell("eu", "h099"): old}
    assert "_other is halted" in waiting_for(rollout, mixed, {}, "eu", after(2 * DAY_MS))
    assert waiting_for(rollout, {a_cell("eu", "h000"): old}, {}, "eu", after(2 * DAY_MS)) == ""


def test_wave_asks_for_a_sample_of_the_others_together():
    """And names, of those that nobody of was exposed, how many are among them."""
    rollout = folded()
    reached = {
        cell: a_tally(succeeded=300, aged=((300, 0), (300, 0))) for cell in FLEET if str(cell.stratum) in rollout.apart
    }
    region = region_at("eu", rollout, reached, FLEET)
    assert "at least 5 of stratum _other" in unproven(region, after(14 * DAY_MS), LATER)
    enough = {**reached, a_cell("eu", "h099"): a_tally(succeeded=5, aged=((5, 0), (5, 0)))}
    region = region_at("eu", rollout, enough, FLEET)
    assert unproven(region, after(14 * DAY_MS), LATER) == ""
    assert absent_strata(region) == ["67 that are judged together"]


def test_preview_names_what_is_judged_together():
    """Before anything moves, with what it costs; nothing of it for a fleet of 64."""
    fleet = {
        Profile("S", cell.hardware, cell.region, cell.cohort, (), ReleaseVersion("1.0.0")): count
        for cell, count in FLEET.items()
    }
    told = preview(PLAN, fleet, a_release(), NOW)
    (warning,) = [each for each in told.warnings if "_other" in each]
    assert "200 strata (region x hardware) > 64: the 63 largest are judged each on its own" in warning
    assert "the other 137 with" in warning
    assert "eu/h032" in warning
    assert "and 129 more" in warning
    assert told.waves[0][1]["eu"] == sum(opening.quota for opening in folded().regions["eu"].openings.values())
    few = dict(list(fleet.items())[:64])
    assert not [each for each in preview(PLAN, few, a_release(), NOW).warnings if "_other" in each]


def test_counters_of_parts_add_up():
    """Nobody is judged twice, and nobody by none."""
    rollout = folded()
    cells = dict.fromkeys(FLEET, GOOD)
    parts = by_part(cells, rollout.apart)
    assert sum(tally.exposed for tally in parts.values()) == 40 * len(FLEET)
    assert len(together(rollout.apart, FLEET)) == 137
    assert together((), FLEET) == ()
    assert {verdict.kind for verdict in judge_rollout(rollout, cells, FLEET, LATER).verdicts} <= set(VerdictKind)
