"""Group commit: concurrent calls of one event loop share one connection and one round trip.

While a round is in flight, calls gather; the next round takes them all. Whoever has many callers may let rounds begin
some milliseconds apart, so that more of them share one; the first after a pause goes at once. With
`appendfsync always` the server syncs once a round instead of once a call, and replicas are waited for once a round.
Owns the connection, its reconnecting, and
deadlines; knows nothing of what is called. A call is sent at most once: after a lost connection its outcome is unknown
and the caller decides.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AuthenticationError, AuthorizationError, RedisError, ResponseError

from orchestrator.store.base import StoreError, StoreRefusedError, StoreUnavailableError
from orchestrator.store.redis.keys import MARK, tag_of
from orchestrator.store.redis.replies import DemotedError, worded

Argument = str | bytes | int | float
_Call = tuple[bytes, asyncio.Future[Any], str, int]
"""The packed commands, who waits for their replies, the tag of a change that replicas must confirm, else empty, and how
many commands a batch has; 0: it is one command by itself.
"""
_Reply = tuple[Any, StoreError | None]
_Held = tuple[asyncio.Future[Any], _Reply]

REPLICAS_WAIT_MS = 1000
"""Longest that one round waits for replicas."""
_DOUBTFUL = (DemotedError, StoreRefusedError)
_REFUSED_LOGIN = (AuthenticationError, AuthorizationError, ResponseError)


class Ask(Protocol):
    """Sends one command to one server and returns its reply."""

    async def __call__(self, *command: Argument) -> Any:
        """Send."""


Greet = Callable[[Ask], Awaitable[None]]
"""Looks at a server before anything is sent to it; raises a StoreError to refuse it."""


class Pipeline:
    """Sends calls in rounds over one connection.

    Args:
        connection: redis-py connection without retries and without a socket timeout; owned from now on.
        greet: asks the server, at each connecting, whether it will do.
        replicas_min: replicas that must confirm a change before it is acknowledged.
        deadline_s: longest that a call may take, waiting included.
        apart_s: least time from the begin of one round to that of the next.
        round_max: most calls in one round.
        waiting_max: most calls waiting; more are refused at once.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        *,
        greet: Greet | None = None,
        replicas_min: int = 0,
        deadline_s: float = 5.0,
        apart_s: float = 0.0,
        round_max: int = 512,
        waiting_max: int = 20_000,
    ) -> None:
        self._greet = greet
        self._replicas_min = replicas_min
        self._connection = connection
        self._deadline_s = deadline_s
        self._apart_s = apart_s
        self._round_max = round_max
        self._waiting_max = waiting_max
        self._waiting: deque[_Call] = deque()
        self._wake = asyncio.Event()
        self._unanswered: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._runner: asyncio.Task[None] | None = None
        self._closed = False
        self._doubtful = False
        """Whether whoever answered in this round is not what was greeted: the next one greets anew, perhaps another."""

    async def call(self, *command: Argument, changes: bool = False) -> Any:
        """Send one command and return its reply.

        Args:
            command: its name and arguments.
            changes: whether it may change data, so that its reply waits for replicas.

        Raises:
            StoreUnavailableError: not connected, not answered in time, not confirmed by enough replicas, overloaded or
                closed; the outcome is unknown.
            StoreError: the server refused the command as such.
        """
        packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # it takes tuples of any length
        return await self._enqueue(packed, tag_of(command) if changes and self._replicas_min else "")

    async def call_all(self, commands: Sequence[Sequence[Argument]], *, changes: bool = False) -> list[Any]:
        """Send commands that wait for each other: one future for all of them, where each `call` would need its own.

        Each is done or refused by itself. More than a round takes go in several.

        Args:
            commands: each its name and arguments.
            changes: whether they may change data. See `call`.

        Returns:
            Of each its reply, or the StoreError with which the server refused it.

        Raises:
            StoreUnavailableError: as of `call`; the outcome of all is unknown.
        """
        outcomes: list[Any] = []
        for low in range(0, len(commands), self._round_max):
            some = commands[low : low + self._round_max]
            packed = b"".join(map(hiredis.pack_command, some))  # type: ignore[arg-type]  # as in `call`
            tag = tag_of(some[0]) if changes and self._replicas_min else ""
            outcomes += await self._enqueue(packed, tag, len(some))
        return outcomes

    def _enqueue(self, packed: bytes, tag: str, commands: int = 0) -> asyncio.Future[Any]:
        if self._closed:
            raise StoreUnavailableError("the store connection is closed")
        if len(self._waiting) >= self._waiting_max:
            raise StoreUnavailableError(f"calls waiting for the store ({len(self._waiting)}) >= {self._waiting_max}")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((packed, future, tag, commands))
        self._wake.set()
        self._unanswered.append((loop.time() + self._deadline_s, future))
        if self._watch is None:
            self._watch = loop.call_later(self._deadline_s, self._give_up)
        if self._runner is None or self._runner.done():
            # Not in a TaskGroup: it lives as long as this object, which `close` ends, not as long as any one caller.
            self._runner = loop.create_task(self._run(), name="store-pipeline")
        return future

    def _give_up(self) -> None:
        """Fail the calls that are past their deadline. One timer for all: they are in the order of their deadlines, and
        a timer for each would cost more than the call.
        """
        loop = asyncio.get_running_loop()
        self._forget_answered()
        while self._unanswered and self._unanswered[0][0] <= loop.time():
            _, future = self._unanswered.popleft()
            if not future.done():
                future.set_exception(StoreUnavailableError(f"the store did not answer within {self._deadline_s:g} s"))
        self._watch = loop.call_at(self._unanswered[0][0], self._give_up) if self._unanswered else None

    def _forget_answered(self) -> None:
        while self._unanswered and self._unanswered[0][1].done():
            self._unanswered.popleft()

    async def close(self) -> None:
        """End the runner and the connection; what waits fails."""
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)
        self._fail((call[1] for call in self._waiting), "the store connection is closed")
        await self._connection.disconnect(nowait=True)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                next_s = asyncio.get_running_loop().time() + self._apart_s
                await self._round()
                await self._gather(next_s)

    async def _gather(self, until_s: float) -> None:
        """Let calls come in until then, unless they fill a round already."""
        wait_s = until_s - asyncio.get_running_loop().time()
        if self._apart_s and wait_s > 0 and len(self._waiting) < self._round_max:
            await asyncio.sleep(wait_s)

    async def _round(self) -> None:
        calls = self._take()
        if not calls:
            return
        held: list[_Held] = []
        try:
            async with asyncio.timeout(self._deadline_s):
                await self._exchange(calls, held)
        except (RedisError, OSError, TimeoutError, EOFError) as error:
            await self._drop_connection()
            message = f"lost the store in mid-call: {error or type(error).__name__}"
            self._fail((call[1] for call in calls), message)
            self._fail((each[0] for each in held), message)
        except asyncio.CancelledError:
            message = "the store connection is closed"
            self._fail((call[1] for call in calls), message)
            self._fail((each[0] for each in held), message)
            raise
        finally:
            self._forget_answered()

    def _take(self) -> deque[_Call]:
        calls: deque[_Call] = deque()
        room = self._round_max
        while self._waiting and room > 0:
            call = self._waiting.popleft()
            # A call whose caller has given up was never sent, and is not now.
            if not call[1].done():
                calls.append(call)
                room -= call[3] or 1
        return calls

    async def _exchange(self, calls: deque[_Call], held: list[_Held]) -> None:
        if not self._connection.is_connected and not await self._connect(calls):
            return
        marked = next((call[2] for call in calls if call[2]), "")
        packed = [call[0] for call in calls]
        if marked:
            packed += self._confirmation(marked)
        await self._connection.send_packed_command(packed, check_health=False)
        self._doubtful = False
        for _ in range(len(calls)):
            commands = calls[0][3]
            reply = await self._replies(commands) if commands else await self._reply()
            _, future, tag, _ = calls.popleft()
            if tag and reply[1] is None:
                held.append((future, reply))
            else:
                _settle(future, reply)
        if marked:
            await self._confirm(held)
        if self._doubtful:
            await self._drop_connection()

    async def _connect(self, calls: deque[_Call]) -> bool:
        """Connect and greet; False when that failed, and with it every call."""
        try:
            await self._connection.connect()  # type: ignore[no-untyped-call]
            if self._greet is not None:
                await self._greet(self._ask)
        except StoreError as refusal:
            await self._drop_connection()
            self._fail_all(calls, type(refusal), str(refusal))
        except (RedisError, OSError) as problem:
            await self._drop_connection()
            # redis-py hides a refused login in a ConnectionError.
            if isinstance(problem.__cause__ or problem, _REFUSED_LOGIN):
                message = f"the store refuses our credentials, check its URL: {problem}"
                self._fail_all(calls, StoreRefusedError, message)
            else:
                self._fail_all(calls, StoreUnavailableError, f"cannot reach the store: {problem}")
        else:
            return True
        return False

    async def _ask(self, *command: Argument) -> Any:
        packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # as in `call`
        await self._connection.send_packed_command([packed], check_health=False)
        reply, error = await self._reply()
        if error is not None:
            raise error
        return reply

    def _confirmation(self, tag: str) -> list[bytes]:
        """What is sent behind a round of changes.

        WAIT asks for the last write of this very connection. A change that had happened before, over another
        connection, writes nothing when it is repeated; the mark is a write of ours behind all of them.
        """
        mark = ("SET", f"{tag}{MARK}", "")
        wait = ("WAIT", self._replicas_min, REPLICAS_WAIT_MS)
        return [hiredis.pack_command(mark), hiredis.pack_command(wait)]  # type: ignore[arg-type]

    async def _confirm(self, held: list[_Held]) -> None:
        _, unmarked = await self._reply()
        confirmed, error = await self._reply()
        # Whatever it is, it is not the callers': their changes were made, and are in doubt.
        error = unmarked or error
        if error is None and confirmed < self._replicas_min:
            error = StoreUnavailableError(
                f"replicas that confirmed a change ({confirmed}) < store_replicas_min ({self._replicas_min}) within "
                f"{REPLICAS_WAIT_MS} ms: see that the replicas run and keep up"
            )
        for future, reply in held:
            _settle(future, reply if error is None else (None, StoreUnavailableError(str(error))))
        held.clear()

    async def _reply(self) -> _Reply:
        try:
            return await self._connection.read_response(disconnect_on_error=False), None
        except ResponseError as error:
            told = worded(error)
            self._doubtful = self._doubtful or isinstance(told, _DOUBTFUL)
            return None, told

    async def _replies(self, commands: int) -> _Reply:
        """Of a batch: what it is told, errors among it."""
        replies = [await self._reply() for _ in range(commands)]
        return [reply if error is None else error for reply, error in replies], None

    async def _drop_connection(self) -> None:
        try:
            await self._connection.disconnect(nowait=True)
        except (RedisError, OSError):
            # It is gone either way; the next round connects anew.
            return

    def _fail_all(self, calls: deque[_Call], kind: type[StoreError], message: str) -> None:
        """Fail these calls and whatever waits: without a connection, waiting longer helps nobody."""
        self._fail((call[1] for call in (*calls, *self._waiting)), message, kind)
        self._waiting.clear()

    @staticmethod
    def _fail(
        futures: Iterable[asyncio.Future[Any]], message: str, kind: type[StoreError] = StoreUnavailableError
    ) -> None:
        for future in futures:
            if not future.done():
                future.set_exception(kind(message))


def _settle(future: asyncio.Future[Any], reply: _Reply) -> None:
    if future.done():
        return
    value, error = reply
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
