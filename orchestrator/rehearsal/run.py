"""One rollout over a modelled fleet, in virtual time: looks, calls, exposures, until it is through or stopped.

Owns the loop. What is decided at a look is a `Rule`'s matter, what vehicles do is theirs (`vehicles`), what is counted
the counters'. A look comes every `step_h`; between two looks vehicles call in the order of their calls, and as many are
exposed as the rule left room for.

Controls are made by a coin at the permit where a rule says so (`Trial`). Otherwise they mirror the exposures: vehicles
whose draws come next are enrolled when they call, in each group (cell x habit) as many as exposures, each at most once
while its stage lasts.

Windows and outages are the roads' matter. Not modelled: downloads (a call is the call at which a vehicle asks for its
permit), owners and conditions, retries, rollouts that want the same vehicle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np

from orchestrator.engine.controls import HEARD_AFTER_MS
from orchestrator.engine.habits import SAME_CONTACT_MS
from orchestrator.rehearsal.calls import Calls
from orchestrator.rehearsal.caps import Cap, ranks, within
from orchestrator.rehearsal.counters import Counters, Counts
from orchestrator.rehearsal.fleet import DAY_H
from orchestrator.rehearsal.roads import Roads
from orchestrator.rehearsal.vehicles import (
    Bools,
    Floats,
    Ints,
    Vehicles,
    control_silence,
    heard_after,
)

DONE_SHARE = 0.95
"""Part of the fleet with which a rollout counts as done."""
CONTACT_H = SAME_CONTACT_MS / 3_600_000
"""Calls within it are one."""
DEFERRED_H = 14 * DAY_H
"""Within which who stands aside has to call again, by the default plan; then its attempt is over."""
ASKS_AGAIN_H = HEARD_AFTER_MS / 3_600_000
"""After which who stood aside asks again, at the earliest."""
_OUT, _MAY_BEGIN, _EXPOSED, _MIRROR = range(4)


class Ending(StrEnum):
    """How a run ended."""

    COMPLETED = "completed"
    HALTED = "halted"
    HELD = "held"
    """A hold that needs a person."""
    STALLED = "stalled"
    """Not through at the horizon, though nothing stopped it."""


@dataclass(frozen=True, slots=True)
class Trial:
    """How the engine makes controls: by a coin at the permit."""

    share: Floats
    """By group: part of those that ask now that is compared."""
    per_exposure: int
    """Controls for each exposure that is."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a rule says at a look; it stands until the next one."""

    opened: Ints
    """By cell: how many vehicles, in the order of their draws, may begin. Only rises."""
    room: int
    """Exposures that may be added in all."""
    mirrored: Ints | None = None
    """By cell: vehicles after the opened ones, in the order of their draws, that may be controls; None: none."""
    caps: tuple[Cap, ...] = ()
    """Rooms of parts: quotas, slots, halted strata."""
    ending: Ending | None = None
    """How it ended, when it did."""
    trial: Trial | None = None
    """None: controls are those mirrored, as many as exposures in each group."""


class Rule(Protocol):
    """What is judged: sees counts, decides who may begin."""

    @property
    def checkpoints_h(self) -> tuple[float, ...]:
        """Ages at which it wants silence counted."""
        ...

    def decide(self, counts: Counts, now_h: float) -> Decision:
        """Decide at a look; looks come in the order of time."""
        ...


class Witness:
    """Hears what vehicles do in a run, as it happens; this one does nothing about it."""

    def exposed(self, who: Ints, at_h: Floats, heard_h: Floats) -> None:
        """These had their permits then, and are heard so many hours later; inf when never."""

    def enrolled(self, who: Ints, at_h: Floats, heard_h: Floats) -> None:
        """These became controls; arguments as of `exposed`."""

    def refused(self, who: Ints, at_h: Floats) -> None:
        """These might begin and found no room when they called."""


@dataclass(frozen=True, slots=True)
class Point:
    """Where a run stood at a moment."""

    days: float
    exposed: int
    succeeded: int
    broken: int
    """Vehicles that the release broke, or will: those in flight and the silent ones included."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a run."""

    ending: Ending
    days: float
    """When it ended."""
    exposed: int
    failed: int
    """Vehicles that the release broke, or will: those in flight and the silent ones included."""
    failed_by_cell: tuple[int, ...]
    """The same, by cell of the fleet."""
    days_to_95: float | None
    """Until 95 % of the targeted vehicles had succeeded; None when they did not."""
    curve: tuple[Point, ...]
    """Once a day and at the end."""


