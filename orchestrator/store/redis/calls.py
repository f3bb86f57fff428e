"""Calls of functions and commands, and what their replies mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from orchestrator.model.decision import Refusal, RefusalReason
from orchestrator.store.base import Applied, StoreError
from orchestrator.store.redis import codec
from orchestrator.store.redis.library import PREFIX, READS
from orchestrator.store.redis.pipeline import Argument
from orchestrator.store.refusals import refusal

T = TypeVar("T")

READING_COMMANDS = frozenset(
    [
        *("CLUSTER", "CONFIG", "DBSIZE", "EXISTS", "INFO", "PING", "SCAN", "TIME"),
        *("HGET", "HGETALL", "HMGET", "HSCAN", "HVALS", "SMEMBERS", "SSCAN", "XINFO", "XRANGE", "ZSCAN"),
    ]
)
"""Those in use that change no data; every other one waits for replicas."""


class Carrier(Protocol):
    """Brings a command to the server that it is for: `pipeline.Pipeline` to the only one, `cluster.Cluster` by slot."""

    async def call(self, *command: Argument, changes: bool = False) -> Any:
        """See `pipeline.Pipeline.call`."""

    async def call_all(self, commands: Sequence[Sequence[Argument]], *, changes: bool = False) -> list[Any]:
        """See `pipeline.Pipeline.call_all`."""

    async def close(self) -> None:
        """Let go of every connection."""


class Calls:
    """Calls functions by name on one tag, and plain commands.

    Args:
        carrier: brings them where they belong.
    """

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier

    async def function(self, name: str, tag: str, *arguments: Argument) -> list[Any]:
        """Call a function; its reply, status first."""
        changes = name not in READS
        reply: list[Any] = await self._carrier.call("FCALL", f"{PREFIX}{name}", 1, tag, *arguments, changes=changes)
        return reply

    async def command(self, *arguments: Argument) -> Any:
        """Call a plain command; in a cluster, one that names a key."""
        return await self._carrier.call(*arguments, changes=arguments[0] not in READING_COMMANDS)

    async def functions(self, name: str, asked: Iterable[Sequence[Argument]]) -> list[list[Any]]:
        """Call a function on many tags at once.

        Args:
            name: its name.
            asked: of each call the tag, and its arguments behind it.

        Raises:
            StoreError: one was refused, or the outcome is unknown; the others may be done.
        """
        commands = [("FCALL", f"{PREFIX}{name}", 1, *each) for each in asked]
        return told(await self._carrier.call_all(commands, changes=name not in READS))

    async def commands(self, name: str, asked: Iterable[Sequence[Argument]]) -> list[Any]:
        """Call a plain command on many keys at once, each with its arguments behind it. See `functions`."""
        commands = [(name, *each) for each in asked]
        return told(await self._carrier.call_all(commands, changes=name not in READING_COMMANDS))

    async def close(self) -> None:
        """Let go of the connection."""
        await self._carrier.close()


def told(outcomes: list[Any]) -> list[Any]:
    """The replies of a batch.

    Raises:
        StoreError: one has none.
    """
    for outcome in outcomes:
        if isinstance(outcome, StoreError):
            raise outcome
    return outcomes


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


def pairs(cells: Sequence[T]) -> Iterator[tuple[T, T]]:
    """Names and values that follow each other."""
    return zip(cells[::2], cells[1::2], strict=True)


def yes(reply: Sequence[Any]) -> bool:
    """A yes or no in a reply."""
    return bool(reply[1] == b"1")
