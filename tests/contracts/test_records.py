"""What every store promises about rollouts and releases as values: they come back as they were written."""

from __future__ import annotations

from datetime import date

from orchestrator.model.attempt import AttemptState
from orchestrator.model.fleet import Stratum
from orchestrator.model.ids import ReleaseVersion
from orchestrator.model.plan import Consent, Freeze, Preconditions, RegionRules, Window
from orchestrator.model.rollout import Approval, RegionPhase, RegionProgress, Verdict, VerdictKind
from tests.builders import NOW, a_plan, a_release, a_rollout, a_wave
from tests.contracts.steps import entry
from tests.store_fixtures import StoreBench

RULES = RegionRules(
    in_flight_max=7,
    zone="Europe/Berlin",
    windows=(Window(weekdays=(0, 6), start_minute=1320, end_minute=300),),
    freezes=(Freeze(first=date(2026, 12, 24), last=date(2026, 12, 26)),),
    follow="us",
    consent=Consent.REQUIRED,
)


async def test_rollout_comes_back_exactly_as_it_was_written(bench: StoreBench) -> None:
    """Every field survives, the optional ones too: decisions are replayed from what was stored."""
    rollout = a_rollout(
        salt=bytes([0, 255, 128] + [7] * 13),
        waived=("failures@eu/gen2",),
        verdict=Verdict(
            kind=VerdictKind.HOLD,
            rule="silence",
            scope=Stratum(region="eu", hardware="gen2"),
            message="5 of 20 silent",
            inputs={"n": 20.0, "p": 0.25},
        ),
        regions={"eu": RegionProgress(RegionPhase.AGING, 2, NOW, "the last checkpoint")},
        plan=a_plan(
            deadlines_ms={AttemptState.OFFERED: 5},
            waves=(a_wave("early", approvals=2),),
            regions={"eu": RULES},
            region_defaults=RULES,
            preconditions=Preconditions(unmetered=True, parked=True, battery_percent_min=30),
        ),
        creator="alice",
        approvals=(Approval(wave="early", region="", actor="bob", reason="looks good", at=NOW),),
        reverts="winter",
    )
    assert await bench.store.create_rollout(rollout, entry()) == rollout
    assert list(await bench.store.rollouts()) == [rollout]


async def test_release_comes_back_with_what_it_undoes(bench: StoreBench) -> None:
    """At 3 a.m. the release that undoes another is found by this field."""
    release = a_release("1.2.0-revert", reverts=ReleaseVersion("1.2.0"))
    assert await bench.store.create_release(release, entry("release_created")) == release
    assert list(await bench.store.releases()) == [release]