class _Run:
    """The state of one run between two looks."""

    def __init__(
        self,
        vehicles: Vehicles,
        counters: Counters,
        calls: Calls,
        rng: np.random.Generator,
        roads: Roads | None,
        witness: Witness,
        coins: Callable[[Ints, Floats], Floats] | None,
    ) -> None:
        self._vehicles = vehicles
        self._counters = counters
        self._calls = calls
        self._rng = rng
        self._roads = roads
        self._witness = witness
        self._coins = coins or (lambda who, _: rng.random(len(who)))
        cells = len(vehicles.cells)
        self._opened = np.zeros(cells, dtype=np.int64)
        self._mirrored = np.zeros(cells, dtype=np.int64)
        self._standing = np.full(vehicles.model.size, _OUT, dtype=np.int8)
        self._exposed = np.zeros(vehicles.groups, dtype=np.int64)
        self._enrolled = np.zeros(vehicles.groups, dtype=np.int64)
        self._granted = np.zeros(vehicles.model.size, dtype=np.bool_)
        self._apart = np.zeros(vehicles.model.size, dtype=np.bool_)
        """Whether it was compared with no control when it asked last."""
        self._watched_until_h = np.full(vehicles.model.size, -np.inf)
        self._calls_at_h = np.full(vehicles.model.size, -np.inf)
        """When who was watched calls next, where that is known."""
        self.broken = np.zeros(cells, dtype=np.int64)
        """By cell: vehicles exposed that the release breaks."""

    def go_on(self, decision: Decision, look: int, step_h: float) -> None:
        """Let vehicles call until the next look."""
        self._open(decision, look * step_h)
        who, when_h = self._reachable(*self._calls.take(look), (look + 1) * step_h)
        standing = self._standing[who]
        asks, mirrors = standing == _MAY_BEGIN, standing == _MIRROR
        refused = self._ask(who[asks], when_h[asks], decision, (look + 1) * step_h)
        self._witness.refused(*refused)
        self._calls.refuse(*refused, (look + 1) * step_h)
        refused = self._mirror(who[mirrors], when_h[mirrors])
        self._calls.refuse(*refused, (look + 1) * step_h)

    def _reachable(self, who: Ints, when_h: Floats, next_look_h: float) -> tuple[Ints, Floats]:
        """Those that come through before the next look, in the order of their calls; the others come later."""
        if self._roads is None:
            return who, when_h
        later = self._roads.heard(who, when_h)
        asks = np.flatnonzero(self._standing[who] == _MAY_BEGIN)
        later[asks] = self._roads.may_install(who[asks], later[asks])
        now = later < next_look_h
        self._calls.postpone(who[~now], later[~now])
        order = np.argsort(later[now], kind="stable")
        return who[now][order], later[now][order]

    def _heard(self, who: Ints, at_h: Floats, after_h: Floats) -> Floats:
        """Hours until each is heard, where the roads let it through."""
        return after_h if self._roads is None else self._roads.heard(who, at_h + after_h) - at_h

    def _open(self, decision: Decision, now_h: float) -> None:
        vehicles, opened = self._vehicles, np.maximum(self._opened, decision.opened)
        fresh = _members(vehicles, self._opened, opened)
        self._standing[fresh] = _MAY_BEGIN
        known = self._calls_at_h[fresh] > now_h
        self._calls.watch(fresh[~known], now_h)
        self._calls.postpone(fresh[known], self._calls_at_h[fresh[known]])
        if decision.mirrored is not None and (len(fresh) or (decision.mirrored > self._mirrored).any()):
            mirrors = _members(vehicles, opened, opened + decision.mirrored)
            # Who is watched still is watched once, as in the store.
            mirrors = mirrors[self._watched_until_h[mirrors] <= now_h]
            self._standing[mirrors] = _MIRROR
            self._calls.watch(mirrors, now_h)
            self._mirrored = decision.mirrored
        self._opened = opened

    def _ask(self, who: Ints, when_h: Floats, decision: Decision, next_look_h: float) -> tuple[Ints, Floats]:
        vehicles = self._vehicles
        aside = self._tossed(who, when_h, decision.trial)
        found = within(vehicles.group[who], decision.caps, decision.room, ~aside)
        self._stand_aside(who[found & aside], when_h[found & aside], next_look_h)
        admitted = found & ~aside
        exposed, at_h = who[admitted], when_h[admitted]
        self._standing[exposed] = _EXPOSED
        self.broken += np.bincount(vehicles.cell[exposed[vehicles.fails[exposed]]], minlength=len(self.broken))
        groups = vehicles.group[exposed]
        heard_h = self._heard(exposed, at_h, heard_after(vehicles, exposed, at_h))
        self._counters.expose(groups, at_h, heard_h, vehicles.fails[exposed], self._apart[exposed])
        self._grant(exposed, at_h)
        self._witness.exposed(exposed, at_h, heard_h)
        self._exposed += np.bincount(groups, minlength=vehicles.groups)
        return who[~found], when_h[~found]

    def _tossed(self, who: Ints, when_h: Floats, trial: Trial | None) -> Bools:
        """Who would stand aside, if it found room."""
        if trial is None or not trial.per_exposure:
            return np.zeros(len(who), dtype=np.bool_)
        self._apart[who] = self._vehicles.coin[who] >= trial.share[self._vehicles.group[who]]
        odds = trial.per_exposure / (1 + trial.per_exposure)
        aside: Bools = ~self._apart[who] & (self._coins(who, when_h) < odds)
        return aside

    def _stand_aside(self, controls: Ints, at_h: Floats, next_look_h: float) -> None:
        """These could have their permits and wait for their next call instead, as controls."""
        heard_h = self._heard(controls, at_h, control_silence(self._vehicles, controls, at_h, self._rng))
        # A watch begins with the contact, as the service has it.
        since_h = np.floor(at_h / CONTACT_H) * CONTACT_H
        self._counters.enrol(self._vehicles.group[controls], since_h, at_h + heard_h - since_h)
        self._grant(controls, at_h)
        self._witness.enrolled(controls, at_h, heard_h)
        late = heard_h > DEFERRED_H
        self._counters.lapse(self._vehicles.group[controls[late]], at_h[late] + DEFERRED_H)
        self._calls.postpone(controls, np.maximum(at_h + np.maximum(heard_h, ASKS_AGAIN_H), next_look_h))

    def _grant(self, who: Ints, at_h: Floats) -> None:
        fresh = ~self._granted[who]
        self._granted[who] = True
        self._counters.grant(self._vehicles.group[who[fresh]], at_h[fresh])

    def _mirror(self, who: Ints, when_h: Floats) -> tuple[Ints, Floats]:
        groups = self._vehicles.group[who]
        enrolled = ranks(groups) < self._exposed[groups] - self._enrolled[groups]
        controls, at_h = who[enrolled], when_h[enrolled]
        self._standing[controls] = _OUT
        self._watched_until_h[controls] = at_h + self._counters.last_age_h
        self._enrolled += np.bincount(groups[enrolled], minlength=self._vehicles.groups)
        heard_h = self._heard(controls, at_h, control_silence(self._vehicles, controls, at_h, self._rng))
        if not self._vehicles.model.delays.stays_in_touch:
            # The call by which it is heard is the one at which it may begin, if its turn comes meanwhile.
            self._calls_at_h[controls] = at_h + heard_h
        self._counters.enrol(groups[enrolled], at_h, heard_h)
        self._witness.enrolled(controls, at_h, heard_h)
        return who[~enrolled], when_h[~enrolled]


