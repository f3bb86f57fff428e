"""Rollouts on Redis: each on the keys of its own tag."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from orchestrator.model.decision import Refusal
from orchestrator.model.ids import AttemptId, FleetTime, RolloutId
from orchestrator.model.rollout import Rollout
from orchestrator.store.base import JournalEntry, Permitted, Reserved, Standing, Unsettled
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

    async def rollouts(self) -> Sequence[Rollout]:
        """See `base.RolloutStore`."""
        ids = await self.rollout_ids()
        documents = await asyncio.gather(
            *(self._calls.command("HGET", key(rollout_tag(rollout_id), "rollout"), "document") for rollout_id in ids)
        )
        found = [codec.decode_rollout(document) for document in documents if document is not None]
        return sorted(found, key=lambda rollout: (rollout.created_at, rollout.rollout_id), reverse=True)

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

    async def renew(self, rollout_id: RolloutId, *, permit_ceiling: int, began_ms: int, epoch: int) -> bool:
        """See `base.RolloutStore`."""
        reply = await self._calls.function(
            "renew", rollout_tag(rollout_id), self._dead_man_life_ms, permit_ceiling, began_ms, epoch
        )
        return yes(reply)

    async def reserve(
        self, rollout_id: RolloutId, attempt_id: AttemptId, *, region: str, region_max: int, total_max: int, epoch: int
    ) -> Reserved | Refusal:
        """See `base.RolloutStore`."""
        tag = rollout_tag(rollout_id)
        reply = await self._calls.function(
            "reserve", tag, attempt_id, region, region_max, total_max, epoch, self._dead_man_life_ms
        )
        return refused(reply) or Reserved()

    async def authorize(
        self,
        rollout_id: RolloutId,
        attempt_id: AttemptId,
        *,
        attempt_epoch: int,
        starts_per_minute_max: int,
        valid_ms: int,
        now: FleetTime,
    ) -> Permitted | Refusal:
        """See `base.RolloutStore`."""
        reply = await self._calls.function(
            "authorize",
            rollout_tag(rollout_id),
            attempt_id,
            attempt_epoch,
            starts_per_minute_max,
            valid_ms,
            now,
            self._dead_man_life_ms,
        )
        return refused(reply) or Permitted(permitted_at=FleetTime(number(reply)))

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

    async def unsettled(self, rollout_id: RolloutId, *, older_than_ms: int) -> Unsettled:
        """See `base.RolloutStore`."""
        reply = await self._calls.function("unsettled", rollout_tag(rollout_id), older_than_ms, UNSETTLED_MAX)
        reservations: list[AttemptId] = []
        permits: dict[AttemptId, FleetTime] = {}
        for index in range(1, len(reply), 3):
            kind, attempt_id, permitted_at = reply[index : index + 3]
            if kind == b"s":
                reservations.append(AttemptId(attempt_id.decode()))
            else:
                permits[AttemptId(attempt_id.decode())] = FleetTime(int(permitted_at))
        return Unsettled(reservations=reservations, permits=permits)

    async def standing(self, rollout_id: RolloutId, *, now: FleetTime) -> Standing:
        """See `base.RolloutStore`."""
        reply = await self._calls.function("standing", rollout_tag(rollout_id), now, self._dead_man_life_ms)
        held = {reply[index].decode(): number(reply, index + 1) for index in range(5, len(reply), 2)}
        return Standing(
            in_flight={region: count for region, count in held.items() if count},
            permits=number(reply, 1),
            permit_ceiling=number(reply, 2),
            starts=number(reply, 3),
            evaluator_alive=reply[4] == b"1",
        )


def _written(rollout: Rollout) -> tuple[Argument, ...]:
    return (codec.encode_rollout(rollout), rollout.status.value, rollout.epoch, rollout.fence)


def journalled(entry: JournalEntry) -> tuple[Argument, ...]:
    """A journal entry as functions take it."""
    return (entry.kind, entry.at, codec.encode_journal_data(entry.data))
