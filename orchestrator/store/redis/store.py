"""The store on Redis or Valkey: opened, checked, put together.

Leaves every operation to the parts: `rollouts`, `vehicles`, `shards`, `fleet`. Owns the refusal of servers that would
break a promise.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Literal

from redis.asyncio.connection import AbstractConnection, Connection, UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from orchestrator.store.base import DEAD_MAN_LIFE_MS, StoreRefusedError
from orchestrator.store.redis import admission
from orchestrator.store.redis.calls import Calls
from orchestrator.store.redis.fleet import RedisFleet
from orchestrator.store.redis.pipeline import Pipeline
from orchestrator.store.redis.rollouts import RedisRollouts
from orchestrator.store.redis.shards import RedisShards
from orchestrator.store.redis.vehicles import RedisVehicles
from orchestrator.store.redis.vitals import StoreVitals, read_vitals
from orchestrator.store.shards import check_shards

Durability = Literal["always", "provider"]
"""Who guarantees that what was acknowledged is on disk: this server's `appendfsync always`, or whoever provides it."""

DEFAULT_SHARDS = 16


class RedisStore(RedisRollouts, RedisVehicles, RedisShards, RedisFleet):
    """`base.Store` on a server that speaks the Redis protocol. Open it with `connect`."""

    def __init__(self, calls: Calls, *, shards: int, dead_man_life_ms: int) -> None:
        RedisRollouts.__init__(self, calls, dead_man_life_ms)
        RedisVehicles.__init__(self, calls, shards)
        RedisShards.__init__(self, calls, shards, self)
        RedisFleet.__init__(self, calls)

    @classmethod
    async def connect(
        cls,
        address: str | Path,
        *,
        shards: int | None = None,
        durability: Durability = "always",
        deadline_s: float = 5.0,
        dead_man_life_ms: int = DEAD_MAN_LIFE_MS,
    ) -> RedisStore:
        """Open the store, load its functions, and make the data set where there is none.

        Args:
            address: path of a unix socket, or a URL `redis://`, `rediss://`, `unix://`.
            shards: how many; None takes what stands, or 16 at creation.
            durability: `provider` trusts whoever runs the server with what `appendfsync always` gives.
            deadline_s: longest that one call may take.
            dead_man_life_ms: machine time that a sign of life of the evaluator lasts; shorter in tests only.

        Raises:
            StoreRefusedError: the server or its data cannot be used; the message says the remedy.
            StoreUnavailableError: it does not answer.
            ValueError: the address or the number of shards is none.
        """
        if shards is not None:
            check_shards(shards)
        calls = Calls(Pipeline(connection_to(address), deadline_s=deadline_s))
        try:
            await admission.check_server(calls, durability=durability)
            await admission.check_foreign_keys(calls)
            await admission.load_library(calls)
            shards_found = await admission.open_dataset(
                calls, new_dataset_id=secrets.token_hex(16), new_shards=shards or DEFAULT_SHARDS
            )
            await admission.retire_libraries(calls)
            if shards is not None and shards != shards_found:
                raise StoreRefusedError(
                    f"the store has {shards_found} shards, not {shards}: fixed at creation: leave the number out"
                )
        except BaseException:
            await calls.close()
            raise
        return cls(calls, shards=shards_found, dead_man_life_ms=dead_man_life_ms)

    async def vitals(self) -> StoreVitals:
        """How the server is now.

        Raises:
            StoreError: it did not answer, or does not say.
        """
        return await read_vitals(self._calls)

    async def close(self) -> None:
        """See `base.Store`."""
        await self._calls.close()


def connection_to(address: str | Path) -> AbstractConnection:
    """One connection, RESP3, that never repeats a command by itself and leaves deadlines to the pipeline.

    Raises:
        ValueError: the address is none.
    """
    if isinstance(address, Path) or "://" not in address:
        return UnixDomainSocketConnection(
            path=str(address), protocol=3, retry=Retry(NoBackoff(), 0), socket_timeout=None, client_name="outrider"
        )
    arguments = dict(parse_url(address))
    connection_class = arguments.pop("connection_class", Connection)
    arguments |= {"protocol": 3, "retry": Retry(NoBackoff(), 0), "socket_timeout": None, "client_name": "outrider"}
    connection: AbstractConnection = connection_class(**arguments)  # type: ignore[operator]
    return connection
