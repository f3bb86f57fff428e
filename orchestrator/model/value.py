"""Values that are made at every call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

__all__ = ["value"]

T = TypeVar("T")

if TYPE_CHECKING:
    from dataclasses import dataclass as value
else:

    def value(*, frozen: bool, slots: bool, order: bool = False) -> Callable[[type[T]], type[T]]:
        """As `dataclass`, but that nobody changes one is left to the type checker.

        A frozen one is made field by field through a call of `object.__setattr__`, which takes three times as long, and
        a poll makes some twenty values. Equality and hash are those of a frozen one.
        """
        return dataclass(slots=slots, unsafe_hash=frozen, order=order)
