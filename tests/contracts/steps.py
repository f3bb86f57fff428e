"""Steps that many promises begin with, through the store's own operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from orchestrator.model.attempt import Attempt, AttemptEvent, AttemptState, Control, VehicleEvent
from orchestrator.model.decision import Refusal
from orchestrator.model.fleet import Habit
from orchestrator.model.ids import AttemptId, FleetTime, ReleaseVersion, RolloutId, VehicleId
from orchestrator.model.rollout import Rollout
from orchestrator.model.vehicle import DirectorState, SignedSnapshot
from orchestrator.store.base import Applied, Attestation, JournalEntry, Store
from tests.builders import (
    DAY_MS,
    HOUR_MS,
    NOW,
    a_cell,
    a_permit_request,
    a_rollout,
    a_slot_request,
    a_vehicle,
    an_attempt,
)

SPRING = RolloutId("spring")
V1 = VehicleId("v-1")
DIRECTOR = DirectorState(
    version=7,
    issued_at=NOW,
    timestamp_version=9,
    timestamp_issued_at=NOW,
    release=ReleaseVersion("1.1.0"),
    snapshot=SignedSnapshot(version=8, length_bytes=431, sha256="ab" * 32, assignment="cd" * 8),
)


def entry(kind: str = "rollout_changed", **data: str) -> JournalEntry:
    """A decision's journal entry."""
    return JournalEntry(stream="", entry_id="", kind=kind, at=NOW, data={"rollout_id": "spring", **data})


async def running(
    store: Store, rollout: Rollout | None = None, *, permit_ceiling: int = 1000, grant_ceiling: int = 1000
) -> Rollout:
    """A rollout in the store whose evaluator is alive."""
    created = await store.create_rollout(rollout or a_rollout(), entry("rollout_created"))
    assert await renew(
        store,
        created.rollout_id,
        permit_ceiling=permit_ceiling,
        grant_ceiling=grant_ceiling,
        epoch=created.epoch,
    )
    return created


async def renew(
    store: Store,
    rollout_id: RolloutId = SPRING,
    *,
    permit_ceiling: int,
    grant_ceiling: int = 1000,
    epoch: int = 1,
    began_ms: int | None = None,
) -> bool:
    """A sign of life of an evaluator whose tick ends now, and began now unless told otherwise."""
    clock = await store.clock(origin=NOW, scale=1.0)
    return await store.renew(
        rollout_id,
        permit_ceiling=permit_ceiling,
        grant_ceiling=grant_ceiling,
        began_ms=clock.machine_ms if began_ms is None else began_ms,
        epoch=epoch,
    )


async def assigned(store: Store, attempt: Attempt | None = None) -> Attempt:
    """An attempt on its vehicle's shard; the vehicle is imported if it is not there."""
    attempt = attempt or an_attempt()
    if await store.vehicle(attempt.vehicle_id) is None:
        cell = attempt.cell
        vehicle = a_vehicle(attempt.vehicle_id, region=cell.region, hardware=cell.hardware, cohort=cell.cohort)
        await store.import_vehicles([vehicle], now=NOW)
    record = await store.vehicle(attempt.vehicle_id)
    assert record is not None
    expected = record.director.timestamp_version
    answer = await store.assign(attempt, DIRECTOR, expected_timestamp_version=expected)
    assert isinstance(answer, Applied), answer
    return attempt


async def permitted(
    store: Store, attempt: Attempt | None = None, *, at: FleetTime = NOW, paired: bool = True
) -> Attempt:
    """An exposed attempt, PERMITTED at a fleet time."""
    attempt = await assigned(store, attempt)
    await tell(store, attempt, AttemptEvent.DOWNLOAD_FINISHED, now=at)
    answer = await store.permit(attempt.attempt_id, permitted_at=at, paired=paired)
    assert isinstance(answer, Applied), answer
    return attempt


