"""Controls as the stores keep them: who is watched, and what was seen at each age. One statement for both stores."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.model.attempt import Control
from orchestrator.model.fleet import Cell, Habit


@dataclass(frozen=True, slots=True)
class Watched:
    """The record of one control. It stays when the watch is over: counters are recounted from it."""

    control: Control
    aged: tuple[bool, ...]
    """By checkpoint: whether it was reached, and the vehicle still in the inventory."""
    silent: tuple[bool, ...]
    """By checkpoint: whether the vehicle had not called since, but for the contact at which it asked; frozen."""
    habit_aged: tuple[bool, ...]
    """By age of its habit, as `aged`."""
    habit_silent: tuple[bool, ...]
    """By age of its habit, as `silent`."""

    @property
    def cell(self) -> Cell:
        """Where it is counted."""
        return self.control.cell

    @property
    def habit(self) -> Habit:
        """Of the vehicle at its enrolment."""
        return self.control.habit

    @property
    def habit_ages_ms(self) -> tuple[int, ...]:
        """Of its habit."""
        return self.control.habit_ages_ms


def begun(control: Control) -> Watched:
    """The record at the enrolment."""
    checkpoints, early = (False,) * len(control.checkpoints_ms), (False,) * len(control.habit_ages_ms)
    return Watched(control, aged=checkpoints, silent=checkpoints, habit_aged=early, habit_silent=early)


def control_name(control: Control) -> str:
    """One watch of one vehicle, `<rollout id>|<vehicle id>|<enrolled at>`; several of one vehicle may overlap."""
    return f"{control.rollout_id}|{control.vehicle_id}|{control.enrolled_at}"
