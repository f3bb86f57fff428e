"""Rollouts on Redis: each on the keys of its own tag."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.model.decision import Refusal
from orchestrator.model.fleet import Cell
from orchestrator.model.ids import AttemptId, FleetTime, RolloutId
from orchestrator.model.rollout import Rollout
from orchestrator.store.base import (
    JournalEntry,
    PermitRequest,
    Permitted,
    Reserved,
    SlotRequest,
    Standing,
    Unsettled,
)
from orchestrator.store.redis import codec
from orchestrator.store.redis.calls import Calls, number, refused, yes
from orchestrator.store.redis.keys import FLEET_TAG, key, rollout_tag
from orchestrator.store.redis.pipeline import Argument

UNSETTLED_MAX = 1000
"""Most unsettled attempts returned at once; the rest follows once these are confirmed."""


class RedisRollouts:
    """`base.RolloutStore` on Redis.

    Args:
        calls: carries the calls.
        dead_man_life_ms: machine time that a sign of life of the evaluator lasts.
    """

    def __init__(self, calls: Calls, dead_man_life_ms: int) -> None:
        self._calls = calls
        self._dead_man_life_ms = dead_man_life_ms
        self._decoded: dict[bytes, Rollout] = {}
        """By document, of the last listing: most rollouts are as they were a moment ago."""
        self._listed: Sequence[RolloutId] = ()
        """Ids of the last listing."""

    async def rollouts(self) -> Sequence[Rollout]:
        """See `base.RolloutStore`. Those of the last listing are read in the same round trip in which new ones show."""
        listed = self._listed
        self._listed, documents = await asyncio.gather(self.rollout_ids(), self._documents(listed))
        before = set(listed)
        documents += await self._documents([each for each in self._listed if each not in before])
        known = self._decoded
        self._decoded = {
            document: known.get(document) or codec.decode_rollout(document)
            for document in documents
            if document is not None
        }
        return sorted(
            self._decoded.values(), key=lambda rollout: (rollout.created_at, rollout.rollout_id), reverse=True
        )

    async def _documents(self, ids: Sequence[RolloutId]) -> list[bytes | None]:
        names = (key(rollout_tag(rollout_id), "rollout") for rollout_id in ids)
        return await self._calls.commands("HGET", [(name, "document") for name in names])

    async def rollout_ids(self) -> Sequence[RolloutId]:
        """Ids of all rollouts, and perhaps of one whose creation was cut short."""
        members = await self._calls.command("SMEMBERS", key(FLEET_TAG, "rollouts"))
        return sorted(RolloutId(member.decode()) for member in members)

    async def create_rollout(self, rollout: Rollout, decision: JournalEntry) -> Rollout:
        """See `base.RolloutStore`."""
        # The index first: an entry without a rollout is harmless, a rollout without an entry would be lost.
        await self._calls.command("SADD", key(FLEET_TAG, "rollouts"), rollout.rollout_id)
        tag = rollout_tag(rollout.rollout_id)
        reply = await self._calls.function("create_rollout", tag, *_written(rollout), *journalled(decision))
        return codec.decode_rollout(reply[1])

    async def transition(self, rollout: Rollout, *, expected_epoch: int, decision: JournalEntry) -> bool:
        """See `base.RolloutStore`."""
        tag = rollout_tag(rollout.rollout_id)
        reply = await self._calls.function("transition", tag, *_written(rollout), *journalled(decision), expected_epoch)
        return yes(reply)

    async def renew(
        self, rollout_id: RolloutId, *, permit_ceiling: int, grant_ceiling: int, began_ms: int, epoch: int
    ) -> bool:
        """See `base.RolloutStore`."""
        tag = rollout_tag(rollout_id)
        ceilings = (permit_ceiling, grant_ceiling)
        return yes(await self._calls.function("renew", tag, self._dead_man_life_ms, *ceilings, began_ms, epoch))

    async def reserve(self, rollout_id: RolloutId, attempt_id: AttemptId, request: SlotRequest) -> Reserved | Refusal:
        """See `base.RolloutStore`."""
        reply = await self._calls.function(
            "reserve",
            rollout_tag(rollout_id),
            attempt_id,
            *_cell(request.cell),
            request.epoch,
            request.region_max,
            request.total_max,
            "" if request.quota is None else request.quota,
            request.transfer_ms,
            request.now,
            self._dead_man_life_ms,
        )
        return refused(reply) or Reserved()

    async def authorize(
        self, rollout_id: RolloutId, attempt_id: AttemptId, request: PermitRequest
    ) -> Permitted | Refusal:
        """See `base.RolloutStore`."""
        reply = await self._calls.function(
            "authorize",
            rollout_tag(rollout_id),
            attempt_id,
            *_cell(request.cell),
            request.attempt_epoch,
            request.region_max,
            request.total_max,
            request.starts_per_minute_max,
            request.region_starts_per_minute_max,
            request.valid_ms,
            request.offline_ms,
            request.now,
            self._dead_man_life_ms,
            "" if request.quota is None else request.quota,
            int(request.stands_aside),
            int(request.paired),
            int(request.repeats),
        )
        return refused(reply) or _permitted(reply[1:])

    async def suspend(self, rollout_id: RolloutId, deferred: Mapping[AttemptId, int]) -> None:
        """See `base.RolloutStore`."""
        if deferred:
            pairs = [cell for pair in deferred.items() for cell in pair]
            await self._calls.function("suspend", rollout_tag(rollout_id), *pairs)

    async def forfeit(self, rollout_id: RolloutId, attempt_ids: Sequence[AttemptId]) -> None:
        """See `base.RolloutStore`."""
        if attempt_ids:
            await self._calls.function("forfeit", rollout_tag(rollout_id), *attempt_ids)

    async def confirm(
        self, rollout_id: RolloutId, *, reservations: Sequence[AttemptId], permits: Sequence[AttemptId]
    ) -> None:
        """See `base.RolloutStore`."""
        members = [f"s|{attempt_id}" for attempt_id in reservations] + [f"p|{attempt_id}" for attempt_id in permits]
        if members:
            await self._calls.function("confirm", rollout_tag(rollout_id), *members)

    async def release(self, rollout_id: RolloutId, attempt_ids: Sequence[AttemptId]) -> None:
        """See `base.RolloutStore`."""
        if attempt_ids:
            await self._calls.function("release", rollout_tag(rollout_id), *attempt_ids)

    async def unsettled(self, ids: Sequence[RolloutId], *, older_than_ms: int) -> Mapping[RolloutId, Unsettled]:
        """See `base.RolloutStore`."""
        replies = await self._calls.functions(
            "unsettled", [(rollout_tag(rollout_id), older_than_ms, UNSETTLED_MAX) for rollout_id in ids]
        )
        return {rollout_id: _unsettled(reply) for rollout_id, reply in zip(ids, replies, strict=True)}

    async def standing(self, rollout_id: RolloutId, *, now: FleetTime) -> Standing:
        """See `base.RolloutStore`."""
        reply = await self._calls.function("standing", rollout_tag(rollout_id), now, self._dead_man_life_ms)
        return Standing(
            in_flight={name.decode(): count for name, count in _counts(reply[7]) if count},
            permits=number(reply, 1),
            permit_ceiling=number(reply, 2),
            starts=number(reply, 3),
            evaluator_alive=reply[4] == b"1",
            at_risk=number(reply, 5),
            grant_ceiling=number(reply, 6),
            admitted={Cell(*name.decode().split("|")): count for name, count in _counts(reply[8]) if count},
            outstanding=number(reply, 9),
            outstanding_until=FleetTime(number(reply, 10)),
        )


def _cell(cell: Cell) -> tuple[Argument, ...]:
    return (cell.region, cell.hardware, cell.cohort)


def _counts(cells: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
    """Names and counts that follow each other."""
    return zip(cells[::2], map(int, cells[1::2]), strict=True)


def _written(rollout: Rollout) -> tuple[Argument, ...]:
    parts = {f"brake:{brake.scope}": brake.kind.value for brake in rollout.brakes}
    parts |= {f"fence:{scope}": str(fence) for scope, fence in rollout.fences.items()}
    parts |= {f"apart:{scope}": "1" for scope in rollout.apart}
    return (
        codec.encode_rollout(rollout),
        rollout.status.value,
        rollout.epoch,
        rollout.fence,
        codec.encode_map(parts),
    )


def journalled(entry: JournalEntry) -> tuple[Argument, ...]:
    """A journal entry as functions take it."""
    return (entry.kind, entry.at, codec.encode_map(entry.data))


def _unsettled(reply: Sequence[Any]) -> Unsettled:
    reservations: list[AttemptId] = []
    permits: dict[AttemptId, Permitted] = {}
    for index in range(1, len(reply), 5):
        kind, attempt_id, *permit = reply[index : index + 5]
        if kind == b"s":
            reservations.append(AttemptId(attempt_id.decode()))
        else:
            permits[AttemptId(attempt_id.decode())] = _permitted(permit)
    return Unsettled(reservations=reservations, permits=permits)


def _permitted(permit: Sequence[bytes]) -> Permitted:
    """A permit from its time, how long an offline one is good for, and whether its attempt is compared."""
    permitted_at, offline_ms, paired = map(int, permit)
    return Permitted(permitted_at=FleetTime(permitted_at), offline_ms=offline_ms, paired=bool(paired))
