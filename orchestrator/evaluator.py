"""The loop that sums counters, asks the gate, and makes transitions.

A tick: carry the journal to the ledger, handle what is due, settle what a crash left between the rollouts' keys and
the vehicles' shards, judge each rollout, make transitions by compare-and-set, and only then, as its last act, renew
the dead-man. A tick that fails anywhere renews nothing: grants and permits stop by themselves ten seconds after the
last whole one. A second evaluator is harmless: compare-and-set decides. After an absence of our own nothing is handled
as due before vehicles had the time to call again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from orchestrator.clock import FleetClock, MachineClock
from orchestrator.engine import pins
from orchestrator.engine.gates import judge_rollout
from orchestrator.engine.outage import is_dark
from orchestrator.engine.progress import Illegal, Judged, step
from orchestrator.ledger import LedgerError
from orchestrator.model.decision import Refusal, RefusalReason
from orchestrator.model.fleet import OTHER, Profile
from orchestrator.model.ids import AttemptId, FleetTime, ReleaseVersion, RolloutId
from orchestrator.model.release import Release
from orchestrator.model.rollout import Rollout
from orchestrator.model.tally import CellTallies
from orchestrator.service.absence import Absence
from orchestrator.service.decisions import decision_entry
from orchestrator.service.gauges import show_fleet, show_rollout, show_tick
from orchestrator.service.ledger_feed import LedgerFeed
from orchestrator.service.on_halt import RevertProposer
from orchestrator.service.pausing import pause_unproven
from orchestrator.service.seldom import Seldom
from orchestrator.service.successors import end_superseded
from orchestrator.service.unreached import Unreached
from orchestrator.store.base import ContactRate, Store, StoreError, Unsettled
from orchestrator.store.streams import position, rollout_stream
from orchestrator.telemetry import Metrics

log = structlog.get_logger()

UNSETTLED_AFTER_MS = 5_000
"""Machine time after which a reservation or permit that no shard confirmed is looked into, and between such looks."""
CONTACTS_EVERY_MS = 60_000
"""Fleet time between looks at how many vehicles call: half hours are compared."""
SWEEP_BATCH = 256
UNNOTICED_S = 15.0
SHOWN_MS = 14 * 24 * 3600 * 1000
"""Fleet time that a rollout is still judged, and shown in metrics, after it was over."""
SHOWN_OVER_MAX = 8
"""Of those, the latest that are shown: each has some two hundred series."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What one tick sees of the whole fleet."""

    tallies: Mapping[RolloutId, CellTallies]
    profiles: Mapping[Profile, int]
    open_cases: Mapping[RolloutId, int]
    releases: Mapping[ReleaseVersion, Release]
    rates: Mapping[str, ContactRate]
    """Calls by region; empty at most ticks, and while a silence may be our own."""
    unsettled: Mapping[RolloutId, Unsettled]
    """What a crash left between a rollout's keys and the shards, where there was a look for it."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Most permits of a rollout in all, as judged."""

    permits: int
    grants: int
    """Most slots without a permit at once."""
    epoch: int
    """Of the rollout after the tick's own transition: under any other this says nothing."""


