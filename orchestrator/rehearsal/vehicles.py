"""Vehicles drawn from a seed, as arrays: where each belongs, how it calls, what the release would do to it.

Owns every draw that does not depend on what a rule decides, so that two rules on one seed meet the same vehicles. What
depends on the moment (the next call after now) is computed here from laws of `fleet`, with the randomness of the run.

A vehicle's habit is learnt as the store learns it: from past gaps between calls, newest first, by an exponentially
weighted mean. It is what the orchestrator may know; the true pattern is not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from orchestrator.model.fleet import Cell
from orchestrator.rehearsal.fleet import DAY_H, NIGHT_FROM_H, NIGHT_UNTIL_H, START_OF_DAY_H, FleetModel, ReleaseModel

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

HABITS = ("often", "daily", "seldom", "unknown")
"""Classes of the learnt mean gap, in the order of their codes."""
_OFTEN_MAX_H = 3.0
_DAILY_MAX_H = 36.0
_LEARNT_GAPS = 16
_LEARNT_WEIGHT = 1 / 8
_UNKNOWN_SHARE = 0.02
"""Vehicles that joined too lately to have a habit."""
_MORNING_SPREAD_H = 3.0


@dataclass(frozen=True, slots=True)
class Vehicles:
    """A fleet's vehicles; every array has one element a vehicle unless it says otherwise."""

    model: FleetModel
    cells: tuple[Cell, ...]
    cell: Ints
    """Index into `cells`."""
    draw: Floats
    """Place in the rollout, uniform in [0, 1)."""
    pattern: Ints
    """Index into the model's patterns."""
    gap_h: Floats
    """The vehicle's own typical gap."""
    fate: Floats
    """Uniform draw: the release fails those below its rate, so that a worse one fails the same vehicles and more."""
    voice: Floats
    """Uniform draw: of those that fail, the ones below the silent share never say so."""
    install_h: Floats
    """From the permit to the end of the installation."""
    word_h: Floats
    """From the permit to the word of the vehicle if it is healthy and stays in touch; inf when it is lost."""
    after_z: Floats
    """Normal draw of the gap after its permit."""
    after_u: Floats
    """Uniform draw: whether that gap is an absence, and how long."""
    coin: Floats
    """Uniform draw: the attempts of those below the trial's share are compared with controls."""
    habit: Ints
    """Learnt: index into HABITS."""
    group: Ints
    """cell x habit: `cell * len(HABITS) + habit`."""
    by_draw: Ints
    """Vehicles by cell, and by draw within it."""
    draw_by_draw: Floats
    """Draws in the order of `by_draw`."""
    cell_start: Ints
    """Where each cell begins in `by_draw`; one more than cells."""
    fails: Bools
    """What the release does to it, once there is one."""
    silent: Bools
    """Whether nothing is heard of that."""

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return len(self.cells) * len(HABITS)

    def drawn(self, cell: int, share: float) -> int:
        """Vehicles of a cell whose draw is below a share."""
        draws = self.draw_by_draw[self.cell_start[cell] : self.cell_start[cell + 1]]
        return int(np.searchsorted(draws, share, side="left"))

    def size(self, cell: int) -> int:
        """Vehicles of a cell."""
        return int(self.cell_start[cell + 1] - self.cell_start[cell])

    def under(self, release: ReleaseModel) -> Vehicles:
        """The same vehicles, met by a release."""
        rates = np.array([release.rate(one) for one in self.cells])
        fails = self.fate < rates[self.cell]
        return replace(self, fails=fails, silent=fails & (self.voice < release.silent_share))


