"""Attempts that are over and of which nothing is due, as their vehicle's hot record keeps them.

Most of an attempt was given to it by the plan and by its vehicle's place: release, cell, deadlines, ages, habit. That
is kept once a shard, in a *frame* under a number, as shapes are (`inventory`). A vehicle keeps the number and what is
its attempt's own, times as differences. Written by `functions/ended.lua`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from orchestrator.model.attempt import LIVE_STATES, TERMINAL_STATES, Attempt, AttemptState, Try
from orchestrator.model.fleet import Cell, Habit
from orchestrator.model.ids import FleetTime, ReleaseVersion, RolloutId, VehicleId, attempt_id, split_attempt_id
from orchestrator.store.redis.packing import unpack

FRAME = (
    "schema",
    "rollout_id",
    "release",
    "region",
    "hardware",
    "cohort",
    "deadlines",
    "checkpoints",
    "habit",
    "habit_ages",
    "from",  # fleet time from which its attempts count
)
"""Of a frame; what an attempt has as well is called as there."""
ENDED = (
    "frame",  # its number
    "granted",  # milliseconds after the frame's time
    "permitted",  # after the grant; false when it never was
    "entered",  # its state, after the permit, or else the grant
    "state",  # place in OVER_ORDER, from 1
    "epoch",
    "number",
    "flags",  # bits from the lowest: not paired, grant_silent, diagnosed, safety, then silent by checkpoint and by age
    "failure_code",
    "offline",
)
"""Of an ended attempt. Every age was reached where it had a permit, or it would not be there."""
LIVE_ORDER = tuple(state for state in AttemptState if state in LIVE_STATES)
"""Position of each live state in an attempt's deadlines."""
OVER_ORDER = tuple(state for state in AttemptState if state in TERMINAL_STATES)
"""Numbers of the states in which an attempt is over. What is added goes to the end."""


class _Frame(NamedTuple):
    rollout_id: RolloutId
    release: ReleaseVersion
    cell: Cell
    deadlines_ms: Mapping[AttemptState, int]
    checkpoints_ms: tuple[int, ...]
    habit: Habit
    habit_ages_ms: tuple[int, ...]
    counted_from: int


def ended_attempts(
    vehicle_id: VehicleId, ended: Sequence[Sequence[Any]], frames: Mapping[int, bytes]
) -> Iterator[Attempt]:
    """The attempts that a vehicle's hot record keeps.

    Args:
        vehicle_id: Of the vehicle.
        ended: The field of its record.
        frames: By number, packed; all that these name.

    Raises:
        StoreRefusedError: a frame is of another schema.
    """
    for each in ended:
        yield _attempt(vehicle_id, _frame(frames[each[0]]), each)


def ended_attempt(
    vehicle_id: VehicleId, wanted: str, ended: Sequence[Sequence[Any]], frames: Mapping[int, bytes]
) -> Attempt | None:
    """The one of them with this id; None where it is not among them."""
    parts = split_attempt_id(wanted)
    for each in ended if parts else ():
        frame = _frame(frames[each[0]])
        if (frame.rollout_id, vehicle_id, each[6]) == parts:
            return _attempt(vehicle_id, frame, each)
    return None


def ended_tries(ended: Sequence[Sequence[Any]], frames: Mapping[int, bytes]) -> dict[RolloutId, Try]:
    """What they say of the latest attempt at each rollout; no more is unpacked, as every call of a vehicle asks."""
    found: dict[RolloutId, Try] = {}
    for number, granted, permitted, entered, state, _, attempt_number, _, failure_code, _ in ended:
        frame = _frame(frames[number])
        known = found.get(frame.rollout_id)
        if known is None or known.number < attempt_number:
            found[frame.rollout_id] = Try(
                number=attempt_number,
                state=OVER_ORDER[state - 1],
                state_at=FleetTime(frame.counted_from + granted + (permitted or 0) + entered),
                exposed=permitted is not False,
                failure_code=failure_code,
            )
    return found


def _attempt(vehicle_id: VehicleId, frame: _Frame, ended: Sequence[Any]) -> Attempt:
    _, granted, permitted, entered, state, epoch, number, flags, failure_code, offline_ms = ended
    granted_at = frame.counted_from + granted
    permitted_at = None if permitted is False else granted_at + permitted
    exposed = permitted_at is not None
    ages, habit_ages = len(frame.checkpoints_ms), len(frame.habit_ages_ms) if exposed else 0
    bits = [bool(flags >> place & 1) for place in range(4 + ages + habit_ages)]
    return Attempt(
        attempt_id=attempt_id(frame.rollout_id, vehicle_id, number),
        rollout_id=frame.rollout_id,
        vehicle_id=vehicle_id,
        number=number,
        release=frame.release,
        cell=frame.cell,
        epoch=epoch,
        state=OVER_ORDER[state - 1],
        state_at=FleetTime((granted_at if permitted_at is None else permitted_at) + entered),
        deadline_at=None,
        granted_at=FleetTime(granted_at),
        permitted_at=None if permitted_at is None else FleetTime(permitted_at),
        failure_code=failure_code,
        deadlines_ms=frame.deadlines_ms,
        checkpoints_ms=frame.checkpoints_ms,
        aged=(exposed,) * ages,
        silent=tuple(bits[4 : 4 + ages]),
        habit=frame.habit,
        habit_ages_ms=frame.habit_ages_ms,
        habit_aged=(True,) * habit_ages,
        habit_silent=tuple(bits[4 + ages :]),
        grant_aged=bool(frame.checkpoints_ms),
        paired=not bits[0],
        grant_silent=bits[1],
        diagnosed=bits[2],
        safety=bits[3],
        offline_ms=offline_ms,
    )


@lru_cache(maxsize=4096)
def _frame(data: bytes) -> _Frame:
    """Frames are few and read at every call."""
    _, rollout_id, release, region, hardware, cohort, deadlines, checkpoints, habit, habit_ages, counted_from = unpack(
        data, FRAME
    )
    # None, as a cache takes False and 0 for the same.
    set_ms = tuple([None if length is False else length for length in deadlines])
    deadlines_ms, checkpoints_ms, habit_ages_ms = _lengths(set_ms, tuple(checkpoints), tuple(habit_ages))
    return _Frame(
        rollout_id=RolloutId(sys.intern(rollout_id)),
        release=ReleaseVersion(sys.intern(release)),
        cell=_cell(region, hardware, cohort),
        deadlines_ms=deadlines_ms,
        checkpoints_ms=checkpoints_ms,
        habit=Habit(habit),
        habit_ages_ms=habit_ages_ms,
        counted_from=counted_from,
    )


@lru_cache(maxsize=1024)
def _cell(region: str, hardware: str, cohort: str) -> Cell:
    """Every rollout has frames in the same cells."""
    return Cell(region=region, hardware=hardware, cohort=cohort)


@lru_cache(maxsize=1024)
def _lengths(
    deadlines: tuple[int | None, ...], checkpoints: tuple[int, ...], habit_ages: tuple[int, ...]
) -> tuple[Mapping[AttemptState, int], tuple[int, ...], tuple[int, ...]]:
    """What the frames of a rollout have of its plan, once."""
    kept = {state: length for state, length in zip(LIVE_ORDER, deadlines, strict=True) if length is not None}
    return MappingProxyType(kept), checkpoints, habit_ages
