"""Who has which profile, noted anew where an earlier build wrote the inventory: it noted only how many have it.

`{g}:meta` says whether all are noted. Nothing but the speed of searches hangs on it (`search`).
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from orchestrator.store.redis.calls import Calls, number
from orchestrator.store.redis.keys import FLEET_TAG, SHARD_KEYS, key, shard_tag

STEP = 500
"""Vehicles of one step: some milliseconds of the server."""
MEMBER_SETS = f"{{s:*}}{SHARD_KEYS['members']}*"

log = structlog.get_logger()


async def doubt(calls: Calls) -> None:
    """Have them noted anew by the next `see_to`, whoever ends before.

    Raises:
        StoreError: the server did not do it.
    """
    await calls.command("HDEL", key(FLEET_TAG, "meta"), "listed")


async def see_to(calls: Calls, servers: Sequence[Calls], shards: int) -> None:
    """Note who has which profile, unless it is noted: some seconds for a million vehicles, in which others are served.

    Args:
        calls: to the keys of every shard.
        servers: each that holds some.
        shards: how many there are.

    Raises:
        StoreError: a server did not answer; what is noted by then is noted again.
    """
    if await calls.command("HGET", key(FLEET_TAG, "meta"), "listed"):
        return
    for server in servers:
        await _forget(server)
    noted = 0
    for shard in range(shards):
        cursor = -1
        while cursor != 0:
            reply = await calls.function("fill_members", shard_tag(shard), max(cursor, 0), STEP)
            cursor = number(reply)
            noted += number(reply, 2)
    if noted:
        log.info("store_profiles_noted", vehicles=noted)
    await calls.command("HSET", key(FLEET_TAG, "meta"), "listed", 1)


async def _forget(server: Calls) -> None:
    """What a later build noted before an earlier one went on may be wrong by now."""
    cursor = -1
    while cursor != 0:
        following, names = await server.command("SCAN", max(cursor, 0), "MATCH", MEMBER_SETS, "COUNT", STEP)
        cursor = int(following)
        for name in names:
            await server.command("UNLINK", name.decode())
