"""The engine as a rule of a run: the same gate, the same steps, the same waves as the service has.

Owns the way between a run's arrays and the engine's values: counts become tallies, fleet time starts at a given moment,
what the rollout's waves open becomes numbers of vehicles by draw. Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from orchestrator.engine import controls, waves
from orchestrator.engine.gates import judge_rollout
from orchestrator.engine.habits import ages_of
from orchestrator.engine.progress import Event, Illegal, Judged, start, step
from orchestrator.model.attempt import AttemptState
from orchestrator.model.fleet import Cell, Habit, HabitAge
from orchestrator.model.ids import FleetTime, RolloutId
from orchestrator.model.plan import Plan, RegionRules
from orchestrator.model.rollout import RegionPhase, Rollout, RolloutStatus, Verdict, place_key
from orchestrator.model.tally import AgeGroup, Tally
from orchestrator.rehearsal.counters import Counts
from orchestrator.rehearsal.rooms import Rooms
from orchestrator.rehearsal.run import Decision, Ending, Trial
from orchestrator.rehearsal.vehicles import HABITS, Vehicles

HOUR_MS = 3_600_000
STEPS_MAX = 8
"""Steps of the engine at one look; the service makes one a second."""
_STARTED = FleetTime(1_767_258_000_000)
"""2026-01-01T09:00:00Z."""


class EngineRule:
    """The engine, for one run.

    Args:
        vehicles: The fleet.
        plan: Of the rollout; its blast budget filled in.
        step_h: Between two looks.
        started_at: Fleet time of the start.
    """

    def __init__(self, vehicles: Vehicles, plan: Plan, *, step_h: float, started_at: FleetTime = _STARTED) -> None:
        self._vehicles = vehicles
        self._step_h = step_h
        self._started_at = started_at
        self._ages_ms = _ages_ms(plan)
        self.rollout = _started(plan, vehicles, started_at)
        self.verdicts: tuple[Verdict, ...] = ()
        """Of the last look."""
        self._rooms = Rooms(self.rollout, vehicles, step_h)

    @property
    def checkpoints_h(self) -> tuple[float, ...]:
        """The plan's checkpoints and the ages of habits."""
        return tuple(age_ms / HOUR_MS for age_ms in self._ages_ms)

    def decide(self, counts: Counts, now_h: float) -> Decision:
        """Judge and step, as the evaluator does."""
        now = FleetTime(self._started_at + round(now_h * HOUR_MS))
        cells = self.tallies(counts)
        waiting = self._waiting(counts)
        ceiling = 0
        for _ in range(STEPS_MAX):
            judgement = judge_rollout(self.rollout, cells, waiting, now)
            self.verdicts, ceiling = judgement.verdicts, judgement.permit_ceiling
            event = Judged(judgement=judgement, cells=cells, waiting=waiting, dark=self.dark(now_h))
            if not (self.take(event, now) or self.people(event, now)):
                break
        return self._decision(counts, ceiling, now)

    def take(self, event: Event, now: FleetTime) -> bool:
        """Make a step of an event; whether it changed the rollout."""
        moved = step(self.rollout, event, now)
        if isinstance(moved, Illegal) or not moved.changed:
            return False
        self.rollout = moved.rollout
        return True

    def people(self, event: Judged, now: FleetTime) -> bool:
        """Let people do what the rollout waits for; whether that changed it. Nobody is here."""
        return False

    def dark(self, now_h: float) -> frozenset[str]:
        """Regions that the service knows to be dark; none here."""
        return frozenset()

    def _decision(self, counts: Counts, ceiling: int, now: FleetTime) -> Decision:
        opened = np.array([self._opened(cell) for cell in range(len(self._vehicles.cells))])
        status = self.rollout.status
        if status is not RolloutStatus.RUNNING:
            ending = _ENDINGS.get(status) or self._final_hold(counts, now)
            return Decision(opened, 0, ending=ending)
        rooms = self._rooms.parts(self.rollout, counts, now)
        return Decision(opened, self._rooms.total(counts, ceiling), caps=rooms, trial=self._trial())

    def _trial(self) -> Trial:
        """As the service tosses its coins."""
        regions = self.rollout.regions
        shares = np.array(
            [
                controls.share_of(regions[cell.region], cell, Habit(habit))
                for cell in self._vehicles.cells
                for habit in HABITS
            ]
        )
        return Trial(shares, self.rollout.plan.gate.controls_per_exposure or 0)

    def _final_hold(self, counts: Counts, now: FleetTime) -> Ending | None:
        """A hold is a person's when nothing is left to learn, or when it has lasted too long."""
        rollout = self.rollout
        if rollout.status is not RolloutStatus.HELD:
            return None
        last = self._ages_ms.index(rollout.plan.gate.checkpoints_ms[-1])
        settled = int(counts.aged[last].sum()) >= int(counts.exposed.sum())
        lasted = now - rollout.updated_at >= rollout.plan.gate.hold_final_ms
        return Ending.HELD if rollout.hold_final or settled or lasted else None

    def _opened(self, cell: int) -> int:
        """Vehicles of a cell whose draw is open in the wave of its region."""
        where, plan = self._vehicles.cells[cell], self.rollout.plan
        progress = self.rollout.regions[where.region]
        if progress.phase is RegionPhase.PENDING:
            return 0
        if waves.holdout_open(progress):
            return self._vehicles.size(cell)
        share = waves.reached_share(plan, progress.wave, where.cohort)
        opening = progress.openings.get(place_key(where.hardware, where.cohort))
        # Draws are open wider than there are places: whoever calls first takes one.
        wide = min(opening.share, 1.0 - plan.holdout_share) if opening is not None else 0.0
        return self._vehicles.drawn(cell, max(share, wide))

    def _waiting(self, counts: Counts) -> Mapping[Cell, int]:
        return {
            cell: self._vehicles.size(index) - int(counts.succeeded[self._groups(index)].sum())
            for index, cell in enumerate(self._vehicles.cells)
        }

    def _groups(self, cell: int) -> slice:
        return slice(cell * len(HABITS), (cell + 1) * len(HABITS))

    def tallies(self, counts: Counts) -> dict[Cell, Tally]:
        """Counts as the store would have them."""
        cells, habits = len(self._vehicles.cells), len(HABITS)
        settled = np.stack([getattr(counts, name) for name in _SETTLED])
        marks = np.stack([getattr(counts, name) for name in _MARKS], axis=-1)
        by_habit = marks.reshape(len(self._ages_ms), cells, habits, -1)
        # Plain numbers from here: taking them out of arrays one by one is what a look would cost most.
        of_cell = settled.reshape(-1, cells, habits).sum(axis=2).T.tolist()
        pooled, apart = by_habit.sum(axis=2).tolist(), by_habit.tolist()
        return {
            cell: self._tally(cell, of_cell[index], [age[index] for age in pooled], [age[index] for age in apart])
            for index, cell in enumerate(self._vehicles.cells)
        }

    def _tally(self, cell: Cell, settled: list[int], pooled: list[list[int]], by_habit: list[list[list[int]]]) -> Tally:
        """Counters of a cell.

        Args:
            cell: Which.
            settled: As _SETTLED.
            pooled: By age, as _MARKS.
            by_habit: The same by age and habit.
        """
        exposed, succeeded, failed, in_flight, aside, lapsed = settled
        if self.rollout.regions[cell.region].closed:
            # The service would let those in that were granted before, or end their attempts; nobody waits for them.
            aside, lapsed = 0, aside + lapsed
        gate, at = self.rollout.plan.gate, self._ages_ms.index
        age_groups = tuple(AgeGroup(*pooled[at(age_ms)][:_GROUP]) for age_ms in gate.checkpoints_ms)
        first = pooled[at(gate.checkpoints_ms[0])]
        return Tally(
            before_permit={
                state: count
                for state, count in ((AttemptState.DEFERRED, aside), (AttemptState.TIMED_OUT, lapsed))
                if count
            },
            after_permit={
                AttemptState.SUCCEEDED: succeeded,
                AttemptState.FAILED: failed,
                AttemptState.INSTALLING: in_flight,
                AttemptState.TIMED_OUT: exposed - succeeded - failed - in_flight,
            },
            age_groups=age_groups,
            habit_groups={
                HabitAge(habit, age_ms): AgeGroup(*by_habit[at(age_ms)][HABITS.index(habit.value)][:_GROUP])
                for habit in Habit
                for age_ms in ages_of(gate, habit)
            },
            # Granted at the call at which a permit is asked for: who stands aside has none yet.
            grants=AgeGroup(*first[_GROUP:]),
        )


