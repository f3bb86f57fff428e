"""Calls: which vehicles of a modelled fleet call between two looks, in the order of their calls.

Owns the book of who calls next and when. When a vehicle calls is its own matter (`vehicles`), what is made of a call
that of the run.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from orchestrator.rehearsal.vehicles import Floats, Ints, Vehicles, first_calls, next_calls


class Calls:
    """Who calls when: vehicles by the look before which they call next.

    Args:
        vehicles: The fleet.
        step_h: Between two looks.
        rng: Of the run.
    """

    def __init__(self, vehicles: Vehicles, step_h: float, rng: np.random.Generator) -> None:
        self._vehicles = vehicles
        self._step_h = step_h
        self._rng = rng
        self._due: defaultdict[int, list[tuple[Ints, Floats]]] = defaultdict(list)
        self._next_h = np.full(vehicles.model.size, np.nan)
        self._earliest = 0

    def watch(self, who: Ints, now_h: float) -> None:
        """From now on these are asked when they call."""
        self._add(who, first_calls(self._vehicles, who, now_h, self._rng))

    def refuse(self, who: Ints, when_h: Floats, next_look_h: float) -> None:
        """These found no room when they called: they call again."""
        if self._vehicles.model.waits_when_refused:
            self._add(who, np.full(len(who), next_look_h))
        else:
            z, u = self._rng.standard_normal(len(who)), self._rng.random(len(who))
            self._add(who, np.maximum(next_look_h, next_calls(self._vehicles, who, when_h, z, u)))

    def postpone(self, who: Ints, when_h: Floats) -> None:
        """These come later than they would; never, where it is inf."""
        self._add(who[np.isfinite(when_h)], when_h[np.isfinite(when_h)])

    def take(self, look: int) -> tuple[Ints, Floats]:
        """Who calls between this look and the next, in the order of the calls."""
        due, self._earliest = self._due.pop(look, []), look + 1
        if not due:
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        who, when_h = np.concatenate([one for one, _ in due]), np.concatenate([one for _, one in due])
        # Who was watched anew meanwhile has a later entry: this one no longer counts.
        valid = np.flatnonzero(self._next_h[who] == when_h)
        order = valid[np.argsort(when_h[valid], kind="stable")]
        return who[order], when_h[order]

    def _add(self, who: Ints, when_h: Floats) -> None:
        if not len(who):
            return
        self._next_h[who] = when_h
        # The moment of a look may be a rounding before it, and nobody would ask there any more.
        looks = np.maximum(np.floor(when_h / self._step_h).astype(np.int64), self._earliest)
        order = np.argsort(looks, kind="stable")
        who, when_h, looks = who[order], when_h[order], looks[order]
        bounds = np.flatnonzero(np.diff(looks)) + 1
        for start, end in zip((0, *bounds), (*bounds, len(looks)), strict=True):
            self._due[int(looks[start])].append((who[start:end], when_h[start:end]))
