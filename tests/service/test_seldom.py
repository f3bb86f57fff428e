"""What is looked at every few seconds, by whichever clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from orchestrator.service.seldom import Seldom
from tests.builders import SECOND_MS
from tests.service.world import Car, World


def test_it_is_time_at_first_and_then_again_after_as_long() -> None:
    """The first look after a start must not wait: a crash may have come before it."""
    seldom = Seldom(5_000)
    assert [now_ms for now_ms in range(100, 12_000, 1_000) if seldom.due(now_ms)] == [100, 5_100, 10_100]


def test_ticks_that_are_far_apart_all_look() -> None:
    """In a simulation minutes pass between two of them."""
    seldom = Seldom(5_000)
    assert all(seldom.due(minute * 60_000) for minute in range(5))


def test_clock_that_was_set_back_does_not_put_it_off() -> None:
    """By the time that it would come again, it could be tomorrow."""
    seldom = Seldom(5_000)
    assert seldom.due(86_400_000)
    assert seldom.due(1_000)
    assert not seldom.due(2_000)


async def test_what_changes_slowly_is_not_read_at_each_tick(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tick reads the store each second, for ever; half hours of calls, and what a crash left, can wait."""
    await world.add(Car("v-1"))
    await world.start()
    asked: Counter[str] = Counter()

    def count(name: str) -> None:
        call = getattr(world.store, name)

        async def counted(about: Sequence[str], **rest: Any) -> Any:
            asked[name] += bool(about)
            return await call(about, **rest)

        monkeypatch.setattr(world.store, name, counted)

    for name in ("tallies", "contacts", "unsettled"):
        count(name)
    for _ in range(60):
        world.hand.advance(SECOND_MS)
        await world.tick()
    assert asked == {"tallies": 60, "contacts": 1, "unsettled": 12}