_SETTLED = ("exposed", "succeeded", "failed", "in_flight", "aside", "lapsed")
_MARKS = (
    "aged",
    "silent",
    "controls",
    "controls_silent",
    "unpaired",
    "unpaired_silent",
    "grants",
    "grants_silent",
)
"""What is counted at an age: first what makes an `AgeGroup`."""
_GROUP = 6

_ENDINGS: Mapping[RolloutStatus, Ending] = {
    RolloutStatus.HALTED: Ending.HALTED,
    RolloutStatus.COMPLETED: Ending.COMPLETED,
    RolloutStatus.ABORTED: Ending.HALTED,
}


def _ages_ms(plan: Plan) -> tuple[int, ...]:
    ages = set(plan.gate.checkpoints_ms)
    for of_habit in plan.gate.habit_ages_ms.values():
        ages.update(of_habit)
    return tuple(sorted(ages))


def _started(plan: Plan, vehicles: Vehicles, now: FleetTime) -> Rollout:
    names = sorted({cell.region for cell in vehicles.cells})
    regions: dict[str, RegionRules] = {name: plan.regions.get(name, plan.region_defaults) for name in names}
    return start(
        RolloutId("rehearsal"),
        replace(plan, regions=regions),
        "",
        bytes(16),
        regions,
        "rehearsal",
        "rehearsal",
        "",
        now,
    )
