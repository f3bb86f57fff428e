"""Two stores at once: does the same to both and compares what they say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.model.attempt import AttemptEvent, VehicleEvent
from orchestrator.model.decision import Refusal
from orchestrator.model.fleet import OTHER, Habit
from orchestrator.model.ids import AttemptId, FleetTime, ReleaseVersion, RolloutId, VehicleId, attempt_id
from orchestrator.model.rollout import BrakeKind, RolloutStatus
from orchestrator.model.vehicle import Contact, DirectorState, Exclusion
from orchestrator.store.base import Applied, Attestation, InventoryChange, Store, Unsettled
from orchestrator.store.memory import MemoryStore
from orchestrator.store.redis import RedisStore
from tests.builders import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    NOW,
    a_brake,
    a_contact,
    a_permit_request,
    a_slot_request,
    a_vehicle,
    an_attempt,
)
from tests.contracts.steps import a_control, entry, next_epoch, sweep_all

VEHICLES = [VehicleId(name) for name in ("v-1", "v-2", "v-3")]
ROLLOUTS = [RolloutId("spring"), RolloutId("autumn")]
HABIT_AGES = {Habit.OFTEN: (HOUR_MS, 6 * HOUR_MS), Habit.UNKNOWN: ()}
EVENTS_FORWARD = (
    AttemptEvent.DOWNLOAD_STARTED,
    AttemptEvent.DOWNLOAD_FINISHED,
    AttemptEvent.PERMIT_ISSUED,
    AttemptEvent.INSTALL_STARTED,
    AttemptEvent.REBOOT_STARTED,
    AttemptEvent.VERIFY_STARTED,
)
"""The good way of an attempt; the permit among them is asked of the store."""


@dataclass
class Twins:
    """Does the same to both stores and compares what they say."""

    memory: MemoryStore
    redis: RedisStore
    now: FleetTime = NOW

    async def both(self, act: Callable[[Store], Awaitable[Any]]) -> Any:
        answers = []
        for store in (self.memory, self.redis):
            try:
                answers.append(await act(store))
            except KeyError as error:
                answers.append(repr(error))
        assert comparable(answers[0]) == comparable(answers[1])
        return answers[0]

    async def do(self, operation: tuple[Any, ...]) -> None:
        name, *arguments = operation
        await getattr(self, f"do_{name}")(*arguments)

    async def do_assign(self, vehicle_id: VehicleId, rollout_id: RolloutId, lower: int, overtaken: int = 0) -> None:
        record = await self.memory.vehicle(vehicle_id)
        last = record.tries.get(rollout_id) if record else None
        number = max(1, (last.number if last else 0) + 1 - lower)
        habit = Habit.OFTEN if number % 2 else Habit.UNKNOWN
        attempt = an_attempt(
            habit=habit,
            habit_ages_ms=HABIT_AGES[habit],
            vehicle_id=vehicle_id,
            rollout_id=rollout_id,
            number=number,
            granted_at=self.now,
            state_at=self.now,
            deadline_at=FleetTime(self.now + DAY_MS),
        )
        held = record.director.timestamp_version if record else 0
        expected = held - overtaken
        state = DirectorState(version=number, timestamp_version=held + 1)
        await self.both(lambda store: store.assign(attempt, state, expected_timestamp_version=expected))

    async def do_resolve(self, vehicle_id: VehicleId, rollout_id: RolloutId, number: int) -> None:
        await self.both(lambda store: store.resolve(attempt_id(rollout_id, vehicle_id, number)))

    async def do_walk(self, vehicle_id: VehicleId, length: int) -> None:
        """Takes the latest attempt some steps along the good way."""
        record = await self.memory.vehicle(vehicle_id)
        if record is None or record.attempt is None:
            return
        latest = record.attempt.attempt_id
        for event in EVENTS_FORWARD[:length]:
            if event is AttemptEvent.PERMIT_ISSUED:
                away_ms = HOUR_MS if length % 2 else 0
                await self.both(lambda store, ms=away_ms: self._permit(store, latest, ms))
            else:
                await self.both(lambda store, event=event: store.change(latest, event, now=self.now))

    async def do_permit(self, vehicle_id: VehicleId, rollout_id: RolloutId, number: int, offline_ms: int) -> None:
        one = attempt_id(rollout_id, vehicle_id, number)
        await self.both(lambda store: self._permit(store, one, offline_ms))

    async def _permit(self, store: Store, one: AttemptId, offline_ms: int) -> Applied | Refusal:
        """Every other one is in no trial."""
        paired = bool(self.now % 2)
        return await store.permit(one, permitted_at=self.now, offline_ms=offline_ms, paired=paired)

    async def do_apply(
        self, vehicle_id: VehicleId, outbox_id: str, shift: int, events: list[tuple[AttemptEvent, int, int]]
    ) -> None:
        record = await self.memory.vehicle(vehicle_id)
        held = record.acknowledged_number if record and record.outbox_id == outbox_id else 0
        number = max(1, held + 1 + shift)
        oldest = number if events else 0
        told_events = []
        for event, skip, attempt_number in events:
            rollout_id = ROLLOUTS[skip % 2]
            one = attempt_id(rollout_id, vehicle_id, attempt_number)
            told_events.append(
                VehicleEvent(
                    number=number, attempt_id=one, event=event, failure_code=("code", "safety_brake", "")[skip]
                )
            )
            number += 1 + skip // 2
        await self.both(
            lambda store: store.apply(
                vehicle_id, outbox_id=outbox_id, oldest_number=oldest, events=told_events, now=self.now
            )
        )

    async def do_change(self, vehicle_id: VehicleId, rollout_id: RolloutId, number: int, event: AttemptEvent) -> None:
        if event is AttemptEvent.PERMIT_ISSUED:
            return  # Only `permit` issues permits.
        one = attempt_id(rollout_id, vehicle_id, number)
        await self.both(lambda store: store.change(one, event, now=self.now, failure_code="why"))

    async def do_attest(self, vehicle_id: VehicleId, shift: int, event: AttemptEvent | None, installed: str) -> None:
        record = await self.memory.vehicle(vehicle_id)
        counter = (record.manifest_counter if record else 0) + shift
        attestation = Attestation(
            sha256=f"{counter}-{installed}",
            counter=counter,
            content=b"\x00\xff",
            installed=ReleaseVersion(installed),
            attempt_id=record.attempt.attempt_id if record and record.attempt else None,
            event=event,
        )
        await self.both(lambda store: store.attest(vehicle_id, attestation, now=self.now))

    async def do_sweep(self, step_ms: int, fences: dict[str, int], dark: tuple[str, ...]) -> None:
        self.now = FleetTime(self.now + step_ms)
        await self.both(lambda store: sweep_all(store, self.now, fences=fences, dark=dark))

    async def do_import(self, vehicle_id: VehicleId, region: str, tags: tuple[str, ...]) -> None:
        vehicle = a_vehicle(vehicle_id, region=region, tags=tags)
        await self.both(lambda store: store.import_vehicles([vehicle], now=self.now))

    async def do_direct(self, vehicle_id: VehicleId, expected: int) -> None:
        state = DirectorState(version=1, timestamp_version=expected + 1, timestamp_issued_at=self.now)
        await self.both(lambda store: store.direct(vehicle_id, state, expected_timestamp_version=expected))

    async def do_touch(self, vehicle_id: VehicleId, ill: bool, back_ms: int) -> None:
        contact = a_contact(self.now) if ill else Contact(at=FleetTime(self.now - back_ms))
        await self.both(lambda store: store.touch({vehicle_id: contact}))

    async def do_enrol(self, vehicle_id: VehicleId, rollout_id: RolloutId, habit: Habit, back_ms: int) -> None:
        control = a_control(
            vehicle_id,
            rollout_id=rollout_id,
            habit=habit,
            enrolled_at=FleetTime(self.now - back_ms),
            habit_ages_ms=HABIT_AGES[habit],
        )
        await self.both(lambda store: store.enrol(control))

    async def do_change_vehicle(self, vehicle_id: VehicleId, region: str, overtaken: bool) -> None:
        record = await self.memory.vehicle(vehicle_id)
        before = record.vehicle if record and not overtaken else a_vehicle(vehicle_id, model="X")
        change = InventoryChange(before=before, after=replace(before, region=region, zone="Europe/Berlin"))
        await self.both(lambda store: store.change_vehicles([change], actor="ann", reason="moved", now=self.now))

    async def do_remove(self, vehicle_id: VehicleId) -> None:
        await self.both(lambda store: store.remove_vehicle(vehicle_id, actor="ann", reason="sold", now=self.now))

    async def do_exclude(self, vehicle_id: VehicleId, scope: str) -> None:
        exclusion = Exclusion(scope=scope, actor="ann", reason="lemon", at=self.now)
        record = await self.memory.vehicle(vehicle_id)
        latest = record.attempt.attempt_id if record and record.attempt and not scope else None
        await self.both(lambda store: store.exclude(vehicle_id, exclusion, blamed=latest))

    async def do_readmit(self, vehicle_id: VehicleId, scope: str) -> None:
        await self.both(lambda store: store.readmit(vehicle_id, scope, actor="bob", reason="well", now=self.now))

    async def do_diagnose(self, vehicle_id: VehicleId, rollout_id: RolloutId, number: int) -> None:
        one = attempt_id(rollout_id, vehicle_id, number)
        await self.both(lambda store: store.diagnose(one, detail="U0100 of v-1-gw", now=self.now))

    async def do_close_case(self, vehicle_id: VehicleId, rollout_id: RolloutId, number: int) -> None:
        one = attempt_id(rollout_id, vehicle_id, number)
        await self.both(lambda store: store.close_case(one, actor="ann", reason="visited", now=self.now))
        await self.both(lambda store: store.case(one))

    async def do_transition(
        self, rollout_id: RolloutId, status: RolloutStatus, fence: str, brakes: list[tuple[str, BrakeKind]]
    ) -> None:
        (rollout,) = [one for one in await self.memory.rollouts() if one.rollout_id == rollout_id]
        # Mostly running, or nothing would ever be granted.
        changed = next_epoch(rollout, status=RolloutStatus.RUNNING if rollout.epoch % 2 else status)
        # One of the rollouts has more strata than can be judged each on its own.
        apart = ("eu/gen2",) if rollout_id == ROLLOUTS[-1] else ()
        brakes = [each for each in brakes if apart or each[0] != str(OTHER)]
        changed = replace(changed, apart=apart, brakes=tuple(a_brake(scope, kind) for scope, kind in brakes))
        if fence == "all":
            changed = replace(changed, fence=changed.epoch)
        elif fence != "none" and (apart or fence != str(OTHER)):
            changed = replace(changed, fences={**changed.fences, fence: changed.epoch})
        expected = rollout.epoch
        await self.both(lambda store: store.transition(changed, expected_epoch=expected, decision=entry()))

    async def do_reserve(
        self,
        vehicle_id: VehicleId,
        rollout_id: RolloutId,
        number: int,
        stale: int,
        quota: int | None,
        transfer_ms: int,
    ) -> None:
        (rollout,) = [one for one in await self.memory.rollouts() if one.rollout_id == rollout_id]
        await self.both(
            lambda store: store.reserve(
                rollout_id,
                attempt_id(rollout_id, vehicle_id, number),
                a_slot_request(
                    ("eu", "us")[number % 2],
                    region_max=2,
                    total_max=3,
                    quota=quota,
                    transfer_ms=transfer_ms,
                    epoch=rollout.epoch - stale,
                    now=self.now,
                ),
            )
        )

    async def do_release(self, vehicle_id: VehicleId, rollout_id: RolloutId, number: int) -> None:
        await self.both(lambda store: store.release(rollout_id, [attempt_id(rollout_id, vehicle_id, number)]))

    async def do_confirm(self, vehicle_id: VehicleId, rollout_id: RolloutId, number: int) -> None:
        ids = [attempt_id(rollout_id, vehicle_id, number)]
        await self.both(lambda store: store.confirm(rollout_id, reservations=ids, permits=ids))

    async def do_authorize(
        self,
        vehicle_id: VehicleId,
        rollout_id: RolloutId,
        number: int,
        old: int,
        offline_ms: int,
        quota: int | None,
        stands_aside: bool,
    ) -> None:
        (rollout,) = [one for one in await self.memory.rollouts() if one.rollout_id == rollout_id]
        if number < 3:
            # Who asks has a place, but for a late one.
            await self.do_reserve(vehicle_id, rollout_id, number, 0, None, 0)
        await self.both(
            lambda store: store.authorize(
                rollout_id,
                attempt_id(rollout_id, vehicle_id, number),
                a_permit_request(
                    ("eu", "us")[number % 2],
                    attempt_epoch=rollout.epoch - old,
                    region_max=2,
                    total_max=3,
                    starts_per_minute_max=3,
                    region_starts_per_minute_max=2,
                    valid_ms=MINUTE_MS,
                    offline_ms=offline_ms,
                    quota=quota,
                    stands_aside=stands_aside,
                    paired=number % 3 != 1,
                    now=self.now,
                ),
            )
        )

    async def do_suspend(self, vehicle_id: VehicleId, rollout_id: RolloutId, number: int, later: bool) -> None:
        one = attempt_id(rollout_id, vehicle_id, number)

        async def act(store: Store) -> None:
            # Each machine has a time of its own.
            now_ms = (await store.clock(origin=NOW, scale=1.0)).machine_ms
            await store.suspend(rollout_id, {one: now_ms + (HOUR_MS if later else -HOUR_MS)})

        await self.both(act)

    async def do_forfeit(self, vehicle_id: VehicleId, rollout_id: RolloutId, number: int) -> None:
        await self.both(lambda store: store.forfeit(rollout_id, [attempt_id(rollout_id, vehicle_id, number)]))

    async def do_renew(
        self, rollout_id: RolloutId, ceiling: int, old: int = 0, overtaken: bool = False, grants: int = 3
    ) -> None:
        (rollout,) = [one for one in await self.memory.rollouts() if one.rollout_id == rollout_id]

        async def act(store: Store) -> bool:
            # Each machine has a time of its own; far back is before every tick on either.
            now_ms = (await store.clock(origin=NOW, scale=1.0)).machine_ms
            began_ms = now_ms - HOUR_MS if overtaken else now_ms
            return await store.renew(
                rollout_id,
                permit_ceiling=ceiling,
                grant_ceiling=grants,
                began_ms=began_ms,
                epoch=rollout.epoch - old,
            )

        await self.both(act)

    async def do_token(self, vehicle_id: VehicleId, token: str, request: str) -> None:
        if request == "y":
            await self.both(lambda store: store.put_token(vehicle_id, token_sha256=token, life_ms=DAY_MS))
        await self.both(lambda store: store.take_token(vehicle_id, token_sha256=token, request_sha256=request))

    async def compare(self) -> None:
        """Everything that can be read, and that the counters are what the records say."""
        tallies = await self.both(lambda store: store.tallies(ROLLOUTS))
        assert tallies == await self.both(lambda store: store.recount(ROLLOUTS))
        await self.both(lambda store: store.profiles())
        await self.both(lambda store: store.cases(rollout_id=None, settled=True))
        await self.both(lambda store: store.cases(rollout_id=None, settled=False))
        await self.both(lambda store: store.open_cases())
        await self.both(lambda store: store.rollouts())
        await self.both(lambda store: store.contacts(["eu", "us", "nowhere"], now=FleetTime(self.now + HOUR_MS // 2)))
        await self.both(lambda store: store.unsettled(ROLLOUTS, older_than_ms=-1))
        for rollout_id in ROLLOUTS:
            await self.both(lambda store, one=rollout_id: store.standing(one, now=self.now))
        for vehicle_id in VEHICLES:
            await self.both(lambda store, one=vehicle_id: store.vehicle(one))
            await self.both(lambda store, one=vehicle_id: store.attempts(one))
        for stream in await self.both(lambda store: store.journal_streams()):
            await self.both(lambda store, name=stream: written(store, name))


async def written(store: Store, stream: str) -> list[Any]:
    """A journal without its positions, which are each machine's own."""
    return [replace(one, entry_id="") for one in await store.journal(stream, after="", count=100_000)]


def comparable(answer: Any) -> Any:
    """An answer without the order of what has none."""
    if isinstance(answer, Unsettled):
        return sorted(answer.reservations), dict(answer.permits)
    if isinstance(answer, Mapping):
        return {name: comparable(part) for name, part in answer.items()}
    return answer
