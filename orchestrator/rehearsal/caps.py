"""Caps: who of those that call in a step of virtual time finds room, first come, first served.

Owns the answer for many vehicles at once, exactly as if they had asked one after the other: who is refused for want of
one room takes none of another. How much room there is, is the matter of the rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.rehearsal.vehicles import Bools, Ints

_FIRST_MIN = 1000
"""So few are asked all at once."""


@dataclass(frozen=True, slots=True)
class Cap:
    """Room shared by several groups."""

    bucket: Ints
    """By group: which room it takes from; -1 when none."""
    room: Ints
    """By bucket: exposures that may be added."""
    binds: Bools | None = None
    """By group: whether it may take no more than there is, or only takes away from others; None: each may not."""

    def bound(self, groups: Ints) -> Bools:
        """Which of those that call are refused when their room is used up."""
        there: Bools = self.bucket[groups] >= 0
        return there if self.binds is None else there & self.binds[groups]


def within(groups: Ints, caps: Sequence[Cap], room: int, takes: Bools | None = None) -> Bools:
    """Who of those that call finds room.

    Args:
        groups: Of each, in the order of their calls.
        caps: Rooms of parts.
        room: Of all.
        takes: Who takes a room that it finds; the others only ask for one. None: all take.
    """
    takes = np.ones(len(groups), dtype=np.bool_) if takes is None else takes
    # Who comes first does not depend on who comes later: where the first few use up the room, nobody else is asked.
    first = max(_FIRST_MIN, 2 * room) if room > 0 else 0
    if first < len(groups):
        admitted = np.zeros(len(groups), dtype=np.bool_)
        admitted[:first] = _within(groups[:first], caps, room, takes[:first])
        if (admitted & takes).sum() >= room:
            return admitted
    return _within(groups, caps, room, takes)


def _within(groups: Ints, caps: Sequence[Cap], room: int, takes: Bools) -> Bools:
    """As `within`, asking everybody."""
    caps = (*caps, Cap(np.zeros(1 + groups.max(initial=0), dtype=np.int64), np.array([room])))
    admitted = np.ones(len(groups), dtype=np.bool_)
    for cap in caps:
        admitted &= ~(cap.bound(groups) & (cap.room[cap.bucket[groups]] <= 0))
    # Each round uses up the room that is used up first. Whoever came before is admitted for good.
    while (first := _used_up(groups, caps, admitted, takes)) is not None:
        at, cap = first
        others = cap.bound(groups) & (cap.bucket[groups] == cap.bucket[groups[at]])
        others[:at] = False
        admitted &= ~others
    return admitted


def _used_up(groups: Ints, caps: Sequence[Cap], admitted: Bools, takes: Bools) -> tuple[int, Cap] | None:
    """The first of the admitted who finds a room used up, and which; None when all find room."""
    found: tuple[int, Cap] | None = None
    for cap in caps:
        asks = np.flatnonzero(admitted & (cap.bucket[groups] >= 0))
        buckets = cap.bucket[groups[asks]]
        over = asks[cap.bound(groups[asks]) & (_taken(buckets, takes[asks]) >= cap.room[buckets])]
        if len(over) and (found is None or over[0] < found[0]):
            found = int(over[0]), cap
    return found


def _taken(labels: Ints, takes: Bools) -> Ints:
    """How many before each one have the same label and take."""
    order = np.argsort(labels, kind="stable")
    ranked, amounts = labels[order], takes[order].astype(np.int64)
    before = np.cumsum(amounts) - amounts
    counted = np.empty(len(labels), dtype=np.int64)
    counted[order] = before - before[np.searchsorted(ranked, ranked, side="left")]
    return counted


def ranks(labels: Ints) -> Ints:
    """How many before each one have the same label."""
    order = np.argsort(labels, kind="stable")
    ranked = labels[order]
    counted = np.empty(len(labels), dtype=np.int64)
    counted[order] = np.arange(len(labels)) - np.searchsorted(ranked, ranked, side="left")
    return counted
