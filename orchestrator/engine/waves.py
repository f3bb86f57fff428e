"""Waves: which share of a cohort is open when a region stands in a wave.

Admission compares one vehicle's draw with it, progress and preview make quotas of it: one home, so that the three
agree.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.engine import selection
from orchestrator.model.plan import Plan, Wave
from orchestrator.model.rollout import RegionPhase, RegionProgress


def admits(wave: Wave, cohort: str) -> bool:
    """Whether a wave is for a cohort at all; without cohorts it is for every one."""
    return not wave.cohorts or cohort in wave.cohorts


def open_share(plan: Plan, wave: int, cohort: str) -> float:
    """The share of a cohort whose draw is open in wave `wave` (index) or an earlier one; 0 when none is for it."""
    return widest_share(plan.waves[: wave + 1], cohort)


def widest_share(steps: Sequence[Wave], cohort: str) -> float:
    """The share of a cohort that several waves open together; 0 when none is for it."""
    return max((step.share for step in steps if admits(step, cohort)), default=0.0)


def reached_share(plan: Plan, wave: int, cohort: str) -> float:
    """As `open_share`, without the holdout at the top of the draws: what a wave can reach at most."""
    return min(open_share(plan, wave, cohort), 1.0 - plan.holdout_share)


def first_wave(plan: Plan, cohort: str, draw: int) -> Wave | None:
    """The first wave that opens a cohort to a draw; None when no wave ever does."""
    return next((wave for wave in plan.waves if admits(wave, cohort) and draw < selection.threshold(wave.share)), None)


def holdout_open(progress: RegionProgress) -> bool:
    """Whether a region admits its holdout."""
    return progress.phase in (RegionPhase.HOLDOUT, RegionPhase.DONE)
