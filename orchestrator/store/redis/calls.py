"""Calls of functions and commands, and what their replies mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.model.decision import Refusal, RefusalReason
from orchestrator.store.base import Applied, StoreError
from orchestrator.store.redis import codec
from orchestrator.store.redis.library import PREFIX
from orchestrator.store.redis.pipeline import Argument, Pipeline
from orchestrator.store.refusals import refusal

READ_AT_ONCE = 256
"""Calls of one listing in flight together."""


class Calls:
    """Calls functions by name on one tag, and plain commands.

    Args:
        pipeline: carries them.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def function(self, name: str, tag: str, *arguments: Argument) -> list[Any]:
        """Call a function; its reply, status first."""
        reply: list[Any] = await self._pipeline.call("FCALL", f"{PREFIX}{name}", 1, tag, *arguments)
        return reply

    async def command(self, *arguments: Argument) -> Any:
        """Call a plain command."""
        return await self._pipeline.call(*arguments)

    async def close(self) -> None:
        """Let go of the connection."""
        await self._pipeline.close()


def unknown(reply: Sequence[Any]) -> bool:
    """Whether the function says that what it was asked about does not exist."""
    return bool(reply[0] == b"unknown")


def refused(reply: Sequence[Any]) -> Refusal | None:
    """The refusal in a reply, None when it is none."""
    if reply[0] != b"refused":
        return None
    facts = {reply[index].decode(): reply[index + 1].decode() for index in range(2, len(reply), 2)}
    return refusal(RefusalReason(reply[1].decode()), facts)


def applied(reply: Sequence[Any]) -> Applied:
    """The vehicle's record in a reply."""
    if reply[0] != b"ok":
        raise StoreError(f"a function answered {reply[0]!r} where it cannot")
    return Applied(record=codec.decode_record(*reply[1:8]))


def applied_or_refused(reply: Sequence[Any]) -> Applied | Refusal:
    """The vehicle's record or the refusal in a reply."""
    return refused(reply) or applied(reply)


def number(reply: Sequence[Any], position: int = 1) -> int:
    """A whole number in a reply."""
    return int(reply[position])


def yes(reply: Sequence[Any]) -> bool:
    """A yes or no in a reply."""
    return bool(reply[1] == b"1")
