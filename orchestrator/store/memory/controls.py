"""One shard's controls in memory: who is watched since when, and what was seen at each age.

Says in Python what `store/redis/functions/controls.lua` says in Lua.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from orchestrator.engine.controls import HEARD_AFTER_MS
from orchestrator.model.attempt import Control
from orchestrator.model.fleet import HabitAge
from orchestrator.model.ids import FleetTime, VehicleId
from orchestrator.store.base import Json
from orchestrator.store.counters import CONTROLS, CONTROLS_SILENT, checkpoint_field, habit_field
from orchestrator.store.memory.counts import RolloutCounts
from orchestrator.store.memory.due import DueSet
from orchestrator.store.memory.journal import Journal
from orchestrator.store.watched import Watched, begun, control_name


class Controls:
    """Watched vehicles.

    Args:
        journal: the shard's stream.
        due: the shard's due set.
        counts: the shard's counters.
        heard_from: whether a vehicle called at a time or later; None when it is not in the inventory.
    """

    def __init__(
        self,
        journal: Journal,
        due: DueSet,
        counts: RolloutCounts,
        heard_from: Callable[[VehicleId, FleetTime], bool | None],
    ) -> None:
        self._journal = journal
        self._due = due
        self._counts = counts
        self._heard_from = heard_from
        self.records: dict[str, Watched] = {}

    def enrol(self, control: Control) -> bool:
        """See `base.VehicleStore`; the vehicle is in the inventory."""
        name = control_name(control)
        if name in self.records:
            return False
        self.records[name] = begun(control)
        for kind, ages_ms in (("k", control.checkpoints_ms), ("l", control.habit_ages_ms)):
            for index, age_ms in enumerate(ages_ms):
                self._due.schedule(f"{kind}{index}|{name}", control.enrolled_at + age_ms)
        self._journal.append("control_enrolled", control.enrolled_at, about_control(control))
        return True

    def age(self, kind: str, index: int, name: str, now: FleetTime) -> None:
        """A control reached a checkpoint (`k`) or an age of its habit (`l`)."""
        watched = self.records[name]
        control = watched.control
        heard = self._heard_from(control.vehicle_id, FleetTime(control.enrolled_at + HEARD_AFTER_MS))
        if heard is None:
            # Who was taken out of the inventory says nothing.
            return
        if kind == "k":
            age_ms = control.checkpoints_ms[index]
            fields = [checkpoint_field(control.cell, what, index) for what in (CONTROLS, CONTROLS_SILENT)]
            watched = replace(
                watched,
                aged=with_flag(watched.aged, index, True),
                silent=with_flag(watched.silent, index, not heard),
            )
        else:
            age_ms = control.habit_ages_ms[index]
            early = HabitAge(control.habit, age_ms)
            fields = [habit_field(control.cell, what, early) for what in (CONTROLS, CONTROLS_SILENT)]
            watched = replace(
                watched,
                habit_aged=with_flag(watched.habit_aged, index, True),
                habit_silent=with_flag(watched.habit_silent, index, not heard),
            )
        self.records[name] = watched
        for field, amount in zip(fields, (1, int(not heard)), strict=True):
            self._counts.add(control.rollout_id, field, amount)
        if not heard:
            self._journal.append("control_silent", now, {**about_control(control), "age_ms": age_ms})


def about_control(control: Control) -> dict[str, Json]:
    """What every journal entry about a control says."""
    return {
        "rollout_id": control.rollout_id,
        "vehicle_id": control.vehicle_id,
        "region": control.cell.region,
        "hardware": control.cell.hardware,
        "cohort": control.cell.cohort,
        "habit": control.habit.value,
        "enrolled_at": control.enrolled_at,
    }


def with_flag(flags: tuple[bool, ...], index: int, value: bool) -> tuple[bool, ...]:
    """Flags with one of them set."""
    return (*flags[:index], value, *flags[index + 1 :])
