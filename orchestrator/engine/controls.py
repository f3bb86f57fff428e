"""Controls: vehicles that could have their permit now and wait for one more call, by a coin.

Owns the coin. Silence after an installation is only worth something against the silence of like vehicles that did not
install, at the same time. Which are alike? Vehicles differ in how often they call, at what time of day and from where,
and what they are granted depends on it. So the choice is left to chance, at the very moment at which a permit would be
given: most of those that ask in the first waves wait, the others install, and nothing but the coin tells them apart.
Whatever is different afterwards comes from the release. Why not otherwise: docs/decisions, A coin at the permit.

One coin says which attempts are compared at all (are in the trial). In early waves all are: more vehicles wait than a
wave admits, so standing aside costs little; nothing at all where places are counted, as another takes the place. Where
a wave leaves few to wait, few are. Another coin, at each
asking, says which of them stands aside. The odds of that one never change, so all exposures and all controls of a trial
can be added up, over habits, times and waves.

The stores keep the watch and count; what the counts mean is the matter of `gates`.
"""

from __future__ import annotations

from orchestrator.engine import selection
from orchestrator.engine.habits import SAME_CONTACT_MS
from orchestrator.model.attempt import Attempt, Control
from orchestrator.model.fleet import Cell, Habit
from orchestrator.model.ids import AttemptId, FleetTime, VehicleId
from orchestrator.model.plan import GateLimits
from orchestrator.model.rollout import RegionPhase, RegionProgress, Rollout, place_key

CONTROLS_PER_EXPOSURE = 3
"""Controls for each exposure that is compared, where a plan does not say: what is normal becomes known nearly for sure.
"""
FLEET_MIN = 100
"""Targeted vehicles from which a plan that does not say has controls: of fewer nothing is learnt from silence."""
PAIRED_SHARE_MIN = 0.03
"""Part of the exposures of a wave that is compared, however few it leaves to wait."""
HEARD_AFTER_MS = 2 * SAME_CONTACT_MS
"""Fleet time after the enrolment within which a call is still the one at which it asked; no exposure is heard so early.
"""
YOUNGEST_MS = 2 * HEARD_AFTER_MS
"""Ages below it tell nothing of a control: hardly any could have been heard."""
_TRIAL, _ASIDE = "trial", "aside"


def can_be_heard(gate: GateLimits) -> bool:
    """Whether controls could be heard before every age at which a gate looks."""
    ages = (*gate.checkpoints_ms, *(age for own in gate.habit_ages_ms.values() for age in own))
    return min(ages, default=0) >= YOUNGEST_MS


def trial_share(per_exposure: int, fresh: float, left: float) -> float:
    """Share of the attempts of a wave that is in the trial.

    Args:
        per_exposure: Controls for each exposure that is compared.
        fresh: Vehicles that the wave adds in a region.
        left: Vehicles there that wait for a later one.

    Returns:
        0 without controls; else such that `left` is enough, and never nought.
    """
    if not per_exposure or fresh <= 0.0:
        return 0.0
    paired = max(PAIRED_SHARE_MIN, min(1.0, left / (per_exposure * fresh)))
    return (1 + per_exposure) * paired / (1 + per_exposure * paired)


def compared_share(per_exposure: int, trial: float) -> float:
    """Part of the exposures of a wave that is compared, by the share of its attempts in the trial."""
    compared = trial / (1 + per_exposure)
    return compared / (compared + 1.0 - trial)


def permitted_share(per_exposure: int, trial: float) -> float:
    """Part of those that ask for a permit, and find room, that gets it at once."""
    return 1.0 - trial * per_exposure / (1 + per_exposure)


def is_paired(rollout: Rollout, attempt: Attempt) -> bool:
    """Whether an attempt that asks for its permit now is in the trial; in a plan without controls all are compared."""
    if not rollout.plan.gate.controls_per_exposure:
        return True
    share = share_of(rollout.regions.get(attempt.cell.region), attempt.cell, attempt.habit)
    return trial_coin(rollout, attempt.vehicle_id) < selection.threshold(share)


def share_of(progress: RegionProgress | None, cell: Cell, habit: Habit) -> float:
    """Part of the attempts of a cell and habit that is in the trial now.

    Behind the last wave nobody is: it waits for those that it has. Who calls seldom is only where all are and another
    takes its place: it could lose weeks, and its silence says little.

    Args:
        progress: Of the cell's region; None when the rollout has none.
        cell: Which.
        habit: Of the vehicle.
    """
    if progress is None or progress.phase is not RegionPhase.ROLLING:
        return 0.0
    replaced = progress.trial >= 1.0 and place_key(cell.hardware, cell.cohort) in progress.openings
    return progress.trial if replaced or habit is not Habit.SELDOM else 0.0


def trial_coin(rollout: Rollout, vehicle_id: VehicleId) -> int:
    """The coin that says whether an attempt is in the trial, as a draw: the same while the rollout lasts."""
    return _coin(rollout, _TRIAL, vehicle_id)


def aside_coin(rollout: Rollout, asks: AttemptId, now: FleetTime) -> int:
    """The coin that says whether an attempt in the trial stands aside, as a draw.

    The same within one contact: who asks again because the answer was lost is told the same.
    """
    return _coin(rollout, _ASIDE, asks, now // SAME_CONTACT_MS)


def stands_aside(rollout: Rollout, attempt: Attempt, now: FleetTime) -> bool:
    """Whether an attempt that asks for its permit now is to wait as a control, if it could have it."""
    per_exposure = rollout.plan.gate.controls_per_exposure or 0
    if not per_exposure or attempt.permitted_at is not None or not is_paired(rollout, attempt):
        return False
    odds = selection.threshold(per_exposure / (1 + per_exposure))
    return aside_coin(rollout, attempt.attempt_id, now) < odds


def enrolled_at(now: FleetTime) -> FleetTime:
    """Since when an attempt that stands aside now is watched: the same within one contact."""
    return FleetTime(now // SAME_CONTACT_MS * SAME_CONTACT_MS)


def control_of(rollout: Rollout, attempt: Attempt, now: FleetTime) -> Control:
    """An attempt that stands aside, as it is watched."""
    return Control(
        rollout_id=rollout.rollout_id,
        vehicle_id=attempt.vehicle_id,
        cell=attempt.cell,
        habit=attempt.habit,
        enrolled_at=enrolled_at(now),
        checkpoints_ms=attempt.checkpoints_ms,
        habit_ages_ms=attempt.habit_ages_ms,
    )


def _coin(rollout: Rollout, *what: object) -> int:
    """Of 64 bits, as a draw."""
    return selection.draw(rollout.salt, VehicleId("\x00".join(map(str, what))))
