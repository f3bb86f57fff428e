"""Use cases of a vehicle on the reference store: what is granted, permitted, attested and withdrawn."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.engine.progress import AbortRequested, PauseRequested
from orchestrator.engine.suitability import transfer_ms
from orchestrator.model.attempt import AttemptEvent, AttemptState, VehicleEvent
from orchestrator.model.decision import Refusal, RefusalReason
from orchestrator.model.ids import AttemptId, RolloutId, VehicleId
from orchestrator.service.director import TIMESTAMP_KEPT_MS
from orchestrator.service.errors import InvalidInputError, NotFoundError
from orchestrator.service.vehicles import Held, Install, Withdraw
from orchestrator.store.base import BANDWIDTH_AHEAD_MS, Permitted, StoreUnavailableError
from signing.verify import PrimaryVerifier
from tests.builders import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, a_diagnostic, some_conditions
from tests.service.world import PLAN, POLL, TICK_LIFE_MS, Car, World


async def test_idle_vehicle_gets_files_of_its_director_and_a_long_poll(world: World) -> None:
    """Most polls of most days: signed by the Director that there is nothing to do."""
    car = Car("v-1")
    await world.add(car)
    reply = await world.check_in(car)
    assert reply.directive is None
    assert sorted(name.partition(".")[2] or name for name in reply.director_files) == [
        "json",
        "root.json",
        "snapshot.json",
        "targets.json",
    ]
    assert reply.image_files == {}
    assert reply.manifest_wanted
    assert reply.next_poll_ms == HOUR_MS


@pytest.mark.uptane("D2")
async def test_unknown_vehicle_is_not_found(world: World) -> None:
    """A certificate of a vehicle that was never imported opens nothing."""
    with pytest.raises(NotFoundError):
        await world.desk.check_in(VehicleId("nobody"), POLL)


async def test_vehicle_that_holds_the_newest_files_gets_none(world: World) -> None:
    """Bytes on cellular links cost somebody money: what is held is not sent again."""
    car = Car("v-1")
    await world.add(car)
    await world.start()
    await world.granted(car)
    director = (await world.record(car)).director
    held = replace(
        POLL, director=Held(root=1, timestamp=director.timestamp_version), image=Held(root=1, timestamp=10**9)
    )
    reply = await world.desk.check_in(car.vehicle_id, held)
    assert (reply.director_files, reply.image_files) == ({}, {})


@pytest.mark.uptane("D6")
async def test_grant_is_signed_for_this_vehicle_and_verifies(world: World) -> None:
    """What a vehicle would install is what it can prove, not what a directive says."""
    car = Car("v-1")
    await world.add(car)
    await world.start()
    reply = await world.check_in(car)
    verifier = PrimaryVerifier(
        world.folder / "held",
        vehicle_id=car.vehicle_id,
        ecus=car.hardware,
        director_root=(world.data.provisioning / "director-root.json").read_bytes(),
        image_root=(world.data.provisioning / "image-root.json").read_bytes(),
    )
    files = {("director", name): content for name, content in reply.director_files.items()}
    files |= {("image", name): content for name, content in reply.image_files.items()}
    bundle = verifier.verify(files, now=world.signed_now(), installed={})
    assert sorted(serial for image in bundle.images for serial in image.ecu_serials) == sorted(car.keys)
    assert reply.next_poll_ms == 300_000


async def test_two_polls_at_once_are_one_attempt(world: World) -> None:
    """An agent that times out and calls again meets its own first call."""
    car = Car("v-1")
    await world.add(car)
    await world.start()
    replies = await asyncio.gather(*(world.check_in(car) for _ in range(5)))
    granted = {reply.directive.attempt.attempt_id for reply in replies if isinstance(reply.directive, Install)}
    assert granted == {AttemptId("spring.v-1.1")}
    assert len(await world.store.attempts(car.vehicle_id)) == 1


async def test_in_flight_limit_holds_and_is_told(world: World) -> None:
    """No limit is a suggestion: the second of two vehicles waits for the slot of the first."""
    first, second = Car("v-1"), Car("v-2")
    await world.add(first, second)
    await world.start("release: 1.1.0\nholdout: 0%\nwaves: [{name: all}]\nlimits: {in_flight: 1}\n")
    attempt_id = await world.granted(first)
    assert (await world.check_in(second)).directive is None
    assert world.metrics.refusals.labels(reason="in_flight_spent")._value.get() == 1
    await world.check_in(first, VehicleEvent(1, attempt_id, AttemptEvent.REJECTED, "no_space"))
    await world.tick()
    assert await world.granted(second) == "spring.v-2.1"


async def test_silent_evaluator_stops_grants_and_permits(world: World) -> None:
    """Losing the control plane adds no risk: ten seconds after its last sign of life nothing new begins."""
    ready, late = Car("v-1"), Car("v-2")
    await world.add(ready, late)
    await world.start()
    attempt_id = await world.downloaded(ready)
    world.hand.advance(TICK_LIFE_MS)
    answer = await world.permits.authorize(ready.vehicle_id, attempt_id)
    assert answer.refusal is not None
    assert answer.refusal.reason is RefusalReason.EVALUATOR_SILENT
    assert answer.retry_after_ms, "ask again"
    assert (await world.check_in(late)).directive is None
    await world.tick()
    assert (await world.permits.authorize(ready.vehicle_id, attempt_id)).refusal is None


async def test_snapshot_behind_a_pause_cannot_grant(world: World) -> None:
    """A worker may know the past only: whoever acts on it commits by epoch, and the store refuses."""
    car = Car("v-1")
    await world.add(car)
    await world.start()
    await world.rollouts.request(RolloutId("spring"), PauseRequested("alice", "stop"), etag="")
    assert world.snapshots.current.rollouts[RolloutId("spring")].status.value == "running", "still the old view"
    assert (await world.check_in(car)).directive is None
    assert world.metrics.refusals.labels(reason="rollout_paused")._value.get() == 1
    assert await world.store.attempts(car.vehicle_id) == []


async def test_permit_is_given_once_and_again_within_its_life(world: World) -> None:
    """The reply got lost: the same permit, shorter by what went by, and no second exposure."""
    car = Car("v-1")
    await world.add(car)
    await world.start()
    attempt_id = await world.permitted(car)
    world.hand.advance(5 * MINUTE_MS)
    again = await world.permits.authorize(car.vehicle_id, attempt_id)
    assert again.refusal is None
    assert again.valid_ms == 10 * MINUTE_MS
    assert (await world.counted()).exposed == 1


async def test_permit_is_granted_while_the_download_event_is_in_the_outbox(world: World) -> None:
    """Asking implies that the images are there: a lost event must not cost a poll of an hour."""
    car = Car("v-1")
    await world.add(car)
    await world.start()
    attempt_id = await world.granted(car)
    assert (await world.permits.authorize(car.vehicle_id, attempt_id)).refusal is None
    assert await world.state(car) is AttemptState.PERMITTED


async def test_permit_is_for_the_latest_live_attempt_only(world: World) -> None:
    """An attempt that is over, or never was, must be dropped by the vehicle: no wait, no second question."""
    car = Car("v-1")
    await world.add(car)
    await world.start()
    never = await world.permits.authorize(car.vehicle_id, AttemptId("spring.v-1.7"))
    assert never.refusal is not None
    assert (never.refusal.reason, never.retry_after_ms) == (RefusalReason.UNKNOWN_ATTEMPT, None)
    attempt_id = await world.granted(car)
    await world.check_in(car, VehicleEvent(1, attempt_id, AttemptEvent.REJECTED, "no_space"))
    over = await world.permits.authorize(car.vehicle_id, attempt_id)
    assert over.refusal is not None
    assert (over.refusal.reason, over.retry_after_ms) == (RefusalReason.ATTEMPT_OVER, None)


async def test_abort_between_authorize_and_poll_loses_no_permit(world: World) -> None:
    """The fence divides by permit: without one the attempt is withdrawn, with one it runs on."""
    ready, running = Car("v-1"), Car("v-2")
    await world.add(ready, running)
    await world.start()
    doomed, kept = await world.downloaded(ready), await world.permitted(running)
    await world.rollouts.request(RolloutId("spring"), AbortRequested("alice", "enough"), etag="")
    refused = await world.permits.authorize(ready.vehicle_id, doomed)
    assert refused.refusal is not None
    assert refused.retry_after_ms is None
    await world.snapshots.refresh()
    reply = await world.check_in(ready)
    assert isinstance(reply.directive, Withdraw)
    assert reply.directive.attempt_id == doomed
    assert (await world.record(ready)).director.release == "", "the Director takes its word back"
    going_on = await world.check_in(running)
    assert isinstance(going_on.directive, Install)
    assert going_on.directive.attempt.attempt_id == kept


async def test_permit_that_was_overtaken_by_the_end_of_its_attempt_spends_no_budget(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vehicle gave up while its permit was on the way: the place is free for the next one at once."""
    car, other = Car("v-1"), Car("v-2")
    await world.add(car, other)
    await world.start("release: 1.1.0\nholdout: 0%\nwaves: [{name: all}]\nlimits: {blast_budget: 1}\n")
    attempt_id = await world.downloaded(car)
    authorize = world.store.authorize

    async def authorized_too_late(*args: Any, **facts: Any) -> Permitted | Refusal:
        answer = await authorize(*args, **facts)
        await world.check_in(car, VehicleEvent(2, attempt_id, AttemptEvent.REJECTED, "no_space"))
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "authorize", authorized_too_late)
        answer = await world.permits.authorize(car.vehicle_id, attempt_id)
    assert answer.refusal is not None
    assert (answer.refusal.reason, answer.retry_after_ms) == (RefusalReason.ATTEMPT_OVER, None)
    await world.permitted(other)
    assert (await world.counted()).exposed == 1