class Evaluator:
    """Ticks.

    Args:
        store: judged and committed to.
        feed: journal to ledger.
        clock: fleet time, re-anchored each tick.
        machine: between ticks.
        metrics: gauges of rollouts are set here, once a tick.
        origin: fleet time at the first start.
        scale: of the fleet clock at the first start.
        reachable: whether vehicles can call; while they cannot, their silence is ours.
        unnoticed_s: machine time between two ticks beyond which vehicles could not be heard, whatever the cause.
    """

    def __init__(
        self,
        *,
        store: Store,
        feed: LedgerFeed,
        clock: FleetClock,
        machine: MachineClock,
        metrics: Metrics,
        origin: FleetTime,
        scale: float,
        reachable: Callable[[], bool] = lambda: True,
        unnoticed_s: float = UNNOTICED_S,
    ) -> None:
        self._store = store
        self._feed = feed
        self._clock = clock
        self._machine = machine
        self._metrics = metrics
        self._origin = origin
        self._scale = scale
        self._reachable = reachable
        self._unnoticed_s = unnoticed_s
        self._shown: set[RolloutId] = set()
        self._absence = Absence()
        self._unreached = Unreached()
        self._unsettled_looks, self._contact_looks = Seldom(UNSETTLED_AFTER_MS), Seldom(CONTACTS_EVERY_MS)
        self._reverts = RevertProposer(store=store, clock=clock, machine=machine)
        self._gaps: set[str] = set()
        """What is known to be missing."""
        self._unproven = ""
        """Why rollouts have to be paused, while they are not yet; empty otherwise."""

    async def recover(self) -> str:
        """After a start: pause every running rollout unless nothing can be missing; why, or empty.

        Raises:
            StoreError: the store did not answer.
        """
        self._absence.resume(await self._last_recorded())
        return await self._pause_unproven()

    async def _pause_unproven(self) -> str:
        """Pause every running rollout when something is missing from the store that was not missing before."""
        gaps = await self._feed.gaps()
        fresh = sorted(gaps.keys() - self._gaps)
        self._gaps = set(gaps)
        if fresh:
            # Kept until it is answered: what is written meanwhile closes the gap, and the store may fail in between.
            more = f", and {len(fresh) - 1} more" if len(fresh) > 1 else ""
            self._unproven = gaps[fresh[0]] + more
        reason = self._unproven
        if reason:
            for rollout in await self._store.rollouts():
                lacks = rollout_stream(rollout.rollout_id) in gaps
                lost = await self._feed.last_decision(rollout.rollout_id) if lacks else {}
                await pause_unproven(self._store, rollout, reason, self._now(), lost)
            await self._feed.accept()
            self._unproven = ""
        return reason

    async def run(self, tick_s: float) -> None:
        """Tick for ever; a failed tick is logged, and the next one tries again."""
        while True:
            began_ms = self._machine.monotonic_ms()
            try:
                await self.tick()
            except (StoreError, LedgerError) as error:
                part = "store" if isinstance(error, StoreError) else "ledger"
                self._metrics.evaluator_failures.labels(part=part).inc()
                log.error("tick_failed", error=str(error))
            except Exception:
                self._metrics.evaluator_failures.labels(part="defect").inc()
                # A defect, perhaps of one rollout's numbers: the service goes on for all that needs no judgement.
                log.exception("tick_failed")
            else:
                self._metrics.evaluator_last_tick.set(self._machine.wall_ms() / 1000)
            elapsed_s = (self._machine.monotonic_ms() - began_ms) / 1000
            self._metrics.evaluator_tick.observe(elapsed_s)
            self._metrics.journal_lag.set(self._feed.waiting)
            await self._machine.sleep(max(0.0, tick_s - elapsed_s))

    async def tick(self) -> None:
        """One whole look.

        Raises:
            StoreError: the store did not answer; the dead-man is not renewed.
            LedgerError: the ledger did not take the journal; the dead-man is not renewed.
        """
        try:
            await self._tick()
        except StoreError:
            self._absence.begin()
            raise
        if self._reachable():
            self._absence.hear(self._now())

    async def _tick(self) -> None:
        clock = await self._store.clock(origin=self._origin, scale=self._scale)
        self._clock.synchronise(clock.machine_ms)
        hears = self._hears()
        marks = await self._feed.marks()
        look, everything = await asyncio.gather(self._feed.look(marks), self._store.rollouts())
        if self._unproven or not look.proven:
            await self._pause_unproven()
            everything = await self._store.rollouts()
        else:
            self._gaps.clear()
        carried = await self._feed.run_once(look)
        if hears:
            await self._sweep(everything)
        await end_superseded(self._store, everything, self._now())
        await self._reverts.look(everything)
        rollouts = self._recent(everything)
        picture = await self._picture(rollouts, hears=hears)
        ceilings = {}
        for rollout in rollouts:
            ceiling = await self._look_at(rollout, picture)
            if ceiling is not None:
                ceilings[rollout.rollout_id] = ceiling
        show_fleet(self._metrics, profiles=picture.profiles, open_cases=picture.open_cases, rollouts=rollouts)
        show_tick(self._metrics, fleet_now=self._now(), carried=carried)
        # The last act: whatever failed above, grants and permits stop by themselves. Together, so that the store syncs
        # once for all.
        await asyncio.gather(
            *(
                self._store.renew(
                    rollout_id,
                    permit_ceiling=ceiling.permits,
                    grant_ceiling=ceiling.grants,
                    began_ms=clock.machine_ms,
                    epoch=ceiling.epoch,
                )
                for rollout_id, ceiling in ceilings.items()
            )
        )

    async def _picture(self, rollouts: Sequence[Rollout], *, hears: bool) -> Picture:
        regions: Sequence[str] = ()
        if hears and self._contact_looks.due(self._now()):
            regions = sorted({region for rollout in rollouts if not rollout.status.over for region in rollout.regions})
        ids = [rollout.rollout_id for rollout in rollouts]
        looked_into = ids if self._unsettled_looks.due(self._machine.monotonic_ms()) else []
        # Asked together, so that it is one round trip; nested, as a type checker knows no longer ones.
        (tallies, profiles, open_cases), (releases, rates), unsettled = await asyncio.gather(
            asyncio.gather(self._store.tallies(ids), self._store.profiles(), self._store.open_cases()),
            asyncio.gather(self._store.releases(), self._store.contacts(regions, now=self._now())),
            self._store.unsettled(looked_into, older_than_ms=UNSETTLED_AFTER_MS),
        )
        return Picture(
            tallies=tallies,
            profiles=profiles,
            open_cases=open_cases,
            releases={release.version: release for release in releases},
            rates=rates,
            unsettled=unsettled,
        )

    async def _look_at(self, rollout: Rollout, picture: Picture) -> Ceiling | None:
        """Settle and judge one rollout; its permit ceiling, None when that failed: only its own dead-man runs out."""
        try:
            if unsettled := picture.unsettled.get(rollout.rollout_id):
                await self._settle(rollout, unsettled)
            swapped = pins.changed(rollout, picture.releases.get(rollout.plan.release))
            if swapped and rollout.status.begun and not rollout.status.over:
                # Neither promoted nor granted nor permitted: nobody reviewed what is registered now.
                await pause_unproven(self._store, rollout, swapped, self._now())
                return None
            return await self._judge(rollout, picture)
        except StoreError:
            raise
        except Exception:
            log.exception("rollout_failed", rollout_id=rollout.rollout_id)
            return None

    def _hears(self) -> bool:
        """Whether a vehicle that is silent now is silent by itself."""
        self._absence.notice(self._now(), longest_ms=self._clock.to_fleet(self._unnoticed_s))
        if not self._reachable():
            self._absence.begin()
            return False
        if away_ms := self._absence.end(self._now()):
            log.info("absence_ended", fleet_ms=away_ms)
        return not self._absence.listens(self._now())

    def _recent(self, rollouts: Sequence[Rollout]) -> Sequence[Rollout]:
        """Rollouts worth judging and showing; of those that have been over for long nothing is kept here."""
        now = self._now()
        recent = [rollout for rollout in rollouts if not rollout.status.over or now - rollout.updated_at < SHOWN_MS]
        over = sorted((each for each in recent if each.status.over), key=lambda each: -each.updated_at)
        names = {rollout.rollout_id for rollout in recent} - {each.rollout_id for each in over[SHOWN_OVER_MAX:]}
        for rollout_id in self._shown - names:
            self._metrics.drop_rollout(rollout_id)
        self._unreached.keep([rollout.rollout_id for rollout in recent if not rollout.status.over])
        self._shown = names
        return recent

    async def _last_recorded(self) -> FleetTime | None:
        """Fleet time of the last thing that the store's journal knows of; None when it is empty."""
        marks = [await self._store.journal_mark(stream) for stream in await self._store.journal_streams()]
        latest_ms = max((position(mark)[0] for mark in marks if mark), default=None)
        if latest_ms is None:
            return None
        return FleetTime(self._now() - self._clock.to_fleet((self._clock.store_ms() - latest_ms) / 1000))

    async def _sweep(self, rollouts: Sequence[Rollout]) -> None:
        fences = fences_of(rollouts)
        dark = dark_regions(rollouts)
        shards: Sequence[int] = range(self._store.shards)
        while shards:
            now = self._now()
            swept = await self._store.sweep(shards, now=now, fences=fences, dark=dark, batch=SWEEP_BATCH)
            shards = [shard for shard, result in zip(shards, swept, strict=True) if result.handled == SWEEP_BATCH]

    async def _settle(self, rollout: Rollout, unsettled: Unsettled) -> None:
        known: list[AttemptId] = []
        lost: list[AttemptId] = []
        for attempt_id in unsettled.reservations:
            (known if await self._store.resolve(attempt_id) else lost).append(attempt_id)
        permitted: list[AttemptId] = []
        over: list[AttemptId] = []
        for attempt_id, permit in unsettled.permits.items():
            answer = await self._store.permit(
                attempt_id, permitted_at=permit.permitted_at, offline_ms=permit.offline_ms, paired=permit.paired
            )
            # Over and never exposed is the last word: its place in the budget is another's. Any other refusal leaves a
            # doubt, and keeps the place: every doubt admits fewer.
            ended = isinstance(answer, Refusal) and answer.reason is RefusalReason.ATTEMPT_OVER
            (over if ended else permitted).append(attempt_id)
            if isinstance(answer, Refusal):
                log.warning("orphan_permit", rollout_id=rollout.rollout_id, attempt_id=attempt_id, why=answer.message)
        if known or permitted:
            await self._store.confirm(rollout.rollout_id, reservations=known, permits=permitted)
        if over:
            await self._store.forfeit(rollout.rollout_id, over)
        if lost:
            await self._store.release(rollout.rollout_id, lost)
            log.warning("reservations_lost", rollout_id=rollout.rollout_id, count=len(lost))

    async def _judge(self, rollout: Rollout, picture: Picture) -> Ceiling:
        """Judge, make the transition that follows, and return both ceilings."""
        epoch = rollout.epoch
        cells = picture.tallies.get(rollout.rollout_id, {})
        unreached = self._unreached.of(rollout, picture.profiles, picture.releases)
        now = self._now()
        judgement = judge_rollout(rollout, cells, unreached, now)
        if rollout.rollout_id in self._shown:
            show_rollout(self._metrics, rollout, cells, judgement=judgement, waiting=unreached)
        if rollout.status.over:
            return Ceiling(judgement.permit_ceiling, judgement.grant_ceiling, epoch)
        dark = darkened(rollout, picture.rates, now)
        event = Judged(judgement=judgement, cells=cells, waiting=unreached, dark=dark)
        changed = step(rollout, event, now)
        if not isinstance(changed, Illegal) and changed.changed:
            entry = decision_entry(changed.rollout, changed.kind, changed.data)
            won = await self._store.transition(changed.rollout, expected_epoch=rollout.epoch, decision=entry)
            epoch = changed.rollout.epoch if won else epoch
            log.info(
                "rollout_changed" if won else "transition_lost",
                rollout_id=rollout.rollout_id,
                status=changed.rollout.status.value,
                epoch=changed.rollout.epoch,
                reason=changed.rollout.reason,
            )
        return Ceiling(judgement.permit_ceiling, judgement.grant_ceiling, epoch)

    def _now(self) -> FleetTime:
        return FleetTime(self._clock.now())


