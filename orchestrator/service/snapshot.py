"""What every worker knows by heart: rollouts, releases, revocations and repository files, read anew twice a second.

A snapshot answers "nothing for this vehicle" without the store. It may be stale: whoever acts on it commits by epoch,
and the store refuses a stale one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from orchestrator.clock import FleetClock
from orchestrator.engine.admission import Candidate
from orchestrator.engine.targets import CompiledTarget, compile_plan
from orchestrator.model.attempt import Attempt
from orchestrator.model.ids import FleetTime, ReleaseVersion, RolloutId, VehicleId
from orchestrator.model.release import Release
from orchestrator.model.rollout import Rollout
from orchestrator.store.base import FleetStore, RolloutStore, StoreError

log = structlog.get_logger()

REFRESH_S = 0.5


class SnapshotStore(RolloutStore, FleetStore, Protocol):
    """The part of the store that a snapshot reads."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One consistent-enough view."""

    rollouts: Mapping[RolloutId, Rollout]
    """Every rollout, newest first."""
    candidates: Sequence[Candidate]
    """Rollouts that were started and are not over, oldest first, ready to be considered."""
    releases: Mapping[ReleaseVersion, Release]
    revoked: frozenset[VehicleId]

    def fence_of(self, attempt: Attempt) -> int:
        """The fence under which an attempt stands, of its rollout or its part; 0 when that is not known here yet."""
        rollout = self.rollouts.get(attempt.rollout_id)
        return rollout.fence_of(attempt.cell.stratum) if rollout else 0


EMPTY = Snapshot(rollouts={}, candidates=(), releases={}, revoked=frozenset())


async def read_snapshot(store: SnapshotStore, previous: Snapshot = EMPTY) -> Snapshot:
    """Read a snapshot; compiled targets are taken from `previous` while the releases are the same."""
    rollouts = await store.rollouts()
    releases = {release.version: release for release in await store.releases()}
    compiled: dict[RolloutId, CompiledTarget] = {}
    if releases == previous.releases:
        compiled = {candidate.rollout.rollout_id: candidate.target for candidate in previous.candidates}
    candidates = [
        Candidate(
            rollout=rollout,
            release=releases.get(rollout.plan.release),
            target=compiled.get(rollout.rollout_id) or compile_plan(rollout.plan, releases.values()),
        )
        for rollout in reversed(rollouts)
        if rollout.status.begun and not rollout.status.over
    ]
    return Snapshot(
        rollouts={rollout.rollout_id: rollout for rollout in rollouts},
        candidates=tuple(candidates),
        releases=releases,
        revoked=await store.revoked(),
    )


class SnapshotKeeper:
    """Holds the current snapshot and keeps it and the fleet clock fresh.

    Args:
        store: where from.
        clock: re-anchored at each refresh.
        origin: fleet time at the first start of this data set.
        scale: of the fleet clock at the first start.
    """

    def __init__(self, store: SnapshotStore, clock: FleetClock, *, origin: FleetTime, scale: float) -> None:
        self._store = store
        self._clock = clock
        self._origin = origin
        self._scale = scale
        self.current = EMPTY
        self.fresh = False
        """Whether the last refresh worked."""

    async def refresh(self) -> Snapshot:
        """Read once.

        Raises:
            StoreError: the store did not answer; the held snapshot stays.
        """
        try:
            self._clock.synchronise((await self._store.clock(origin=self._origin, scale=self._scale)).machine_ms)
            self.current = await read_snapshot(self._store, self.current)
        except StoreError:
            self.fresh = False
            raise
        self.fresh = True
        return self.current

    async def run(self) -> None:
        """Refresh for ever; a store that does not answer is logged once a change."""
        while True:
            was_fresh = self.fresh
            try:
                await self.refresh()
            except StoreError as error:
                if was_fresh:
                    log.warning("snapshot_stale", error=str(error))
            await asyncio.sleep(REFRESH_S)
