"""The rules that the engine is compared with stop as those they stand for, and cost about what was published."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.judge.reference import ReferenceRule
from benchmarks.judge.rules import StagedRule, aws, hawkbit, wilson, wilson_lower
from orchestrator.rehearsal import Ending, Outcome, ReleaseModel, Rule, Vehicles, draw_vehicles, run
from orchestrator.rehearsal.fleets import FLEET_13


def outcomes(rule: Callable[[Vehicles], Rule], failure_rate: float, silent_share: float, runs: int) -> list[Outcome]:
    """Runs on the fleet of the reference."""
    release = ReleaseModel(failure_rate, silent_share)
    fleets = (draw_vehicles(FLEET_13, seed).under(release) for seed in range(runs))
    return [run(vehicles, rule(vehicles), seed=seed) for seed, vehicles in enumerate(fleets)]


def failed(of: list[Outcome]) -> float:
    """Mean of vehicles that failed."""
    return float(np.mean([outcome.failed for outcome in of]))


def reference(vehicles: Vehicles) -> Rule:
    """The recommended rule at 1 %."""
    return ReferenceRule(vehicles, 0.01)


@pytest.mark.parametrize(
    ("failure_rate", "silent_share", "low", "high"),
    [(0.05, 0.3, 3.0, 8.0), (0.05, 1.0, 18.0, 36.0), (0.2, 0.3, 2.5, 6.0), (0.2, 1.0, 12.0, 21.0)],
)
def test_reference_costs_about_what_was_published(
    failure_rate: float, silent_share: float, low: float, high: float
) -> None:
    """Published: 4.2 / 25 at 5 %, 3.5 / 17 at 20 %. A reference that is worse than it was would be easy to beat."""
    assert low < failed(outcomes(reference, failure_rate, silent_share, 12)) < high


def test_reference_lets_a_good_release_through() -> None:
    """It stops 7 to 9 % of good releases at half the limit; four of four would be another rule."""
    good = outcomes(reference, 0.001, 0.3, 2)
    assert [outcome.ending for outcome in good] == [Ending.COMPLETED] * 2
    assert all(17 < (outcome.days_to_95 or 0) < 21 for outcome in good)


def test_aws_rule_never_hears_silence() -> None:
    """The table's point: 4.7 vehicles where failures speak, about all of them where they do not."""
    spoken = outcomes(lambda vehicles: StagedRule(vehicles, aws(0.01)), 0.05, 0.3, 8)
    silent = outcomes(lambda vehicles: StagedRule(vehicles, aws(0.01)), 0.05, 1.0, 1)
    assert 4 < failed(spoken) < 13
    assert failed(silent) > 4_500


def test_rules_stop_at_their_own_measures() -> None:
    """Each is the rule that it is named after."""
    assert aws(0.01)(1, 99, 0, 0)
    assert not aws(0.01)(1, 98, 0, 0)
    assert not aws(0.01)(1, 100, 0, 0)
    assert aws(0.01, 10)(1, 9, 0, 0)
    assert hawkbit(0.01)(0, 0, 2, 100)
    assert not hawkbit(0.01)(0, 0, 1, 100)
    assert wilson(0.01)(3, 17, 0, 0)
    assert not wilson(0.01)(1, 199, 0, 0)
    assert wilson_lower(0, 0) == 0.0
