"""What every store promises about contacts, changes of inventory, removal and exclusions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.model.attempt import AttemptEvent, AttemptState
from orchestrator.model.fleet import Vehicle
from orchestrator.model.ids import AttemptId, FleetTime, ReleaseVersion, VehicleId
from orchestrator.model.vehicle import EVERY_ROLLOUT, Contact, Exclusion, VehicleRecord
from orchestrator.store.base import Applied, ChangeOutcome, ImportOutcome, InventoryChange, Store
from tests.builders import HOUR_MS, MINUTE_MS, NOW, a_contact, a_vehicle, after, an_attempt
from tests.contracts.steps import (
    DIRECTOR,
    SPRING,
    V1,
    a_manifest,
    assigned,
    authorize,
    entries,
    permitted,
    reason,
    renew,
    reserve,
    running,
    tell,
)
from tests.store_fixtures import StoreBench

E = AttemptEvent
GHOST = VehicleId("ghost")


async def record_of(store: Store, vehicle_id: VehicleId = V1) -> VehicleRecord:
    record = await store.vehicle(vehicle_id)
    assert record is not None
    return record


def a_quarantine(scope: str = EVERY_ROLLOUT, *, at: FleetTime = NOW, why: str = "lemon") -> Exclusion:
    return Exclusion(scope=scope, actor="ann", reason=why, at=at)


def moved(vehicle: Vehicle, **changes: str) -> InventoryChange:
    return InventoryChange(before=vehicle, after=replace(vehicle, **changes))  # type: ignore[arg-type]


async def remove(store: Store, vehicle_id: VehicleId = V1, *, now: FleetTime = NOW) -> object:
    return await store.remove_vehicle(vehicle_id, actor="ann", reason="sold", now=now)


async def test_contact_carries_conditions_and_diagnoses(bench: StoreBench) -> None:
    """Who is asked why a vehicle does not update must know how it stood when it was last heard."""
    await bench.store.import_vehicles([a_vehicle()], now=NOW)
    contact = a_contact(after(5))
    await bench.store.touch({V1: contact})
    record = await record_of(bench.store)
    assert (record.last_seen_at, record.conditions, record.diagnostics) == (
        contact.at,
        contact.conditions,
        contact.diagnostics,
    )


async def test_later_contact_replaces_all_of_the_one_before(bench: StoreBench) -> None:
    """A diagnosis that is no longer told is over; conditions that are not told are not known."""
    await bench.store.import_vehicles([a_vehicle()], now=NOW)
    await bench.store.touch({V1: a_contact(after(5))})
    await bench.store.touch({V1: Contact(at=after(6))})
    record = await record_of(bench.store)
    assert (record.last_seen_at, record.conditions, record.diagnostics) == (after(6), None, ())


async def test_zone_is_part_of_vehicle_and_profile(bench: StoreBench) -> None:
    """Windows are in the vehicle's local time: a preview has to know how many vehicles are where."""
    berlin = a_vehicle(zone="Europe/Berlin")
    await bench.store.import_vehicles([berlin, a_vehicle("v-2")], now=NOW)
    assert (await record_of(bench.store)).vehicle == berlin
    assert sorted((profile.zone, count) for profile, count in (await bench.store.profiles()).items()) == [
        ("", 1),
        ("Europe/Berlin", 1),
    ]


async def test_change_replaces_what_still_is_as_it_was_read(bench: StoreBench) -> None:
    """Inventory and profile counts change in one step, and the journal says what, who and why."""
    vehicle = a_vehicle()
    await bench.store.import_vehicles([vehicle], now=NOW)
    change = moved(vehicle, region="us", zone="America/New_York")
    outcome = await bench.store.change_vehicles([change], actor="ann", reason="moved house", now=after(7))
    assert outcome == ChangeOutcome(changed=1, unchanged=0, overtaken=())
    assert (await record_of(bench.store)).vehicle == change.after
    assert await bench.store.profiles() == {change.after.profile(ReleaseVersion("")): 1}
    (entry,) = await entries(bench.store, "vehicle_changed")
    assert (entry.at, entry.data) == (
        after(7),
        {
            "vehicle_id": "v-1",
            "actor": "ann",
            "reason": "moved house",
            "changed": {"region": ["eu", "us"], "zone": ["", "America/New_York"]},
        },
    )


