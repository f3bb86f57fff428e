"""How often one vehicle may call, and how much it may have us write down."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from outrider.v1 import vehicle_pb2

from orchestrator.model.ids import VehicleId
from orchestrator.rpc.convert.polls import EVENTS_MAX
from orchestrator.rpc.identity import IdentityReader
from orchestrator.rpc.vehicle_servicer import MANIFEST_BYTES_MAX, VehicleServicer
from orchestrator.service.call_rates import CALLS_MAX, WINDOW_MS, WORD_BYTES, WORDS_MAX, WORDS_WINDOW_MS, CallRates
from orchestrator.service.errors import TooManyCallsError
from orchestrator.store.base import JournalEntry
from tests.rpc.contexts import TRUST_DOMAIN, AContext, vehicle_certificate
from tests.service.world import PLAN, Car, World

CAR = VehicleId("v-1")
CALL = AContext(certificate=vehicle_certificate(CAR))


@pytest.mark.uptane("A28")
async def test_vehicle_that_floods_is_told_to_wait_and_others_are_not(world: World) -> None:
    """One stolen key must not be able to take the workers' time from the fleet."""
    rates = CallRates(world.clock)
    for _ in range(CALLS_MAX):
        rates.take(VehicleId("hostile"))
    with pytest.raises(TooManyCallsError) as refused:
        rates.take(VehicleId("hostile"))
    assert 0 < refused.value.retry_after_s <= WINDOW_MS / 1000
    rates.take(VehicleId("honest"))
    world.hand.advance(WINDOW_MS)
    rates.take(VehicleId("hostile"))


def port(world: World) -> VehicleServicer:
    """The vehicle port of a worker, without enrolment."""
    enrollment: Any = None
    return VehicleServicer(
        desk=world.desk,
        permits=world.permits,
        manifests=world.manifests,
        enrollment=enrollment,
        identities=IdentityReader(TRUST_DOMAIN, lambda _: False),
        rates=CallRates(world.clock),
        events_max=EVENTS_MAX,
        image_base_urls=(),
    )


def batch(first: int, attempt_id: str, *kinds: str, apart: int = 1) -> vehicle_pb2.CheckInRequest:
    """A poll with as many events as one may have, of these kinds by turns."""
    events = [
        vehicle_pb2.Event(number=first + apart * place, attempt_id=attempt_id, kind=f"EVENT_KIND_{kinds[place % 2]}")
        for place in range(EVENTS_MAX)
    ]
    return vehicle_pb2.CheckInRequest(outbox_id="box", oldest_number=first, events=events)


def of_no_attempt() -> Iterator[vehicle_pb2.CheckInRequest]:
    """About an attempt that never was, each with a number that was skipped before it."""
    return (
        batch(2 + 2 * EVENTS_MAX * turn, f"x.{CAR}.999", "FAILED", "FAILED", apart=2) for turn in range(2 * WORDS_MAX)
    )


def back_and_forth() -> Iterator[vehicle_pb2.CheckInRequest]:
    """Legal each, about its own attempt."""
    return (
        batch(1 + EVENTS_MAX * turn, f"spring.{CAR}.1", "DEFERRED", "DOWNLOAD_STARTED") for turn in range(2 * WORDS_MAX)
    )


def gaps() -> Iterator[vehicle_pb2.CheckInRequest]:
    """No event, only ever fresh outboxes that have lost some."""
    return (vehicle_pb2.CheckInRequest(outbox_id=f"box-{turn}", oldest_number=9) for turn in range(2 * WORDS_MAX))


def permits() -> Iterator[vehicle_pb2.AuthorizeInstallRequest]:
    """Asks for its permit and lacks something else each time."""
    told = [vehicle_pb2.Conditions(parked=False, battery_percent=80), vehicle_pb2.Conditions(parked=True)]
    return (
        vehicle_pb2.AuthorizeInstallRequest(attempt_id=f"spring.{CAR}.1", conditions=told[turn % 2])
        for turn in range(2 * WORDS_MAX)
    )


async def journalled(world: World) -> list[JournalEntry]:
    """Everything that the vehicle had written down."""
    streams = await world.store.journal_streams()
    entries = [entry for each in streams for entry in await world.store.journal(each, after="", count=1_000_000)]
    return [entry for entry in entries if entry.data.get("vehicle_id") == CAR]