def draw_vehicles(
    model: FleetModel,
    seed: int,
    *,
    cell: Ints | None = None,
    draw: Floats | None = None,
    coin: Floats | None = None,
) -> Vehicles:
    """Draw a fleet: the same seed draws the same vehicles. No release has met them yet: none fails.

    Args:
        model: The fleet.
        seed: Any number.
        cell: By vehicle, index into the model's cells; None: drawn by their shares.
        draw: By vehicle, its place in the rollout; None: drawn.
        coin: By vehicle, whether its attempt is compared, see `Vehicles`; None: drawn.
    """
    rng = np.random.default_rng([seed, 0])
    size = model.size
    drawn = _choose(rng, np.array([share for _, share in model.cells]), size), rng.random(size)
    cell, draw = drawn[0] if cell is None else cell, drawn[1] if draw is None else draw
    pattern = _choose(rng, np.array([one.share for one in model.patterns]), size)
    gap_h = _of(model, "gap_h")[pattern] * np.exp(_of(model, "spread")[pattern] * rng.standard_normal(size))
    install_h, word_h = _installs(model, rng)
    by_draw = np.lexsort((draw, cell))
    none, nowhere = np.zeros(size, dtype=np.bool_), np.zeros(0, dtype=np.int64)
    vehicles = Vehicles(
        model=model,
        cells=tuple(cell for cell, _ in model.cells),
        cell=cell,
        draw=draw,
        pattern=pattern,
        gap_h=gap_h,
        fate=rng.random(size),
        voice=rng.random(size),
        install_h=install_h,
        word_h=word_h,
        after_z=rng.standard_normal(size),
        after_u=rng.random(size),
        coin=np.zeros(0),
        habit=nowhere,
        group=nowhere,
        by_draw=by_draw,
        draw_by_draw=draw[by_draw],
        cell_start=np.searchsorted(cell[by_draw], np.arange(len(model.cells) + 1)),
        fails=none,
        silent=none,
    )
    habit = _learnt(vehicles, rng)
    coin = rng.random(size) if coin is None else coin
    return replace(vehicles, coin=coin, habit=habit, group=cell * len(HABITS) + habit)


def first_calls(vehicles: Vehicles, who: Ints, now_h: float, rng: np.random.Generator) -> Floats:
    """When vehicles call for the first time after a moment that has nothing to do with their calls.

    The waiting time of a renewal process in its steady state: long gaps are met more often than short ones.
    """
    model, pattern = vehicles.model, vehicles.pattern[who]
    scatter, absences = _of(model, "scatter")[pattern], _of(model, "absence_share")[pattern]
    typical = vehicles.gap_h[who]
    mean = typical * np.exp(scatter**2 / 2)
    away_mean = absences * model.delays.garage_max_h / 2
    away = rng.random(len(who)) < away_mean / ((1 - absences) * mean + away_mean)
    usual = typical * np.exp(scatter**2 + scatter * rng.standard_normal(len(who)))
    length = np.where(away, model.delays.garage_max_h * np.sqrt(rng.random(len(who))), usual)
    return _awake(model, pattern, now_h + rng.random(len(who)) * length, rng.random(len(who)))


def next_calls(vehicles: Vehicles, who: Ints, called_h: Floats, z: Floats, u: Floats) -> Floats:
    """When vehicles call again after a call.

    Args:
        vehicles: The fleet.
        who: Which of them.
        called_h: When each called.
        z: Normal draws, one each.
        u: Uniform draws, one each: below the pattern's share of absences it is one, and where it lies there its length.
    """
    model, pattern = vehicles.model, vehicles.pattern[who]
    absences = _of(model, "absence_share")[pattern]
    usual = vehicles.gap_h[who] * np.exp(_of(model, "scatter")[pattern] * z)
    with np.errstate(divide="ignore", invalid="ignore"):
        away = np.where(u < absences, u / absences * model.delays.garage_max_h, 0.0)
        rest = np.where(u < absences, u / absences, (u - absences) / (1 - absences))
    return _awake(model, pattern, called_h + np.where(u < absences, away, usual), rest)