async def test_change_of_a_vehicle_that_was_changed_meanwhile_is_left_to_the_caller(bench: StoreBench) -> None:
    """Two operators must not undo each other's work unseen."""
    vehicle = a_vehicle()
    await bench.store.import_vehicles([vehicle, a_vehicle("v-2")], now=NOW)
    await bench.store.import_vehicles([replace(vehicle, cohort="early")], now=NOW)
    outcome = await bench.store.change_vehicles(
        [moved(vehicle, region="us"), moved(a_vehicle("v-2")), moved(a_vehicle(GHOST), region="us")],
        actor="ann",
        reason="moved",
        now=NOW,
    )
    assert outcome == ChangeOutcome(changed=0, unchanged=1, overtaken=(GHOST, V1))
    assert (await record_of(bench.store)).vehicle == replace(vehicle, cohort="early")
    assert await entries(bench.store, "vehicle_changed") == []


async def test_moved_vehicle_is_counted_where_it_was_granted(bench: StoreBench) -> None:
    """An attempt keeps its cell for life, or a wave could be emptied of its failures by moving cars."""
    attempt = await permitted(bench.store)
    record = await record_of(bench.store)
    change = moved(record.vehicle, region="us", cohort="general")
    await bench.store.change_vehicles([change], actor="ann", reason="moved", now=NOW)
    await tell(bench.store, attempt, E.INSTALL_STARTED, E.FAILED)
    cells = (await bench.store.tallies([SPRING]))[SPRING]
    assert [(cell.region, cell.cohort) for cell in cells] == [("eu", "canary")]
    (case,) = await bench.store.cases(rollout_id=None, settled=False)
    assert case.cell == attempt.cell


async def test_removed_vehicle_is_in_no_list_and_no_count(bench: StoreBench) -> None:
    """It left the fleet: no page, no profile, no answer; the journal keeps who sent it away, and why."""
    await bench.store.import_vehicles([a_vehicle(), a_vehicle("v-2")], now=NOW)
    assert await remove(bench.store, now=after(3)) is True
    assert await bench.store.vehicle(V1) is None
    page, _ = await bench.store.vehicles(page_token="", page_size=10)
    assert [record.vehicle.vehicle_id for record in page] == ["v-2"]
    assert sum((await bench.store.profiles()).values()) == 1
    (entry,) = await entries(bench.store, "vehicle_removed")
    assert (entry.at, entry.data) == (after(3), {"vehicle_id": "v-1", "actor": "ann", "reason": "sold"})
    assert await remove(bench.store) is False
    assert await remove(bench.store, GHOST) is False
    assert len(await entries(bench.store, "vehicle_removed")) == 1


async def test_vehicle_with_a_live_attempt_is_not_removed(bench: StoreBench) -> None:
    """It may be in the middle of an installation; its slot and its deadline are still at work."""
    attempt = await assigned(bench.store)
    answer = await remove(bench.store)
    assert reason(answer) == "attempt_live"
    assert await bench.store.vehicle(V1) is not None
    await bench.store.change(attempt.attempt_id, E.WITHDRAWN, now=NOW)
    assert await remove(bench.store) is True


async def test_removed_vehicle_can_do_nothing(bench: StoreBench) -> None:
    """Its certificate may still be good for a while; nothing it says or is told has an effect."""
    await bench.store.import_vehicles([a_vehicle()], now=NOW)
    await bench.store.put_token(V1, token_sha256="t", life_ms=HOUR_MS)
    await remove(bench.store)
    with pytest.raises(KeyError):
        await bench.store.apply(V1, outbox_id="box", oldest_number=0, events=[], now=NOW)
    with pytest.raises(KeyError):
        await bench.store.attest(V1, a_manifest(), now=NOW)
    with pytest.raises(KeyError):
        await bench.store.exclude(V1, a_quarantine())
    with pytest.raises(KeyError):
        await bench.store.readmit(V1, EVERY_ROLLOUT, actor="ann", reason="x", now=NOW)
    assert reason(await bench.store.assign(an_attempt(), DIRECTOR, expected_timestamp_version=0)) == "unknown_attempt"
    assert not await bench.store.direct(V1, DIRECTOR, expected_timestamp_version=0)
    assert not await bench.store.take_token(V1, token_sha256="t", request_sha256="r")
    await bench.store.import_vehicles([a_vehicle()], now=NOW)
    assert not await bench.store.take_token(V1, token_sha256="t", request_sha256="r")