def fences_of(rollouts: Sequence[Rollout]) -> Mapping[str, int]:
    """The fences of rollouts and of their parts, by scope as `sweep` takes them."""
    fences: dict[str, int] = {rollout.rollout_id: rollout.fence for rollout in rollouts if rollout.fence}
    for rollout in rollouts:
        parts = dict(rollout.fences)
        if others := parts.get(str(OTHER), 0):
            # What has no entry of its own shares the fence of the others; what is judged apart must not.
            parts = {scope: max(fence, others) if "/" in scope else fence for scope, fence in parts.items()}
            parts |= {scope: rollout.fences.get(scope, 0) for scope in rollout.apart}
        fences |= {f"{rollout.rollout_id}|{scope}": fence for scope, fence in parts.items()}
    return fences


def darkened(rollout: Rollout, rates: Mapping[str, ContactRate], now: FleetTime) -> frozenset[str]:
    """The regions of a rollout that are dark now; those of which nothing is known stay as they are."""
    dark = {region: progress.dark_since is not None for region, progress in rollout.regions.items()}
    for region in dark.keys() & rates.keys():
        since = rollout.regions[region].dark_since
        dark_ms = None if since is None else now - since
        dark[region] = is_dark(rates[region].recent, rates[region].day_before, dark_ms=dark_ms)
    return frozenset(region for region, is_so in dark.items() if is_so)


def dark_regions(rollouts: Sequence[Rollout]) -> Sequence[str]:
    """Regions whose network seems to be down, by any rollout that is not over; a person who resumed one is believed."""
    return sorted(
        {
            region
            for rollout in rollouts
            if not rollout.status.over
            for region, progress in rollout.regions.items()
            if progress.dark_since is not None and any(brake.scope == region for brake in rollout.brakes)
        }
    )
