"""The claim of the guide: a plan of six lines is a safe rollout."""

from __future__ import annotations

from pathlib import Path

from orchestrator.engine import openings
from orchestrator.engine.gates import judge
from orchestrator.engine.plan.file import read_plan
from orchestrator.engine.preview import preview
from orchestrator.engine.reach import reach, with_limits
from orchestrator.model.attempt import AttemptState
from orchestrator.model.rollout import VerdictKind
from orchestrator.model.tally import AgeGroup, Tally
from tests.builders import NOW, a_cell, a_release, a_vehicle


def test_six_lines_of_the_guide_are_a_safe_rollout():
    """What a newcomer copies stops by itself: staged, gated with silence in every stratum, bounded, with a holdout."""
    guide = (Path(__file__).parents[2] / "docs" / "plan-file.md").read_text(encoding="utf-8")
    short = guide.split("```yaml\n")[1].split("```")[0]
    assert len(short.splitlines()) == 6
    fleet = {
        a_vehicle(hardware=hardware, region=region, cohort=cohort).profile("1.0.0"): count
        for hardware in ("gen1", "gen2")
        for region in ("eu", "us")
        for cohort, count in (("internal", 50), ("canary", 500), ("general", 24_450))
    }
    plan = with_limits(read_plan(short), fleet)
    # At most two in a thousand may be hurt at worst, and every stratum is in the first wave, which is a small one.
    assert plan.limits.blast_budget == 200
    found = preview(plan, fleet, a_release(), NOW)
    assert found.warnings == ()
    [(_, first), _] = found.waves
    assert 0 < sum(first.values()) < 0.05 * found.targeted
    # Whose silence is compared with that of others, and that is all of the first wave: what hurts them is seen there.
    targeted = {cell: count for cell, count in reach(plan, fleet).cells.items() if cell.region == "eu"}
    assert openings.trial(plan, 0, targeted) == 1.0
    assert plan.gate.stratum_sample_min == 5
    assert plan.holdout_share == 0.01

    def verdict(**states: int) -> VerdictKind:
        tally = Tally(
            after_permit={AttemptState(state): count for state, count in states.items()},
            age_groups=(AgeGroup(20, states.get("rebooting", 0)), AgeGroup()),
        )
        return judge({a_cell(): tally, a_cell(region="us"): Tally()}, plan, strata=4).worst.kind

    assert verdict(succeeded=20) is VerdictKind.PROCEED
    assert verdict(succeeded=17, failed=3) is VerdictKind.HALT
    assert verdict(succeeded=10, rebooting=10) is VerdictKind.HALT
