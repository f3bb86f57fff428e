"""`outrider store verify`: the whole store counted anew while it is in use, and put right if a person says so.

Owns which store is meant, and that every part of it is looked at. Leaves how to `store.redis.verify`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.app.backup import running_store
from orchestrator.app.fleet_time import open_clock
from orchestrator.app.installation import Installation
from orchestrator.clock import MachineClock
from orchestrator.model.ids import FleetTime
from orchestrator.settings import Settings
from orchestrator.store.redis import RedisStore
from orchestrator.store.redis.verify import Difference

CALL_DEADLINE_S = 30.0
"""Longest that one call may take: a large store is read by a person who waits, beside workers who must not."""


@dataclass(frozen=True, slots=True)
class Correction:
    """A counter that was put right."""

    difference: Difference
    was: str
    """What stood there in the very step."""
    now: str
    """What stands there since; both are empty where somebody else had put it right."""


@dataclass(frozen=True, slots=True)
class Recount:
    """What was found, and done about it."""

    shards: int
    rollouts: int
    differences: tuple[Difference, ...]
    corrections: tuple[Correction, ...]
    packed: int
    """Attempts that an earlier build had left, and that take less room now."""


def recount(
    installation: Installation,
    settings: Settings,
    machine: MachineClock,
    *,
    actor: str,
    repair_reason: str | None,
    step: Callable[[int, int], None] = lambda done, of: None,
) -> Recount:
    """Count everything anew, in a store that runs or in one that is started for the while.

    Args:
        installation: the data folder.
        settings: its settings; `store_url` names another store.
        machine: machine time.
        actor: who repairs, for the ledger.
        repair_reason: why; None: nothing is repaired.
        step: told how many parts were looked at, of how many.

    Raises:
        orchestrator.app.installation.InstallationError: there is no store.
        StoreError: the store did not answer, or cannot be read.
    """

    async def count(address: str) -> Recount:
        store = await RedisStore.connect(
            address,
            beside=True,
            durability=settings.store_durability,
            replicas_min=settings.store_replicas_min,
            deadline_s=CALL_DEADLINE_S,
        )
        try:
            now = FleetTime((await open_clock(store, settings, machine)).now()) if repair_reason is not None else None
            return await _count(store, now, actor, repair_reason or "", step)
        finally:
            await store.close()

    if settings.store_url:
        return asyncio.run(count(settings.store_url))
    with running_store(installation) as socket:
        return asyncio.run(count(f"unix://{socket}"))


async def _count(
    store: RedisStore, now: FleetTime | None, actor: str, reason: str, step: Callable[[int, int], None]
) -> Recount:
    verifier = store.verifier()
    rollout_ids = await store.rollout_ids()
    parts = store.shards + len(rollout_ids)
    found: list[Difference] = []
    corrected: list[Correction] = []

    async def look(done: int, part: list[Difference]) -> None:
        found.extend(part)
        if now is not None:
            corrected.extend(
                [Correction(each, *await verifier.repair(each, at=now, actor=actor, reason=reason)) for each in part]
            )
        step(done, parts)

    packed = 0
    for shard in range(store.shards):
        packed += await verifier.pack_ended(shard) if now is not None else 0
        await look(shard + 1, await verifier.shard(shard))
    for place, rollout_id in enumerate(rollout_ids, start=1):
        if now is not None:
            await verifier.spend_permits(rollout_id)
        await look(store.shards + place, await verifier.rollout(rollout_id))
    return Recount(store.shards, len(rollout_ids), tuple(found), tuple(corrected), packed)
