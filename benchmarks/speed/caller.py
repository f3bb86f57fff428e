"""The vehicles that call in the bench: one process, each vehicle with its own certificate and its own connection.

Does as its standard input says, a line at a time, and says how many calls were answered. Leaves to `calling` whom to
call, and what it costs there. Every vehicle makes one call after the other, and as many are under way at once as it is
told.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from outrider.v1 import vehicle_pb2

CHECK_IN = "/outrider.v1.VehicleService/CheckIn"
DEADLINE_S = 30.0


class Caller:
    """One vehicle.

    Args:
        address: of the server.
        server_ca: PEM, of whom to believe.
        orders: its key and chain as PEM, its request in hex; with an attempt, each call brings a new event about it.
        turns: how many may call at once.
    """

    def __init__(self, address: str, server_ca: bytes, orders: Mapping[str, str], turns: asyncio.Semaphore) -> None:
        self._turns = turns
        self._address = address
        self._credentials = grpc.ssl_channel_credentials(server_ca, orders["key"].encode(), orders["chain"].encode())
        self._request = vehicle_pb2.CheckInRequest.FromString(bytes.fromhex(orders["request"]))
        self._attempt_id = orders["attempt_id"]
        self._channel: grpc.aio.Channel | None = None
        self._number = 0

    async def warm(self, calls: int) -> None:
        """Call on a connection that stays."""
        if self._channel is None:
            self._channel = self._connect()
        check_in = self._method(self._channel)
        for _ in range(calls):
            async with self._turns:
                await self._call(check_in)

    async def cold(self, calls: int) -> None:
        """Call on a new connection each time."""
        for _ in range(calls):
            async with self._turns, self._connect() as channel:
                await self._call(self._method(channel))

    async def close(self) -> None:
        """Let go."""
        if self._channel is not None:
            await self._channel.close()

    def _connect(self) -> grpc.aio.Channel:
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
        return grpc.aio.secure_channel(self._address, self._credentials, options)

    def _method(self, channel: grpc.aio.Channel) -> Any:
        # Bytes in and out: what is measured is the server, on the cores that the caller leaves to it.
        return channel.unary_unary(CHECK_IN, request_serializer=None, response_deserializer=None)

    async def _call(self, check_in: Any) -> None:
        answer = await check_in(self._next(), timeout=DEADLINE_S)
        if self._attempt_id and self._number == 1:
            told = vehicle_pb2.CheckInResponse.FromString(answer)
            assert told.HasField("directive"), told

    def _next(self) -> bytes:
        if self._attempt_id:
            self._number += 1
            del self._request.events[:]
            self._request.events.add(
                number=self._number,
                attempt_id=self._attempt_id,
                kind=vehicle_pb2.EVENT_KIND_DEFERRED,
                failure_code="not_parked",
            )
            self._request.oldest_number = self._number
        return self._request.SerializeToString()


async def obey(lines: Any) -> None:
    """Make the vehicles that the first line tells of, by group, and let them call as each further line says."""
    first = json.loads(await asyncio.to_thread(lines.readline))
    turns, server_ca = asyncio.Semaphore(first["at_once"]), first["server_ca"].encode()
    groups = {
        name: [Caller(group["address"], server_ca, each, turns) for each in group["vehicles"]]
        for name, group in first["groups"].items()
    }
    tell("ready")
    while line := await asyncio.to_thread(lines.readline):
        order = json.loads(line)
        await call(groups[order["group"]], order["how"], order["calls"])
        tell("done")
    await asyncio.gather(*(each.close() for group in groups.values() for each in group))


async def call(callers: Sequence[Caller], how: str, calls: int) -> None:
    """Let every vehicle call so many times."""
    await asyncio.gather(*((each.cold if how == "cold" else each.warm)(calls) for each in callers))


def tell(word: str) -> None:
    """Answer a line."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(obey(sys.stdin))