async def test_vehicle_that_comes_back_goes_on_where_it_left(bench: StoreBench) -> None:
    """Were its numbers to start again, an old attempt, an old manifest or an old Director file would count as new; and
    a quarantine could be shaken off by removing and importing.
    """
    attempt = await permitted(bench.store)
    await bench.store.attest(V1, a_manifest(attempt, counter=5, event=E.ATTESTED_RELEASE), now=NOW)
    await bench.store.exclude(V1, a_quarantine())
    await bench.store.touch({V1: a_contact()})
    before = await record_of(bench.store)
    await remove(bench.store)
    back = replace(before.vehicle, region="us")
    assert await bench.store.import_vehicles([back], now=NOW) == ImportOutcome(added=1, changed=0, unchanged=0)
    assert await record_of(bench.store) == replace(
        before, vehicle=back, last_seen_at=None, conditions=None, diagnostics=()
    )
    assert await bench.store.profiles() == {back.profile(ReleaseVersion("1.1.0")): 1}


async def test_what_a_removed_vehicle_did_stays_counted(bench: StoreBench) -> None:
    """A failure is not undone by selling the car: attempts, counters and cases stay, checkpoints still come."""
    attempt = await permitted(bench.store)
    await tell(bench.store, attempt, E.INSTALL_STARTED, E.FAILED)
    tallies = await bench.store.tallies([SPRING])
    await remove(bench.store)
    assert await bench.store.tallies([SPRING]) == tallies
    assert [one.attempt_id for one in await bench.store.attempts(V1)] == [attempt.attempt_id]
    assert [case.attempt_id for case in await bench.store.cases(rollout_id=None, settled=False)] == [attempt.attempt_id]
    await bench.store.sweep(range(bench.store.shards), now=after(30 * 24 * HOUR_MS), fences={})
    assert len(await entries(bench.store, "exposure_aged")) == 2
    assert isinstance(await bench.store.permit(attempt.attempt_id, permitted_at=NOW), Applied)


async def test_quarantine_stands_until_it_is_lifted(bench: StoreBench) -> None:
    """The first one stands with its reason; the journal has both ends."""
    await bench.store.import_vehicles([a_vehicle()], now=NOW)
    first = a_quarantine(at=after(1))
    assert await bench.store.exclude(V1, first)
    assert not await bench.store.exclude(V1, a_quarantine(why="another", at=after(2)))
    assert (await record_of(bench.store)).exclusions == (first,)
    assert await bench.store.readmit(V1, EVERY_ROLLOUT, actor="bob", reason="repaired", now=after(3))
    assert not await bench.store.readmit(V1, EVERY_ROLLOUT, actor="bob", reason="repaired", now=after(4))
    assert (await record_of(bench.store)).exclusions == ()
    on, off = await entries(bench.store, "vehicle_excluded", "vehicle_readmitted")
    assert (on.at, on.data) == (after(1), {"vehicle_id": "v-1", "scope": "", "actor": "ann", "reason": "lemon"})
    assert (off.at, off.data) == (after(3), {"vehicle_id": "v-1", "scope": "", "actor": "bob", "reason": "repaired"})