async def flooded(world: World, call: Callable[[Any], Awaitable[Any]], requests: Iterator[Any]) -> TooManyCallsError:
    """What a vehicle is told at last that calls as often as it may."""
    for request in requests:
        try:
            await call(request)
        except TooManyCallsError as error:
            if error.reason != "TOO_MANY_CALLS":
                return error
            world.hand.advance(WINDOW_MS)
    raise AssertionError("all of it was taken")


@pytest.mark.uptane("A28")
@pytest.mark.parametrize("flood", [of_no_attempt, back_and_forth, gaps, permits])
async def test_vehicle_cannot_fill_the_ledger(world: World, flood: Callable[[], Iterator[Any]]) -> None:
    """A full ledger stops every grant of the fleet: what one stolen key can have written has a bound."""
    world.hand.advance(WORDS_WINDOW_MS - world.now % WORDS_WINDOW_MS)
    car = Car(CAR)
    await world.add(car)
    await world.start(PLAN + "conditions: {parked: true, battery: 30%}\n")
    await world.granted(car)
    vehicles, before = port(world), len(await journalled(world))
    call = vehicles.AuthorizeInstall if flood is permits else vehicles.CheckIn
    refused = await flooded(world, lambda request: call(request, CALL), flood())
    assert refused.reason == "TOO_MANY_EVENTS"
    assert 0 < refused.retry_after_s <= WORDS_WINDOW_MS / 1000
    assert WORDS_MAX // 2 <= len(await journalled(world)) - before <= 2 * WORDS_MAX


def fresh(car: Car, world: World, size_bytes: int) -> vehicle_pb2.SubmitManifestRequest:
    """A valid manifest with the next counter, with as much white space as makes it so large."""
    return vehicle_pb2.SubmitManifestRequest(manifest=car.manifest(world.now).ljust(size_bytes))


@pytest.mark.uptane("A28")
@pytest.mark.parametrize("size_bytes", [0, MANIFEST_BYTES_MAX])
async def test_vehicle_cannot_fill_the_ledger_with_manifests(world: World, size_bytes: int) -> None:
    """Each is kept whole and for good, as evidence: at 64 KiB and one a second they would be 5 GB a day."""
    world.hand.advance(WORDS_WINDOW_MS - world.now % WORDS_WINDOW_MS)
    car, honest = Car(CAR), Car("v-2")
    await world.add(car, honest)
    vehicles = port(world)
    requests = (fresh(car, world, size_bytes) for _ in range(WORDS_MAX + 1))
    refused = await flooded(world, lambda request: vehicles.SubmitManifest(request, CALL), requests)
    assert refused.reason == "TOO_MANY_EVENTS"
    assert 0 < refused.retry_after_s <= WORDS_WINDOW_MS / 1000
    kept = await journalled(world)
    assert {entry.kind for entry in kept} == {"manifest_accepted"}
    assert WORDS_MAX // 2 <= sum(1 + len(entry.blob) // WORD_BYTES for entry in kept) <= WORDS_MAX
    counter = (await world.record(car)).manifest_counter
    with pytest.raises(TooManyCallsError):
        await vehicles.SubmitManifest(vehicle_pb2.SubmitManifestRequest(manifest=b"no manifest"), CALL)
    other = AContext(certificate=vehicle_certificate(honest.vehicle_id))
    await vehicles.SubmitManifest(fresh(honest, world, 0), other)
    world.hand.advance(WORDS_WINDOW_MS)
    await vehicles.SubmitManifest(fresh(car, world, 0), CALL)
    assert (await world.record(car)).manifest_counter > counter


async def test_who_said_too_much_is_answered_and_heard_again_later(world: World) -> None:
    """Nothing that an honest vehicle tells is lost, and what it is told to drop it still hears."""
    await world.add(Car(CAR))
    vehicles, requests = port(world), of_no_attempt()
    for _ in range(WORDS_MAX // EVENTS_MAX):
        reply = await vehicles.CheckIn(next(requests), CALL)
    more = next(requests)
    with pytest.raises(TooManyCallsError):
        await vehicles.CheckIn(more, CALL)
    quiet = await vehicles.CheckIn(vehicle_pb2.CheckInRequest(outbox_id="box"), CALL)
    assert quiet.acknowledged_number == reply.acknowledged_number == more.oldest_number - 2
    world.hand.advance(WORDS_WINDOW_MS)
    assert (await vehicles.CheckIn(more, CALL)).acknowledged_number == more.events[-1].number