@pytest.mark.uptane("A18", "D5")
async def test_manifest_settles_the_attempt_and_frees_its_slot(world: World) -> None:
    """Truth is what the vehicle attests: nothing else makes a success."""
    first, second = Car("v-1"), Car("v-2")
    await world.add(first, second)
    release = (await world.store.releases())[0]
    await world.start("release: 1.1.0\nholdout: 0%\nwaves: [{name: all}]\nlimits: {in_flight: 1}\n")
    await world.permitted(first)
    content = first.manifest(world.now, release)
    digest, record = await world.manifests.submit(first.vehicle_id, content)
    assert (record.installed, record.manifest_sha256) == ("1.1.0", digest)
    assert await world.state(first) is AttemptState.SUCCEEDED
    assert await world.manifests.submit(first.vehicle_id, content) == (digest, record), "handed in twice"
    await world.tick()
    assert await world.granted(second) == "spring.v-2.1"


@pytest.mark.uptane("A18", "A17")
async def test_manifest_of_some_of_the_units_proves_no_release(world: World) -> None:
    """A vehicle whose Secondary stayed behind does not run the release."""
    car = Car("v-1")
    await world.add(car)
    release = (await world.store.releases())[0]
    half = replace(release, images=release.images[:1])
    _, record = await world.manifests.submit(car.vehicle_id, car.manifest(world.now, half))
    assert record.installed == ""