async def test_lifted_quarantine_forgives_what_failed_before_and_a_lifted_denial_does_not(bench: StoreBench) -> None:
    """Else a repaired vehicle would be put back at its next call. Removal and import do not make it forget."""
    await bench.store.import_vehicles([a_vehicle()], now=NOW)
    for scope in ("spring", EVERY_ROLLOUT):
        await bench.store.exclude(V1, a_quarantine(scope))
    assert await bench.store.readmit(V1, "spring", actor="bob", reason="x", now=after(1))
    assert (await record_of(bench.store)).forgiven_at == 0
    assert await bench.store.readmit(V1, EVERY_ROLLOUT, actor="bob", reason="repaired", now=after(2))
    assert not await bench.store.readmit(V1, EVERY_ROLLOUT, actor="bob", reason="repaired", now=after(3))
    assert (await record_of(bench.store)).forgiven_at == after(2)
    await remove(bench.store)
    await bench.store.import_vehicles([a_vehicle()], now=after(4))
    assert (await record_of(bench.store)).forgiven_at == after(2)


async def test_denial_is_of_one_rollout(bench: StoreBench) -> None:
    """Exclusions of several scopes stand beside each other, in order, and go one by one; the ledger finds a denial by
    its rollout.
    """
    await bench.store.import_vehicles([a_vehicle()], now=NOW)
    for scope in ("spring", EVERY_ROLLOUT, "autumn"):
        assert await bench.store.exclude(V1, a_quarantine(scope))
    assert [one.scope for one in (await record_of(bench.store)).exclusions] == ["", "autumn", "spring"]
    assert await bench.store.readmit(V1, "autumn", actor="ann", reason="x", now=NOW)
    assert [one.scope for one in (await record_of(bench.store)).exclusions] == ["", "spring"]
    about = [entry.data.get("rollout_id") for entry in await entries(bench.store, "vehicle_excluded")]
    assert about == ["spring", None, "autumn"]


async def test_exclusion_of_an_unknown_vehicle_is_an_error(bench: StoreBench) -> None:
    """The caller looked it up before; now it is gone."""
    with pytest.raises(KeyError):
        await bench.store.exclude(GHOST, a_quarantine())
    with pytest.raises(KeyError):
        await bench.store.readmit(GHOST, EVERY_ROLLOUT, actor="ann", reason="x", now=NOW)


async def test_exclusion_survives_import_and_work(bench: StoreBench) -> None:
    """Nobody lifts a quarantine by importing the fleet file again."""
    attempt = await assigned(bench.store)
    await bench.store.exclude(V1, a_quarantine())
    await bench.store.import_vehicles([a_vehicle(region="us")], now=NOW)
    applied = await tell(bench.store, attempt, E.DOWNLOAD_STARTED)
    assert applied.record.exclusions == (a_quarantine(),)
    assert applied.record.attempt is not None
    assert applied.record.attempt.state is AttemptState.DOWNLOADING


async def test_standing_counts_as_reserve_and_authorize_do(bench: StoreBench) -> None:
    """An explanation with other numbers than the ones that decide would send an operator the wrong way."""
    await running(bench.store, permit_ceiling=7)
    for name, region in (("spring.a.1", "eu"), ("spring.b.1", "eu"), ("spring.c.1", "us")):
        await reserve(bench.store, name, region=region)
    await authorize(bench.store, "spring.a.1")
    await authorize(bench.store, "spring.b.1", now=after(MINUTE_MS))
    standing = await bench.store.standing(SPRING, now=after(MINUTE_MS))
    assert (dict(standing.in_flight), standing.in_flight_total) == ({"eu": 2, "us": 1}, 3)
    assert (standing.permits, standing.permit_ceiling, standing.starts) == (2, 7, 1)
    assert standing.evaluator_alive
    await bench.store.release(SPRING, [AttemptId("spring.c.1")])
    await bench.lapse(SPRING)
    later = await bench.store.standing(SPRING, now=after(MINUTE_MS))
    assert (dict(later.in_flight), later.evaluator_alive) == ({"eu": 2}, False)
    await renew(bench.store, permit_ceiling=9)
    assert (await bench.store.standing(SPRING, now=NOW)).permit_ceiling == 9


async def test_rollout_that_is_not_there_uses_nothing(bench: StoreBench) -> None:
    """A question is no error."""
    standing = await bench.store.standing(SPRING, now=NOW)
    assert (dict(standing.in_flight), standing.permits, standing.evaluator_alive) == ({}, 0, False)
