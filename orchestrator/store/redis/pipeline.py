"""Group commit: concurrent calls of one event loop share one connection and one round trip.

While a round is in flight, calls gather; the next round takes them all. With `appendfsync always` the server syncs once
a round instead of once a call. Owns the connection, its reconnecting, and deadlines; knows nothing of what is called.
A call is sent at most once: after a lost connection its outcome is unknown and the caller decides.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from orchestrator.store.base import StoreError, StoreRefusedError, StoreUnavailableError

Argument = str | bytes | int | float
_Call = tuple[bytes, asyncio.Future[Any]]

_REFUSED_LOGIN = (AuthenticationError, AuthorizationError, ResponseError)
_PASSING = (ReadOnlyError, OutOfMemoryError, ClusterDownError, TryAgainError)
_PASSING_CODES = ("BUSY", "MISCONF", "NOREPLICAS")
"""Refusals of a server that may recover: out of memory and a failing disk included."""


class Pipeline:
    """Sends calls in rounds over one connection.

    Args:
        connection: redis-py connection without retries and without a socket timeout; owned from now on.
        deadline_s: longest that a call may take, waiting included.
        round_max: most calls in one round.
        waiting_max: most calls waiting; more are refused at once.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        *,
        deadline_s: float = 5.0,
        round_max: int = 512,
        waiting_max: int = 20_000,
    ) -> None:
        self._connection = connection
        self._deadline_s = deadline_s
        self._round_max = round_max
        self._waiting_max = waiting_max
        self._waiting: deque[_Call] = deque()
        self._wake = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._closed = False

    async def call(self, *command: Argument) -> Any:
        """Send one command and return its reply.

        Raises:
            StoreUnavailableError: not connected, not answered in time, overloaded or closed; the outcome is unknown.
            StoreError: the server refused the command as such.
        """
        if self._closed:
            raise StoreUnavailableError("the store connection is closed")
        if len(self._waiting) >= self._waiting_max:
            raise StoreUnavailableError(f"calls waiting for the store ({len(self._waiting)}) >= {self._waiting_max}")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # it takes tuples of any length
        self._waiting.append((packed, future))
        self._wake.set()
        if self._runner is None or self._runner.done():
            # Not in a TaskGroup: it lives as long as this object, which `close` ends, not as long as any one caller.
            self._runner = loop.create_task(self._run(), name="store-pipeline")
        try:
            async with asyncio.timeout(self._deadline_s):
                return await future
        except TimeoutError:
            raise StoreUnavailableError(f"the store did not answer within {self._deadline_s:g} s") from None

    async def close(self) -> None:
        """End the runner and the connection; what waits fails."""
        self._closed = True
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)
        self._fail(self._waiting, "the store connection is closed")
        await self._connection.disconnect(nowait=True)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self._round()

    async def _round(self) -> None:
        calls = self._take()
        if not calls:
            return
        try:
            async with asyncio.timeout(self._deadline_s):
                await self._exchange(calls)
        except (RedisError, OSError, TimeoutError, EOFError) as error:
            await self._drop_connection()
            self._fail(calls, f"lost the store in mid-call: {error or type(error).__name__}")
        except asyncio.CancelledError:
            self._fail(calls, "the store connection is closed")
            raise

    def _take(self) -> deque[_Call]:
        calls: deque[_Call] = deque()
        while self._waiting and len(calls) < self._round_max:
            call = self._waiting.popleft()
            # A call whose caller has given up was never sent, and is not now.
            if not call[1].done():
                calls.append(call)
        return calls

    async def _exchange(self, calls: deque[_Call]) -> None:
        if not self._connection.is_connected:
            try:
                await self._connection.connect()  # type: ignore[no-untyped-call]
            except (RedisError, OSError) as problem:
                # redis-py hides a refused login in a ConnectionError.
                if isinstance(problem.__cause__ or problem, _REFUSED_LOGIN):
                    message = f"the store refuses our credentials, check its URL: {problem}"
                    self._fail_all(calls, StoreRefusedError, message)
                else:
                    self._fail_all(calls, StoreUnavailableError, f"cannot reach the store: {problem}")
                return
        await self._connection.send_packed_command([packed for packed, _ in calls], check_health=False)
        for _ in range(len(calls)):
            reply, error = await self._reply()
            _, future = calls.popleft()
            if future.done():
                continue
            if error is None:
                future.set_result(reply)
            else:
                future.set_exception(error)

    async def _reply(self) -> tuple[Any, StoreError | None]:
        try:
            return await self._connection.read_response(disconnect_on_error=False), None
        except ResponseError as error:
            return None, _worded(error)

    async def _drop_connection(self) -> None:
        try:
            await self._connection.disconnect(nowait=True)
        except (RedisError, OSError):
            # It is gone either way; the next round connects anew.
            return

    def _fail_all(self, calls: deque[_Call], kind: type[StoreError], message: str) -> None:
        """Fail these calls and whatever waits: without a connection, waiting longer helps nobody."""
        self._fail(calls, message, kind)
        self._fail(self._waiting, message, kind)
        self._waiting.clear()

    @staticmethod
    def _fail(calls: deque[_Call], message: str, kind: type[StoreError] = StoreUnavailableError) -> None:
        for _, future in calls:
            if not future.done():
                future.set_exception(kind(message))


def _worded(error: ResponseError) -> StoreError:
    text = str(error)
    if isinstance(error, _PASSING) or text.startswith(_PASSING_CODES):
        return StoreUnavailableError(f"the store takes no writes now: {text}")
    if "Function not found" in text:
        return StoreRefusedError("the store lost its function library: restart the orchestrator to load it")
    return StoreError(f"the store refused a call: {text}")
