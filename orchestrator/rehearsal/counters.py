"""Counters of a modelled rollout: what the store would have counted by a moment.

Owns their arrays, by group (cell x habit). An exposure writes down at once what will be counted later, at the first
look that is not before it happens; a look adds up what is due. So a look costs as much as there are groups, and a
vehicle is touched once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import numpy as np

from orchestrator.rehearsal.vehicles import HABITS, Bools, Floats, Ints


@dataclass(frozen=True, slots=True)
class Counts:
    """What is known at a look; arrays are by group, those of checkpoints by checkpoint and group."""

    exposed: Ints
    succeeded: Ints
    failed: Ints
    """Explicitly."""
    in_flight: Ints
    """Exposures that still hold a slot: neither settled nor past their deadline."""
    aged: Ints
    """n_a."""
    silent: Ints
    """k_a."""
    controls: Ints
    """Controls that reached the checkpoint."""
    controls_silent: Ints
    """Of these, not heard since they were enrolled."""
    unpaired: Ints
    """Of n_a, those that are compared with no control."""
    unpaired_silent: Ints
    """Of these, silent."""
    grants: Ints
    """Grants that reached the checkpoint."""
    grants_silent: Ints
    """Of these, without a permit and not heard since."""
    aside: Ints
    """Vehicles that could have had their permit and wait for one."""
    lapsed: Ints
    """Those of them that were waited for too long."""


_SETTLED = ("succeeded", "failed", "freed", "lapsed")
_AGED = ("aged", "silent", "controls", "controls_silent", "unpaired", "unpaired_silent", "grants", "grants_silent")


class Counters:
    """Counts of one run.

    Args:
        groups: How many.
        checkpoints_h: Ages at which silence is judged.
        deadline_h: Age at which an exposure loses its slot.
        step_h: Between two looks.
        horizon_h: The last look.
        put_off: When a checkpoint of a cell is looked at that is due at a moment; None: then.
    """

    def __init__(
        self,
        *,
        groups: int,
        checkpoints_h: tuple[float, ...],
        deadline_h: float,
        step_h: float,
        horizon_h: float,
        put_off: Callable[[Ints, Floats], Floats] | None = None,
    ) -> None:
        self._groups = groups
        self._checkpoints_h = checkpoints_h
        self._deadline_h = deadline_h
        self._step_h = step_h
        self._put_off = put_off
        self._looks = ceil(horizon_h / step_h) + 1
        rows = len(_SETTLED) + len(_AGED) * len(checkpoints_h)
        self._rows = rows
        self._ages_h: Floats = np.array(checkpoints_h)[:, None]
        self._due = np.zeros((self._looks + 1) * rows * groups, dtype=np.int32)
        self._now = np.zeros((rows, groups), dtype=np.int64)
        self._exposed = np.zeros(groups, dtype=np.int64)
        self._granted = np.zeros(groups, dtype=np.int64)

    @property
    def last_age_h(self) -> float:
        """The age at which a vehicle is looked at for the last time."""
        return max(self._checkpoints_h, default=0.0)

    def look(self, number: int) -> Counts:
        """Counts at look `number`; looks are taken one after the other, from 0."""
        size = self._rows * self._groups
        self._now += self._due[number * size : (number + 1) * size].reshape(self._rows, self._groups)
        aged = self._now[len(_SETTLED) :].reshape(len(_AGED), len(self._checkpoints_h), self._groups)
        waiting = self._granted - self._exposed
        return Counts(
            exposed=self._exposed.copy(),
            succeeded=self._now[0].copy(),
            failed=self._now[1].copy(),
            in_flight=self._exposed - self._now[2],
            aside=np.maximum(0, waiting - self._now[3]),
            lapsed=np.minimum(waiting, self._now[3]),
            **{name: aged[index].copy() for index, name in enumerate(_AGED)},
        )

    def expose(self, groups: Ints, at_h: Floats, heard_h: Floats, fails: Bools, apart: Bools | None = None) -> None:
        """Count exposures.

        Args:
            groups: Of each.
            at_h: When each had its permit.
            heard_h: Hours until it is heard; inf when never.
            fails: Whether it fails.
            apart: Whether it is compared with no control; None: each is.
        """
        self._exposed += np.bincount(groups, minlength=self._groups)
        word = at_h + heard_h
        self._add(0, groups[~fails], word[~fails])
        self._add(1, groups[fails], word[fails])
        self._add(2, groups, at_h + np.minimum(heard_h, self._deadline_h))
        self._age(0, groups, at_h, heard_h)
        if apart is not None and apart.any():
            self._age(4, groups[apart], at_h[apart], heard_h[apart])

    def grant(self, groups: Ints, at_h: Floats) -> None:
        """Count vehicles that ask for the first time and find room: none is lost on the way, in this model."""
        self._granted += np.bincount(groups, minlength=self._groups)
        self._age(6, groups, at_h, np.zeros(len(groups)))

    def lapse(self, groups: Ints, when_h: Floats) -> None:
        """Count vehicles that stand aside and are waited for no longer than until a time."""
        self._add(3, groups, when_h)

    def enrol(self, groups: Ints, at_h: Floats, heard_h: Floats) -> None:
        """Count controls that were enrolled beside exposures; arguments as of `expose`."""
        self._age(2, groups, at_h, heard_h)

    def _age(self, kind: int, groups: Ints, at_h: Floats, heard_h: Floats) -> None:
        ages = len(self._checkpoints_h)
        rows = len(_SETTLED) + kind * ages + np.arange(ages)[:, None]
        # One row for each age, all at once.
        due_h = at_h + self._ages_h
        silent = heard_h > self._ages_h
        if self._put_off is not None:
            cells = groups // len(HABITS)
            due_h = np.stack([self._put_off(cells, due) for due in due_h])
            silent = at_h + heard_h > due_h
        places = self._places(rows, groups, due_h)
        np.add.at(self._due, places, 1)
        np.add.at(self._due, places[silent] + ages * self._groups, 1)

    def _add(self, row: int, groups: Ints, at_h: Floats) -> None:
        np.add.at(self._due, self._places(row, groups, at_h), 1)

    def _places(self, rows: int | Ints, groups: Ints, at_h: Floats) -> Ints:
        """Where what happens then is written down."""
        # What comes after the last look is counted in a row that nobody looks at.
        looks = np.minimum(np.ceil(at_h / self._step_h), self._looks).astype(np.int64)
        places: Ints = (looks * self._rows + rows) * self._groups + groups
        return places