async def tell(
    store: Store, attempt: Attempt, *events: AttemptEvent, now: FleetTime = NOW, failure_code: str = ""
) -> Applied:
    """The vehicle reports events about the attempt, numbered after what is acknowledged."""
    record = await store.vehicle(attempt.vehicle_id)
    assert record is not None
    first = record.acknowledged_number + 1
    return await store.apply(
        attempt.vehicle_id,
        outbox_id=record.outbox_id or "box",
        oldest_number=first,
        events=[
            VehicleEvent(number=first + index, attempt_id=attempt.attempt_id, event=event, failure_code=failure_code)
            for index, event in enumerate(events)
        ],
        now=now,
    )


def a_manifest(
    attempt: Attempt | None = None, *, counter: int = 1, event: AttemptEvent | None = None, installed: str = "1.1.0"
) -> Attestation:
    """A verified manifest."""
    return Attestation(
        sha256=f"{counter:064x}",
        counter=counter,
        content=b"manifest \x00\xff %d" % counter,
        installed=ReleaseVersion(installed),
        attempt_id=attempt.attempt_id if attempt else None,
        event=event,
    )


def a_control(vehicle_id: str = "v-1", **changes: Any) -> Control:
    """A vehicle that calls often and waits, as it would be watched since NOW."""
    control = Control(
        rollout_id=SPRING,
        vehicle_id=VehicleId(vehicle_id),
        cell=a_cell(),
        habit=Habit.OFTEN,
        enrolled_at=NOW,
        checkpoints_ms=(DAY_MS, 3 * DAY_MS),
        habit_ages_ms=(6 * HOUR_MS,),
    )
    return replace(control, **changes)


async def state_of(store: Store, attempt: Attempt) -> AttemptState:
    """Where an attempt stands now."""
    found = {one.attempt_id: one for one in await store.attempts(attempt.vehicle_id)}
    return found[attempt.attempt_id].state


async def sweep_all(
    store: Store, now: FleetTime, *, fences: dict[str, int] | None = None, dark: Sequence[str] = ()
) -> int:
    """Handle everything that is due on every shard."""
    handled = 0
    shards: Sequence[int] = range(store.shards)
    while shards:
        swept = await store.sweep(shards, now=now, fences=fences or {}, dark=dark, batch=3)
        handled += sum(each.handled for each in swept)
        shards = [shard for shard, each in zip(shards, swept, strict=True) if each.handled == 3]
    return handled


async def entries(store: Store, *kinds: str) -> list[JournalEntry]:
    """Journal entries of all shards, of some kinds or of any."""
    found: list[JournalEntry] = []
    for stream in await store.journal_streams():
        if stream.startswith("shard/"):
            found += await store.journal(stream, after="", count=10_000)
    return [one for one in found if not kinds or one.kind in kinds]


async def reserve(store: Store, attempt_id: str, *, rollout_id: RolloutId = SPRING, **asked: Any) -> object:
    """Reserve with wide limits, in eu."""
    return await store.reserve(rollout_id, AttemptId(attempt_id), a_slot_request(**asked))


async def authorize(
    store: Store,
    attempt_id: str,
    *,
    epoch: int = 1,
    starts: int = 1000,
    rollout_id: RolloutId = SPRING,
    reserved: bool = False,
    **asked: Any,
) -> object:
    """Authorize with wide limits, in eu; after a reservation with wide limits, unless the test has `reserved`."""
    if not reserved:
        epochs = {each.rollout_id: each.epoch for each in await store.rollouts()}
        where = {name: asked[name] for name in ("region", "cell", "now") if name in asked}
        slot = a_slot_request(epoch=epochs.get(rollout_id, 1), **where)
        await store.reserve(rollout_id, AttemptId(attempt_id), slot)
    request = a_permit_request(attempt_epoch=epoch, starts_per_minute_max=starts, **asked)
    return await store.authorize(rollout_id, AttemptId(attempt_id), request)


def reason(answer: object) -> str:
    """The reason of a refusal; anything else is a failure of the test."""
    assert isinstance(answer, Refusal), answer
    assert answer.message
    return answer.reason.value


def next_epoch(rollout: Rollout, **changes: object) -> Rollout:
    """The rollout after a transition."""
    return replace(rollout, epoch=rollout.epoch + 1, **changes)  # type: ignore[arg-type]
