"""Values that are made at every call are what frozen dataclasses are, but for the freezing."""

from __future__ import annotations

import dataclasses

import pytest

from orchestrator.model.value import value


@value(frozen=True, slots=True)
class Quick:
    """Made at every call."""

    name: str
    parts: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    """As any other."""

    name: str
    parts: tuple[int, ...] = ()


@pytest.mark.parametrize("kind", [Quick, Frozen])
def test_values_are_equal_and_keys_by_what_they_say(kind: type[Quick] | type[Frozen]) -> None:
    """They are keys of caches, and replaced rather than changed."""
    one, same, other = kind("a", (1,)), kind("a", (1,)), kind("a", (2,))
    assert one == same != other
    assert len({one, same, other}) == 2
    assert dataclasses.replace(other, parts=(1,)) == one
    assert not hasattr(one, "__dict__")