def run(
    vehicles: Vehicles,
    rule: Rule,
    *,
    seed: int,
    step_h: float = 1.0,
    horizon_h: float = 60 * DAY_H,
    deadline_h: float = 27.0,
    roads: Roads | None = None,
    progress: Callable[[float], None] = lambda _: None,
    witness: Witness | None = None,
    coins: Callable[[Ints, Floats], Floats] | None = None,
) -> Outcome:
    """Run a rollout to its end.

    Args:
        vehicles: The fleet, under a release.
        rule: Decides; used up by the run.
        seed: Of what depends on the moment: calls after refusals, controls.
        step_h: Between two looks.
        horizon_h: When to give up.
        deadline_h: Age at which an exposure that is not heard of loses its slot.
        roads: When vehicles can be reached; None: at any time.
        progress: Told the virtual hour of each look.
        witness: Hears what vehicles do; None: nobody does.
        coins: Of those that ask for a permit at a time, within [0, 1): the low ones stand aside; None: drawn.
    """
    rng = np.random.default_rng([seed, 1])
    counters = Counters(
        groups=vehicles.groups,
        checkpoints_h=rule.checkpoints_h,
        deadline_h=deadline_h,
        step_h=step_h,
        horizon_h=horizon_h,
        put_off=None if roads is None else roads.checkpoint,
    )
    fleet = _Run(vehicles, counters, Calls(vehicles, step_h, rng), rng, roads, witness or Witness(), coins)
    days_to_95, curve, ending = None, [], Ending.STALLED
    looks = int(horizon_h / step_h)
    for look in range(looks + 1):
        now_h = look * step_h
        progress(now_h)
        counts = counters.look(look)
        done = int(counts.succeeded.sum())
        if days_to_95 is None and done >= DONE_SHARE * vehicles.model.size:
            days_to_95 = now_h / DAY_H
        decision = rule.decide(counts, now_h)
        ending = decision.ending or ending
        if look % max(1, int(DAY_H / step_h)) == 0 or decision.ending or look == looks:
            curve.append(Point(now_h / DAY_H, int(counts.exposed.sum()), done, int(fleet.broken.sum())))
        if decision.ending:
            break
        fleet.go_on(decision, look, step_h)
    last, by_cell = curve[-1], tuple(fleet.broken.tolist())
    return Outcome(ending, last.days, last.exposed, last.broken, by_cell, days_to_95, tuple(curve))


def _members(vehicles: Vehicles, low: Ints, high: Ints) -> Ints:
    """Vehicles by cell from the `low`-th draw to before the `high`-th."""
    parts = [
        vehicles.by_draw[start + first : min(start + last, end)]
        for start, end, first, last in zip(vehicles.cell_start[:-1], vehicles.cell_start[1:], low, high, strict=True)
        if last > first
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
