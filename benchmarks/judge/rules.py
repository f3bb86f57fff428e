"""The rules of other systems, as far as they decide when to stop, with one promotion rule for all.

A stage is promoted when 80 % of its quota reported success and a day has passed (hawkBit's style). None of them hears
silence.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np

from orchestrator.rehearsal import Decision, Ending, Vehicles
from orchestrator.rehearsal.counters import Counts
from orchestrator.rehearsal.fleet import DAY_H
from orchestrator.rehearsal.run import DONE_SHARE

STAGES = (0.001, 0.01, 0.1, 0.5, 1.0)
"""Cumulative ceilings."""
CHECKPOINTS_H = (24.0, 72.0)
UNLIMITED = 1 << 40
PROMOTED_SHARE = 0.8

Stops = Callable[[int, int, int, int], bool]
"""Whether to stop, from failed, succeeded, failed in the stage, and vehicles of the stage."""


class StagedRule:
    """Stages that open one after the other until a stop.

    Args:
        vehicles: The fleet.
        stops: When to stop.
    """

    checkpoints_h = CHECKPOINTS_H

    def __init__(self, vehicles: Vehicles, stops: Stops) -> None:
        self._quotas = [_quotas(vehicles, share) for share in STAGES]
        self._stops = stops
        self._stage = 0
        self._since_h = 0.0
        self._failed_before = 0
        self._succeeded_before = 0

    def decide(self, counts: Counts, now_h: float) -> Decision:
        """Stop, or promote, or neither."""
        failed, succeeded = int(counts.failed.sum()), int(counts.succeeded.sum())
        before = int(self._quotas[self._stage - 1].sum()) if self._stage else 0
        quota = int(self._quotas[self._stage].sum()) - before
        opened = self._quotas[self._stage]
        if self._stops(failed, succeeded, failed - self._failed_before, quota):
            return Decision(opened, 0, ending=Ending.HALTED)
        if self._stage == len(STAGES) - 1:
            # Everybody has called after a fortnight, and whoever went into a garage then is back after four weeks.
            done = now_h - self._since_h > 28 * DAY_H or succeeded >= DONE_SHARE * int(opened.sum())
            return Decision(opened, UNLIMITED, ending=Ending.COMPLETED if done else None)
        if succeeded - self._succeeded_before >= PROMOTED_SHARE * quota and now_h - self._since_h >= DAY_H:
            self._stage, self._since_h = self._stage + 1, now_h
            self._failed_before, self._succeeded_before = failed, succeeded
        return Decision(self._quotas[self._stage], UNLIMITED)


def aws(limit: float, executed_min: int = 100) -> Stops:
    """AWS IoT Jobs, abort criterion FAILED: a raw ratio of what was executed, looked at continuously."""
    return lambda failed, succeeded, _stage_failed, _stage_size: (
        failed + succeeded >= executed_min and failed >= limit * (failed + succeeded)
    )


def hawkbit(limit: float) -> Stops:
    """HawkBit's error condition: errors of the group against the whole group, silent and absent vehicles included."""
    return lambda _failed, _succeeded, stage_failed, stage_size: stage_failed > limit * stage_size


def wilson(limit: float) -> Stops:
    """The lower end of Wilson's interval, one-sided 95 %, looked at continuously."""
    return lambda failed, succeeded, _stage_failed, _stage_size: wilson_lower(failed, failed + succeeded) > limit


def wilson_lower(hits: int, trials: int) -> float:
    """Lower end of Wilson's score interval, one-sided 95 %; 0 without trials."""
    if trials == 0:
        return 0.0
    z, rate = 1.645, hits / trials
    spread = z * sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    return (rate + z * z / (2 * trials) - spread) / (1 + z * z / trials)


def _quotas(vehicles: Vehicles, share: float) -> np.typing.NDArray[np.int64]:
    return np.array([round(share * vehicles.size(cell)) for cell in range(len(vehicles.cells))], dtype=np.int64)