@pytest.mark.uptane("A22", "D4")
async def test_replayed_manifest_is_refused_and_journalled(world: World) -> None:
    """An old true statement is a lie today."""
    car = Car("v-1")
    await world.add(car)
    await world.manifests.submit(car.vehicle_id, car.manifest(world.now))
    with pytest.raises(InvalidInputError) as error:
        await world.manifests.submit(car.vehicle_id, car.manifest(world.now + SECOND_MS, counter=1))  # type: ignore[arg-type]
    assert error.value.reason == "REPLAY"
    (entry,) = await world.journal("manifest_refused")
    assert (entry.data["vehicle_id"], entry.data["code"]) == ("v-1", "replay")


@pytest.mark.uptane("A22", "D4")
async def test_two_manifests_at_once_keep_the_higher_counter(world: World) -> None:
    """Both verify against what was read before; the store decides, and the loser is told REPLAY as usual."""
    car = Car("v-1")
    await world.add(car)
    older, newer = car.manifest(world.now, counter=1), car.manifest(world.now, counter=2)
    outcomes = await asyncio.gather(
        *(world.manifests.submit(car.vehicle_id, content) for content in (newer, older)), return_exceptions=True
    )
    assert (await world.record(car)).manifest_counter == 2
    failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert all(isinstance(outcome, InvalidInputError) and outcome.reason == "REPLAY" for outcome in failed)


