"""Room in several caps at once is given out as if vehicles asked one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from orchestrator.rehearsal import Cap
from orchestrator.rehearsal.caps import within

GROUPS = 6
BUCKETS = 3


@some.composite
def some_cap(draw: some.DrawFn) -> Cap:
    """A cap over six groups, some of which may only take away from others."""
    bucket = draw(some.lists(some.integers(-1, BUCKETS - 1), min_size=GROUPS, max_size=GROUPS))
    room = draw(some.lists(some.integers(0, 6), min_size=BUCKETS, max_size=BUCKETS))
    binds = draw(some.none() | some.lists(some.booleans(), min_size=GROUPS, max_size=GROUPS))
    return Cap(np.array(bucket), np.array(room), None if binds is None else np.array(binds))


def one_after_the_other(groups: Sequence[int], caps: Sequence[Cap], room: int) -> list[bool]:
    """What a store would answer that is asked once for each vehicle."""
    left = [cap.room.tolist() for cap in caps]
    answers = []
    for group in groups:
        rooms = [(number, int(cap.bucket[group])) for number, cap in enumerate(caps) if cap.bucket[group] >= 0]
        full = [
            left[number][bucket] <= 0
            for number, bucket in rooms
            if caps[number].binds is None or caps[number].binds[group]  # type: ignore[index]
        ]
        admitted = room > 0 and not any(full)
        answers.append(admitted)
        if admitted:
            room -= 1
            for number, bucket in rooms:
                left[number][bucket] -= 1
    return answers


@given(
    groups=some.lists(some.integers(0, GROUPS - 1), max_size=30),
    caps=some.lists(some_cap(), max_size=4),
    room=some.integers(0, 20),
)
def test_a_step_admits_whom_single_questions_would(groups: list[int], caps: list[Cap], room: int) -> None:
    """A vehicle that finds no place must not use up the slot of another."""
    assert within(np.array(groups, dtype=np.int64), caps, room).tolist() == one_after_the_other(groups, caps, room)


@pytest.mark.parametrize("room", [0, 1, 40, 700, 1_000, 5_000])
def test_a_crowd_is_admitted_as_a_few_are(room: int) -> None:
    """Most of a crowd are not even asked where the first use up the room: the answer must be the same."""
    rng = np.random.default_rng(room)
    groups = rng.integers(0, 4, 3_000)
    for seldom in (0, 10_000):
        cap = Cap(np.array([0, 0, 1, -1]), np.array([30, seldom]), None)
        asked = one_after_the_other(groups.tolist(), [cap], room)
        assert within(groups, [cap], room).tolist() == asked
