"""Defects made on purpose: each must break a promise within a few seeds, or the simulation proves nothing.

A mutant is what a tired developer could write. The word behind it is part of what the witness says of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from agent_sim import steps
from agent_sim.clearance import Clearance
from orchestrator.engine import progress
from orchestrator.evaluator import Evaluator
from orchestrator.model.ids import RolloutId
from orchestrator.model.rollout import Rollout
from orchestrator.service.permits import PermitDesk
from orchestrator.store.memory.counts import RolloutCounts
from orchestrator.store.memory.places import Places
from orchestrator.store.memory.rollout import RolloutKeys
from orchestrator.store.memory.rollouts import MemoryRollouts
from orchestrator.store.memory.shard import Shard
from orchestrator.store.refusals import REFUSED_BY_STATUS, refusal
from tests.sim.limits import BrokenPromiseError
from tests.sim.run import run_seed

WITHIN = 60
"""Seeds in which a mutant must be found."""

Mutant = Callable[[pytest.MonkeyPatch], None]


def ceiling_ignored(patch: pytest.MonkeyPatch) -> None:
    """A permit costs nothing."""
    renew = MemoryRollouts.renew

    async def generous(self: MemoryRollouts, rollout_id: RolloutId, *, permit_ceiling: int, **kwargs: Any) -> bool:
        return await renew(self, rollout_id, permit_ceiling=permit_ceiling + 5, **kwargs)

    patch.setattr(MemoryRollouts, "renew", generous)


def dead_man_ignored(patch: pytest.MonkeyPatch) -> None:
    """Grants and permits go on without an evaluator."""
    patch.setattr(RolloutKeys, "_dead_man_refusal", lambda _: None)


def renewed_first(patch: pytest.MonkeyPatch) -> None:
    """The sign of life comes before the work."""
    tick = Evaluator._tick

    async def hasty(self: Evaluator) -> None:
        clock = await self._store.clock(origin=self._origin, scale=self._scale)
        for rollout in await self._store.rollouts():
            standing = await self._store.standing(rollout.rollout_id, now=self._now())
            ceilings = {name: getattr(standing, name) for name in ("permit_ceiling", "grant_ceiling")}
            await self._store.renew(rollout.rollout_id, began_ms=clock.machine_ms, epoch=rollout.epoch, **ceilings)
        await tick(self)

    patch.setattr(Evaluator, "_tick", hasty)


def events_applied_again(patch: pytest.MonkeyPatch) -> None:
    """A repeated event is news."""
    apply = Shard.apply

    def forgetful(self: Shard, vehicle_id: Any, *args: Any) -> Any:
        record = self.records.get(vehicle_id)
        if record is not None:
            self.records[vehicle_id] = replace(record, acknowledged_number=0)
        return apply(self, vehicle_id, *args)

    patch.setattr(Shard, "apply", forgetful)


def deadlines_counted_twice(patch: pytest.MonkeyPatch) -> None:
    """A counter moves, and moves again."""
    add = RolloutCounts.add

    def twice(self: RolloutCounts, rollout_id: RolloutId, field: str, amount: int) -> None:
        add(self, rollout_id, field, amount * 2 if field.endswith("|timed_out") else amount)

    patch.setattr(RolloutCounts, "add", twice)


def swapped_without_comparing(patch: pytest.MonkeyPatch) -> None:
    """Whoever comes last wins: a stale evaluator undoes what people decided."""
    transition = MemoryRollouts.transition

    async def rude(self: MemoryRollouts, rollout: Rollout, *, expected_epoch: int, decision: Any) -> bool:
        standing = self._rollouts[rollout.rollout_id].rollout.epoch
        return await transition(self, rollout, expected_epoch=standing, decision=decision)

    patch.setattr(MemoryRollouts, "transition", rude)


def fence_left_down(patch: pytest.MonkeyPatch) -> None:
    """An abort forgets those that were granted before."""
    step = progress.step

    def careless(rollout: Rollout, *args: Any) -> Any:
        made = step(rollout, *args)
        return replace(made, rollout=replace(made.rollout, fence=rollout.fence)) if hasattr(made, "rollout") else made

    patch.setattr("orchestrator.service.rollouts.step", careless)


def slots_returned_early(patch: pytest.MonkeyPatch) -> None:
    """A reservation that nobody confirmed is taken for lost, though the vehicle has it."""
    patch.setattr(Shard, "resolve", lambda *_: False)


def slots_never_returned(patch: pytest.MonkeyPatch) -> None:
    """What a crash left between two keys stays there."""

    async def blind(*_: object) -> None:
        return None

    patch.setattr(Evaluator, "_settle", blind)


def permit_told_before_it_is_counted(patch: pytest.MonkeyPatch) -> None:
    """The vehicle hears of a permit that only the worker knows."""
    authorize = PermitDesk.authorize

    async def eager(self: PermitDesk, vehicle_id: Any, wanted: Any, **kwargs: Any) -> Any:
        answer = await authorize(self, vehicle_id, wanted, **kwargs)
        if answer.refusal is None or answer.retry_after_ms is None:
            return answer
        return replace(answer, refusal=None, valid_ms=60_000)

    patch.setattr(PermitDesk, "authorize", eager)


def events_forgotten_unheard(patch: pytest.MonkeyPatch) -> None:
    """An agent takes any answer for an acknowledgement of everything."""
    acknowledge = steps.acknowledge

    def trusting(state: Any, number: int) -> Any:
        del number
        return acknowledge(state, state.outbox.next_number - 1)

    patch.setattr(steps, "acknowledge", trusting)


def permit_counted_from_its_answer(patch: pytest.MonkeyPatch) -> None:
    """An agent takes a permit for fresh that was long on its way."""
    answered = Clearance.permit_answered

    def late(self: Clearance, state: Any, reply: Any, *, asked_at: int, now: int) -> Any:
        del asked_at
        return answered(self, state, reply, asked_at=now, now=now)

    patch.setattr(Clearance, "permit_answered", late)


def verdict_from_memory(patch: pytest.MonkeyPatch) -> None:
    """A judgement that depends on more than its inputs cannot be made again."""
    judge = progress.regions.walk
    seen: list[RolloutId] = []

    def moody(region: Any, now: Any) -> Any:
        seen.append(region.rollout.rollout_id)
        return judge(region, now) if len(seen) % 7 else None

    patch.setattr(progress.regions, "walk", moody)


def bandwidth_ignored(patch: pytest.MonkeyPatch) -> None:
    """A grant asks for a slot and forgets its bytes."""
    patch.setattr("orchestrator.service.grants.transfer_ms", lambda *_: 0)


def place_not_given_up(patch: pytest.MonkeyPatch) -> None:
    """Another rollout has taken its place, and it goes on granting."""

    async def forget(*_: object) -> None:
        return None

    patch.setattr("orchestrator.service.rollouts.end_superseded", forget)
    patch.setattr("orchestrator.evaluator.end_superseded", forget)


def brake_on_a_part_ignored(patch: pytest.MonkeyPatch) -> None:
    """Only the status of the whole counts."""
    patch.setattr(RolloutKeys, "_standstill", _by_status_alone)
    patch.setattr("orchestrator.engine.admission._status", lambda _: None)


def place_kept_aside(patch: pytest.MonkeyPatch) -> None:
    """Who waits by a coin keeps what it holds, and others wait for that."""
    patch.setattr(Places, "stand_aside", lambda *_: None)


def _by_status_alone(self: RolloutKeys, _: object) -> Any:
    reason = REFUSED_BY_STATUS.get(self.rollout.status)
    facts = {"rollout_id": self.rollout.rollout_id, "status": self.rollout.status.value}
    return refusal(reason, facts) if reason else None


# What the witness says of it, and the seed that found it last.
MUTANTS: tuple[tuple[Mutant, str, int], ...] = (
    (ceiling_ignored, "ceiling", 3),
    (dead_man_ignored, "after the last finished tick", 1),
    (renewed_first, "last act of a tick", 2),
    (events_applied_again, "new events of|events are missing", 2),
    (deadlines_counted_twice, "recount", 2),
    (swapped_without_comparing, "epoch", 21),
    (fence_left_down, "earlier grants live on", 1),
    (slots_returned_early, "returned, which is|granted without a slot", 81),
    (slots_never_returned, "held by nobody|unsettled for ever", 5),
    (permit_told_before_it_is_counted, "installs without a permit|after a permit for", 5),
    (events_forgotten_unheard, "which nobody has", 1),
    (permit_counted_from_its_answer, "after a permit for", 1),
    (verdict_from_memory, "replayed", 3),
    (bandwidth_ignored, "bandwidth of", 1),
    (place_not_given_up, "has taken its place", 6),
    (brake_on_a_part_ignored, "while .* is paused", 2),
    (place_kept_aside, "slots, places and permits .* aside", 3),
)


def first_found(seeds: Iterable[int]) -> tuple[int, str]:
    """The first seed that breaks a promise, and what it says."""
    for seed in seeds:
        try:
            run_seed(seed)
        except BrokenPromiseError as broken:
            return seed, str(broken)
    return -1, "nothing was found"


@pytest.mark.parametrize(("mutant", "said", "found_before"), MUTANTS, ids=[mutant.__name__ for mutant, *_ in MUTANTS])
def test_a_defect_is_found_within_a_few_seeds(
    mutant: Mutant, said: str, found_before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watcher that never sees anything is no comfort. The seed that found it last is tried first, to save time."""
    mutant(monkeypatch)
    seed, found = first_found([found_before, *range(1, WITHIN)])
    print(f"seed {seed}: {found}")
    assert re.search(said, found), found