async def test_director_timestamp_is_renewed_once_a_day_and_targets_at_half_their_life(world: World) -> None:
    """A quiet vehicle must never find its metadata expired, and a signature is made on change, not on poll."""
    car = Car("v-1")
    await world.add(car)
    await world.check_in(car)
    first = (await world.record(car)).director
    signed = world.signer.asked
    world.hand.advance(TIMESTAMP_KEPT_MS)
    await world.check_in(car)
    assert (await world.record(car)).director == first, "just that old: not yet"
    assert world.signer.asked == signed
    world.hand.advance(1)
    await world.check_in(car)
    second = (await world.record(car)).director
    assert (second.version, second.timestamp_version) == (first.version, first.timestamp_version + 20 * 60)
    world.hand.advance(3 * DAY_MS)
    await world.check_in(car)
    third = (await world.record(car)).director
    assert third.version > second.version
    assert third.timestamp_version > second.timestamp_version


async def test_last_contact_is_written_behind_and_kept_while_the_store_is_away(world: World) -> None:
    """It decides nothing, so it may be late; it must not be forgotten without need."""
    car = Car("v-1")
    await world.add(car)
    await world.check_in(car)
    world.store.fail_with = StoreUnavailableError("gone for a moment")
    await world.last_seen.flush()
    assert (await world.record(car)).last_seen_at is None
    world.store.fail_with = None
    await world.last_seen.flush()
    assert (await world.record(car)).last_seen_at == world.now


async def test_conditions_and_diagnoses_of_a_poll_reach_the_record(world: World) -> None:
    """Whoever asks why a vehicle does not update sees how it stood when it last called."""
    car = Car("v-1")
    await world.add(car)
    await world.check_in(car, conditions=some_conditions(), diagnostics=(a_diagnostic(),))
    await world.last_seen.flush()
    record = await world.record(car)
    assert (record.conditions, record.diagnostics) == (some_conditions(), (a_diagnostic(),))


async def test_attempt_that_ended_badly_leaves_no_assignment_behind(world: World) -> None:
    """Signed leave to install a release must not outlive the attempt that it was given for."""
    car = Car("v-1")
    await world.add(car)
    await world.start()
    attempt_id = await world.granted(car)
    before = (await world.record(car)).director
    reply = await world.check_in(car, VehicleEvent(1, attempt_id, AttemptEvent.REJECTED, "no_space"))
    after = (await world.record(car)).director
    assert (before.release, after.release) == ("1.1.0", "")
    assert after.version > before.version
    assert f"{after.version}.targets.json" in reply.director_files


@pytest.mark.uptane("A28")
async def test_same_fault_of_a_manifest_is_journalled_once_an_hour(world: World) -> None:
    """A hostile vehicle must not be able to fill the ledger."""
    car = Car("v-1")
    await world.add(car)
    for _ in range(3):
        with pytest.raises(InvalidInputError):
            await world.manifests.submit(car.vehicle_id, b"{}")
    assert len(await world.journal("manifest_refused")) == 1
    world.hand.advance(HOUR_MS)
    with pytest.raises(InvalidInputError):
        await world.manifests.submit(car.vehicle_id, b"{}")
    assert len(await world.journal("manifest_refused")) == 2


async def test_grants_are_as_fast_as_the_links_of_their_region(world: World) -> None:
    """Two images of some bytes over one byte a second: the second vehicle waits until the first has its own."""
    cars = [Car(f"v-{number}") for number in range(8)]
    await world.add(*cars)
    await world.start(PLAN + "regions: {eu: {bandwidth: 1B/s}}\n")
    release = (await world.store.releases())[0]
    needed_ms = transfer_ms(cars[0].vehicle, release, 1)
    assert needed_ms == 1000 * sum(image.length_bytes for image in release.images)
    granted = [car for car in cars if (await world.check_in(car)).directive is not None]
    assert len(granted) == BANDWIDTH_AHEAD_MS // needed_ms + 1
    world.hand.advance(needed_ms)
    await world.tick()
    assert (await world.check_in(cars[-1])).directive is not None