def heard_after(vehicles: Vehicles, who: Ints, exposed_h: Floats) -> Floats:
    """Hours from each vehicle's permit to its own word about the outcome; inf when none comes."""
    healthy = vehicles.word_h[who]
    broken = vehicles.install_h[who]
    if not vehicles.model.delays.stays_in_touch:
        gap_h = next_calls(vehicles, who, exposed_h, vehicles.after_z[who], vehicles.after_u[who]) - exposed_h
        healthy, broken = np.maximum(healthy, gap_h), np.maximum(broken, gap_h)
    return np.where(vehicles.silent[who], np.inf, np.where(vehicles.fails[who], broken, healthy))


def control_silence(vehicles: Vehicles, who: Ints, called_h: Floats, rng: np.random.Generator) -> Floats:
    """Hours until controls are heard again, which installed nothing: as healthy vehicles after a permit."""
    if vehicles.model.delays.stays_in_touch:
        return _words(vehicles.model, len(who), rng)
    return next_calls(vehicles, who, called_h, rng.standard_normal(len(who)), rng.random(len(who))) - called_h


def _choose(rng: np.random.Generator, shares: Floats, size: int) -> Ints:
    bounds = np.cumsum(shares)[:-1] / shares.sum()
    return np.searchsorted(bounds, rng.random(size), side="right").astype(np.int64)


def _of(model: FleetModel, name: str) -> Floats:
    return np.array([float(getattr(pattern, name)) for pattern in model.patterns])


def _words(model: FleetModel, count: int, rng: np.random.Generator) -> Floats:
    """Hours to the word of healthy vehicles that stay in touch, but for garages and losses."""
    delays = model.delays
    words = delays.install_median_h * np.exp(delays.install_sigma * rng.standard_normal(count))
    fate = rng.random(count)
    words += np.where(fate < delays.garage_share, rng.random(count) * delays.garage_max_h, 0.0)
    return np.where(fate > 1.0 - delays.lost_share, np.inf, words)


def _installs(model: FleetModel, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Hours that installs take, and to the word of a healthy vehicle, garage and loss included."""
    delays = model.delays
    installs = delays.install_median_h * np.exp(delays.install_sigma * rng.standard_normal(model.size))
    fate = rng.random(model.size)
    words = installs + np.where(fate < delays.garage_share, rng.random(model.size) * delays.garage_max_h, 0.0)
    return installs, np.where(fate > 1.0 - delays.lost_share, np.inf, words)


def _awake(model: FleetModel, pattern: Ints, when_h: Floats, rest: Floats) -> Floats:
    """Calls at night come in the morning instead, where the pattern sleeps."""
    if not any(one.sleeps for one in model.patterns):
        return when_h
    since_evening = (when_h + START_OF_DAY_H - NIGHT_FROM_H) % DAY_H
    night = (NIGHT_UNTIL_H - NIGHT_FROM_H) % DAY_H
    asleep = (since_evening < night) & (_of(model, "sleeps")[pattern] > 0)
    return np.where(asleep, when_h - since_evening + night + rest * _MORNING_SPREAD_H, when_h)


def _learnt(vehicles: Vehicles, rng: np.random.Generator) -> Ints:
    """The habits that the store would have learnt from the calls before the rollout."""
    size = vehicles.model.size
    who = np.arange(size)
    if any(one.scatter or one.absence_share for one in vehicles.model.patterns):
        now_h = first_calls(vehicles, who, -_LEARNT_GAPS * DAY_H, rng)
        mean = np.zeros(size)
        for number in range(_LEARNT_GAPS):
            then_h = next_calls(vehicles, who, now_h, rng.standard_normal(size), rng.random(size))
            mean += (then_h - now_h - mean) * (_LEARNT_WEIGHT if number else 1.0)
            now_h = then_h
    else:
        mean = vehicles.gap_h
    habit = np.searchsorted((_OFTEN_MAX_H, _DAILY_MAX_H), mean, side="left")
    return np.where(rng.random(size) < _UNKNOWN_SHARE, HABITS.index("unknown"), habit).astype(np.int64)
