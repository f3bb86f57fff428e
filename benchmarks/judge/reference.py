"""The reference rule, PROCEED / HOLD / HALT, as a study before this code recommended it: the one to beat.

Code of its own, on SciPy: it shares no formula with the engine, and this file is where the rule stands in full. What
the study leaves open was settled so:

- stages are exact quotas per stratum, by draw, without over-opening; a vehicle of an open one may start when it calls;
- controls are as many as exposures, in each habit: vehicles whose draws come next, at their first call of the stage;
- until there are 300 controls the silence of earlier rollouts is the reference (`FleetModel.silence_known`; 5 % and
  4.3 % on the fleet of the reference's own simulation);
- promotion looks at the stage's own exposures; the holdout of 1 % is let in with the last stage.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
import numpy.typing as npt
from scipy.special import betainc

from benchmarks.judge.rules import CHECKPOINTS_H, STAGES, UNLIMITED
from orchestrator.model.fleet import Stratum
from orchestrator.rehearsal import Cap, Decision, Ending, Vehicles
from orchestrator.rehearsal.counters import Counts
from orchestrator.rehearsal.fleet import DAY_H
from orchestrator.rehearsal.vehicles import HABITS

ALPHA = 0.05
FAILURES = np.array([1.5, 2, 3, 5, 10, 25, 60])
SILENCE = np.array([1.25, 1.5, 2, 3, 5, 10, 18])
CONTROLS_MIN = 300
STRATUM_MIN = 5
FINAL_H = 7 * DAY_H


class ReferenceRule:
    """Rule 1.4.

    Args:
        vehicles: The fleet.
        limit: L.
    """

    checkpoints_h = CHECKPOINTS_H

    def __init__(self, vehicles: Vehicles, limit: float) -> None:
        self._limit = limit
        self._known = vehicles.model.silence_known
        strata = sorted({cell.stratum for cell in vehicles.cells})
        of_cell = np.array([strata.index(cell.stratum) for cell in vehicles.cells])
        self._stratum = np.repeat(of_cell, len(HABITS))
        self._strata: list[Stratum] = strata
        self._quotas = _quotas(vehicles, of_cell, len(strata))
        self._least_controls = np.array([round(0.01 * vehicles.size(cell)) for cell in range(len(vehicles.cells))])
        self._budget = max(20.0, 0.002 * vehicles.model.size)
        self._stage, self._since_h = 0, 0.0
        self._before_aged = self._before_exposed = 0
        self._held_since_h: float | None = None
        self._halted = np.zeros(len(strata), dtype=bool)

    def decide(self, counts: Counts, now_h: float) -> Decision:
        """Judge all together, then each stratum, then the budget, then promotion."""
        opened = self._quotas[self._stage]
        scopes = len(self._strata)
        if scopes > 1:
            for index in range(scopes):
                if self._evidence(counts, self._stratum == index) >= np.log(3 * scopes / ALPHA):
                    self._halted[index] = True
        everything = np.ones(len(self._stratum), dtype=bool)
        if self._evidence(counts, everything) >= np.log(3 / ALPHA) or (self._halted.sum() >= 2) or self._halted.all():
            return Decision(opened, 0, ending=Ending.HALTED)
        above = 0.6 if self._held_since_h is not None else 0.8
        doubtful = self._doubt(counts, everything) > above or (
            scopes > 1
            and any(self._doubt(counts, self._stratum == i) > above for i in range(scopes) if not self._halted[i])
        )
        if doubtful:
            return self._hold(counts, now_h, opened)
        self._held_since_h = None
        return self._go_on(counts, now_h)

    def _hold(self, counts: Counts, now_h: float, opened: npt.NDArray[np.int64]) -> Decision:
        if self._held_since_h is None:
            self._held_since_h = now_h
        final = counts.aged[1].sum() == counts.exposed.sum() or now_h - self._held_since_h >= FINAL_H
        return Decision(opened, 0, ending=Ending.HELD if final else None)

    def _go_on(self, counts: Counts, now_h: float) -> Decision:
        exposed, aged = int(counts.exposed.sum()), int(counts.aged[0].sum())
        opened = self._quotas[self._stage]
        before = int(self._quotas[self._stage - 1].sum()) if self._stage else 0
        started, quota = exposed - self._before_exposed, int(opened.sum()) - before
        last = self._stage == len(STAGES) - 1
        if last and exposed == int(opened.sum()) and counts.aged[1].sum() == exposed:
            return Decision(opened, 0, ending=Ending.COMPLETED)
        ready = started >= 0.7 * quota and aged - self._before_exposed >= 0.8 * started
        if not last and ready and now_h - self._since_h >= DAY_H:
            self._stage, self._since_h, self._before_exposed = self._stage + 1, now_h, exposed
            opened = self._quotas[self._stage]
        room = int(self._budget / self._worst(counts)) - (exposed - aged)
        halted = np.where(self._halted, 0, UNLIMITED)
        mirrored = np.maximum(opened - (self._quotas[self._stage - 1] if self._stage else 0), self._least_controls)
        return Decision(
            opened, max(0, room), mirrored, caps=(Cap(self._stratum, halted),) if self._halted.any() else ()
        )

    def _silence(self, counts: Counts, index: int) -> float:
        controls = counts.controls[index].sum()
        if controls >= CONTROLS_MIN:
            return float(counts.controls_silent[index].sum() / controls)
        return self._known[index]

    def _evidence(self, counts: Counts, scope: npt.NDArray[np.bool_]) -> float:
        values = [_log_e(counts.failed[scope].sum(), counts.exposed[scope].sum(), self._limit, FAILURES)]
        for index in range(2):
            normal = self._silence(counts, index) + self._limit
            values.append(_log_e(counts.silent[index][scope].sum(), counts.aged[index][scope].sum(), normal, SILENCE))
        return max(values)

    def _doubt(self, counts: Counts, scope: npt.NDArray[np.bool_]) -> float:
        limit = self._limit
        failed, well = counts.failed[scope].sum(), counts.succeeded[scope].sum()
        values = [1 - betainc(0.25 + failed, 0.25 * (2 / limit - 1) + well, limit)]
        for index in range(2):
            normal = self._silence(counts, index)
            silent, aged = counts.silent[index][scope].sum(), counts.aged[index][scope].sum()
            values.append(1 - betainc(100 * normal + silent, 100 * (1 - normal) + aged - silent, normal + limit))
        return float(max(values))

    def _worst(self, counts: Counts) -> float:
        aged, silent = int(counts.aged[0].sum()), int(counts.silent[0].sum())
        if aged < 20:
            return 1.0
        unusual = _wilson_upper(silent, aged) - self._silence(counts, 0)
        return _wilson_upper(min(aged, int(counts.failed.sum())), aged) + max(0.0, unusual)


def _log_e(hits: int, trials: int, limit: float, grid: npt.NDArray[np.float64]) -> float:
    rates = limit * grid[limit * grid < 0.97]
    logs = hits * np.log(rates / limit) + (trials - hits) * (np.log1p(-rates) - np.log1p(-limit))
    return float(np.logaddexp.reduce(logs) - np.log(len(rates)))


def _wilson_upper(hits: int, trials: int) -> float:
    z, rate = 1.645, hits / trials
    spread = z * sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    return (rate + z * z / (2 * trials) + spread) / (1 + z * z / trials)


def _quotas(vehicles: Vehicles, of_cell: npt.NDArray[np.int64], strata: int) -> list[npt.NDArray[np.int64]]:
    """By stage and cell: how many are open; in the first stage at least STRATUM_MIN of each stratum, 100 in all."""
    sizes = np.array([vehicles.size(cell) for cell in range(len(vehicles.cells))], dtype=np.int64)
    in_stratum = np.bincount(of_cell, weights=sizes, minlength=strata)[of_cell]
    least = np.ceil(STRATUM_MIN * sizes / np.maximum(in_stratum, 1))
    stages = []
    for number, share in enumerate(STAGES):
        share_or_100 = max(share, 100 / sizes.sum()) if number == 0 else share
        stages.append(np.minimum(sizes, np.maximum(np.round(share_or_100 * sizes), least)).astype(np.int64))
    return stages
