"""What every store promises about inventory, tokens, manifests and what was seen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestrator.model.attempt import AttemptEvent, AttemptState
from orchestrator.model.fleet import Profile
from orchestrator.model.ids import ReleaseVersion, VehicleId
from orchestrator.model.vehicle import Contact
from orchestrator.store.base import Applied, ImportOutcome, InventoryChange, Store
from tests.builders import DAY_MS, HOUR_MS, NOW, a_contact, a_vehicle, after, an_attempt
from tests.contracts.steps import V1, a_manifest, assigned, entries, permitted, reason, state_of, sweep_all, tell
from tests.store_fixtures import StoreBench

E = AttemptEvent
S = AttemptState


def a_profile(installed: str = "", **changes: object) -> Profile:
    return replace(a_vehicle().profile(ReleaseVersion(installed)), **changes)  # type: ignore[arg-type]


async def all_vehicles(store: Store, page_size: int) -> list[str]:
    found: list[str] = []
    token = ""
    while True:
        page, token = await store.vehicles(page_token=token, page_size=page_size)
        found += [record.vehicle.vehicle_id for record in page]
        if not token:
            return found


async def test_imported_vehicle_comes_back_exactly(bench: StoreBench) -> None:
    """Nothing is known of it but what the inventory says."""
    vehicle = a_vehicle(tags=("hold", "beta"))
    assert await bench.store.import_vehicles([vehicle], now=NOW) == ImportOutcome(added=1, changed=0, unchanged=0)
    record = await bench.store.vehicle(V1)
    assert record is not None
    assert record.vehicle == vehicle
    assert (record.enrolled, record.installed, record.attempt, record.last_seen_at) == (False, "", None, None)
    assert dict(record.tries) == {}


async def test_unknown_vehicle_is_none(bench: StoreBench) -> None:
    """Absence is an answer, not an error."""
    assert await bench.store.vehicle(VehicleId("ghost")) is None
    assert await bench.store.attempts(VehicleId("ghost")) == []


async def test_importing_again_keeps_what_is_known(bench: StoreBench) -> None:
    """Inventory is replaced; attempts, acknowledgements and manifests are not inventory."""
    attempt = await assigned(bench.store)
    await tell(bench.store, attempt, E.DOWNLOAD_STARTED)
    await bench.store.attest(V1, a_manifest(), now=NOW)
    before = await bench.store.vehicle(V1)
    moved = a_vehicle(region="us", cohort="early")
    outcome = await bench.store.import_vehicles([moved, a_vehicle("v-2")], now=NOW)
    assert outcome == ImportOutcome(added=1, changed=1, unchanged=0)
    after_import = await bench.store.vehicle(V1)
    assert before is not None
    assert after_import == replace(before, vehicle=moved)
    assert await bench.store.import_vehicles([moved], now=NOW) == ImportOutcome(added=0, changed=0, unchanged=1)


async def test_import_is_journalled_when_it_changed_something(bench: StoreBench) -> None:
    """The ledger sees how many were added and changed, and no noise from repetitions."""
    await bench.store.import_vehicles([a_vehicle()], now=after(3))
    await bench.store.import_vehicles([a_vehicle()], now=after(4))
    (entry,) = await entries(bench.store, "vehicles_imported")
    assert (entry.at, entry.data) == (after(3), {"added": 1, "changed": 0})


async def test_profiles_are_counted_over_the_fleet(bench: StoreBench) -> None:
    """A preview multiplies profiles with counts; it must never have to read every vehicle."""
    await bench.store.import_vehicles([a_vehicle(f"v-{number}") for number in range(30)], now=NOW)
    await bench.store.import_vehicles(
        [a_vehicle(f"w-{number}", region="us", tags=("b", "a")) for number in range(5)], now=NOW
    )
    assert await bench.store.profiles() == {a_profile(): 30, a_profile(region="us", tags=("a", "b")): 5}


async def test_profiles_move_with_inventory_and_manifests(bench: StoreBench) -> None:
    """Counts follow in the step that changes the vehicle; a profile that nobody has is gone."""
    await bench.store.import_vehicles([a_vehicle(), a_vehicle("v-2")], now=NOW)
    await bench.store.attest(V1, a_manifest(installed="1.0.0"), now=NOW)
    assert await bench.store.profiles() == {a_profile(): 1, a_profile("1.0.0"): 1}
    await bench.store.import_vehicles([a_vehicle(model="X")], now=NOW)
    assert await bench.store.profiles() == {a_profile(): 1, a_profile("1.0.0", model="X"): 1}
    await bench.store.attest(V1, a_manifest(counter=2, installed=""), now=NOW)
    assert await bench.store.profiles() == {a_profile(): 1, a_profile(model="X"): 1}


@pytest.mark.parametrize("page_size", [1, 7, 1000])
async def test_pages_go_over_every_vehicle_once(bench: StoreBench, page_size: int) -> None:
    """A listing that loses or repeats vehicles is no inventory."""
    names = [f"v-{number}" for number in range(60)]
    await bench.store.import_vehicles([a_vehicle(name) for name in names], now=NOW)
    assert sorted(await all_vehicles(bench.store, page_size)) == sorted(names)


async def test_empty_fleet_is_one_empty_page(bench: StoreBench) -> None:
    """An empty token ends."""
    assert await bench.store.vehicles(page_token="", page_size=10) == ([], "")


@pytest.mark.parametrize("token", ["x", "1.y", "-1.0", "99.0", "0.0.0", "0.0."])
async def test_foreign_page_token_is_refused(bench: StoreBench, token: str) -> None:
    """Tokens come over the wire."""
    with pytest.raises(ValueError, match="page token"):
        await bench.store.vehicles(page_token=token, page_size=10)


async def test_last_seen_is_written_behind(bench: StoreBench) -> None:
    """It changes nothing else."""
    await bench.store.import_vehicles([a_vehicle(), a_vehicle("v-2")], now=NOW)
    before = await bench.store.vehicle(V1)
    await bench.store.touch({V1: Contact(at=after(5)), VehicleId("v-2"): Contact(at=after(6))})
    seen = await bench.store.vehicle(V1)
    assert before is not None
    assert seen == replace(before, last_seen_at=after(5))
    await bench.store.touch({})


async def test_contact_that_tells_nothing_keeps_what_was_told(bench: StoreBench) -> None:
    """Who asks for a permit is heard; what ails it was told by its last poll."""
    await bench.store.import_vehicles([a_vehicle()], now=NOW)
    await bench.store.touch({V1: Contact(at=after(1), told=False)})
    first = await bench.store.vehicle(V1)
    assert first is not None
    assert (first.last_seen_at, first.conditions, first.diagnostics) == (after(1), None, ())
    told = a_contact(after(5))
    await bench.store.touch({V1: told})
    await bench.store.touch({V1: Contact(at=after(7), told=False)})
    later = await bench.store.vehicle(V1)
    assert later is not None
    assert (later.last_seen_at, later.conditions, later.diagnostics) == (after(7), told.conditions, told.diagnostics)


async def test_last_seen_survives_other_writes(bench: StoreBench) -> None:
    """Every answer carries it."""
    attempt = await assigned(bench.store)
    await bench.store.touch({V1: Contact(at=after(5))})
    applied = await tell(bench.store, attempt, E.DOWNLOAD_STARTED)
    assert applied.record.last_seen_at == after(5)


async def test_last_seen_before_the_import_does_not_count(bench: StoreBench) -> None:
    """Somebody who was not in the inventory was not seen as this vehicle."""
    await bench.store.touch({V1: Contact(at=after(5))})
    await bench.store.import_vehicles([a_vehicle()], now=NOW)
    record = await bench.store.vehicle(V1)
    assert record is not None
    assert record.last_seen_at is None


async def test_token_is_spent_for_one_request(bench: StoreBench) -> None:
    """The same request may be repeated, its answer may have been lost; another one never succeeds."""
    await bench.store.import_vehicles([a_vehicle()], now=NOW)
    await bench.store.put_token(V1, token_sha256="t1", life_ms=HOUR_MS)
    outcomes = await asyncio.gather(
        *(bench.store.take_token(V1, token_sha256="t1", request_sha256=f"r{number % 2}") for number in range(6))
    )
    assert outcomes in ([True, False] * 3, [False, True] * 3)
    record = await bench.store.vehicle(V1)
    assert record is not None
    assert record.enrolled


async def test_wrong_token_enrols_nobody(bench: StoreBench) -> None:
    """Neither a wrong one, nor another vehicle's, nor one for a vehicle that does not exist; and it spends nothing."""
    await bench.store.import_vehicles([a_vehicle(), a_vehicle("v-2")], now=NOW)
    await bench.store.put_token(V1, token_sha256="t1", life_ms=HOUR_MS)
    await bench.store.put_token(VehicleId("ghost"), token_sha256="t1", life_ms=HOUR_MS)
    for name, token in (("v-1", "t2"), ("v-2", "t1"), ("ghost", "t1"), ("v-1", "")):
        assert not await bench.store.take_token(VehicleId(name), token_sha256=token, request_sha256="r")
    record = await bench.store.vehicle(V1)
    assert record is not None
    assert not record.enrolled
    assert await bench.store.take_token(V1, token_sha256="t1", request_sha256="r")


async def test_expired_token_enrols_nobody(bench: StoreBench) -> None:
    """A printed token must not open the fleet for ever."""
    await bench.store.import_vehicles([a_vehicle()], now=NOW)
    await bench.store.put_token(V1, token_sha256="t1", life_ms=0)
    assert not await bench.store.take_token(V1, token_sha256="t1", request_sha256="r")


async def test_new_token_replaces_the_old_one(bench: StoreBench) -> None:
    """The lost printout is void, also when it was spent; the new one works although the vehicle was enrolled before."""
    await bench.store.import_vehicles([a_vehicle()], now=NOW)
    await bench.store.put_token(V1, token_sha256="t1", life_ms=HOUR_MS)
    assert await bench.store.take_token(V1, token_sha256="t1", request_sha256="r1")
    await bench.store.put_token(V1, token_sha256="t2", life_ms=HOUR_MS)
    assert not await bench.store.take_token(V1, token_sha256="t1", request_sha256="r1")
    assert await bench.store.take_token(V1, token_sha256="t2", request_sha256="r2")


async def test_manifest_settles_the_attempt_it_proves(bench: StoreBench) -> None:
    """Truth is what the vehicle attests: digest, release, attempt and journal change in one step."""
    attempt = await permitted(bench.store)
    answer = await bench.store.attest(V1, a_manifest(attempt, event=E.ATTESTED_RELEASE), now=after(9))
    assert isinstance(answer, Applied)
    record = answer.record
    assert (record.installed, record.manifest_counter, record.manifest_sha256) == ("1.1.0", 1, f"{1:064x}")
    assert record.attempt is not None
    assert record.attempt.state is S.SUCCEEDED
    manifest, changed = (await entries(bench.store))[-2:]
    assert (manifest.kind, manifest.blob, manifest.at) == ("manifest_accepted", b"manifest \x00\xff 1", after(9))
    assert manifest.data == {
        "vehicle_id": "v-1",
        "rollout_id": "spring",
        "attempt_id": "spring.v-1.1",
        "sha256": f"{1:064x}",
        "counter": 1,
        "installed": "1.1.0",
    }
    assert (changed.kind, changed.data["to"], changed.data["event"]) == (
        "attempt_changed",
        "succeeded",
        "attested_release",
    )


async def test_manifest_is_recorded_once(bench: StoreBench) -> None:
    """Idempotent by digest: the same manifest again is agreed to and changes nothing."""
    attempt = await permitted(bench.store)
    manifest = a_manifest(attempt, event=E.ATTESTED_RELEASE)
    first = await bench.store.attest(V1, manifest, now=NOW)
    count = len(await entries(bench.store))
    assert await bench.store.attest(V1, manifest, now=after(5)) == first
    assert len(await entries(bench.store)) == count


@pytest.mark.uptane("A22", "D4")
@pytest.mark.parametrize("counter", [4, 5])
async def test_replayed_manifest_is_refused(bench: StoreBench, counter: int) -> None:
    """An old manifest would say that the vehicle runs what it ran before."""
    await bench.store.import_vehicles([a_vehicle()], now=NOW)
    await bench.store.attest(V1, a_manifest(counter=5), now=NOW)
    before = await bench.store.vehicle(V1)
    replayed = replace(a_manifest(counter=counter, installed="0.9.0"), sha256="f" * 64)
    assert reason(await bench.store.attest(V1, replayed, now=NOW)) == "stale_epoch"
    assert await bench.store.vehicle(V1) == before


async def test_manifest_without_an_attempt_is_recorded(bench: StoreBench) -> None:
    """A vehicle attests at its first boot, long before any rollout."""
    await bench.store.import_vehicles([a_vehicle()], now=NOW)
    answer = await bench.store.attest(V1, a_manifest(installed=""), now=NOW)
    assert isinstance(answer, Applied)
    assert answer.record.manifest_counter == 1
    (entry,) = await entries(bench.store, "manifest_accepted")
    assert "attempt_id" not in entry.data


async def test_manifest_that_means_nothing_to_the_attempt_changes_only_the_record(bench: StoreBench) -> None:
    """A vehicle may attest its old software at any boot before it installs."""
    attempt = await assigned(bench.store)
    await bench.store.attest(V1, a_manifest(attempt, event=E.ATTESTED_OTHER, installed="1.0.0"), now=NOW)
    assert await state_of(bench.store, attempt) is S.OFFERED
    assert await entries(bench.store, "attempt_changed", "event_ignored") == []


async def test_manifest_cannot_settle_another_vehicles_attempt(bench: StoreBench) -> None:
    """An attempt id in an attestation is believed only for its own vehicle."""
    other = await permitted(bench.store, an_attempt(vehicle_id="v-2"))
    await bench.store.import_vehicles([a_vehicle()], now=NOW)
    await bench.store.attest(V1, a_manifest(other, event=E.ATTESTED_RELEASE), now=NOW)
    assert await state_of(bench.store, other) is S.PERMITTED


async def test_manifest_of_an_unknown_vehicle_is_an_error(bench: StoreBench) -> None:
    """The caller looked it up before; now it is gone."""
    with pytest.raises(KeyError):
        await bench.store.attest(VehicleId("ghost"), a_manifest(), now=NOW)


async def test_success_that_was_reverted_is_corrected_by_a_manifest(bench: StoreBench) -> None:
    """The newest manifest is the truth, and the vehicle gets its case back."""
    attempt = await permitted(bench.store)
    await bench.store.attest(V1, a_manifest(attempt, event=E.ATTESTED_RELEASE), now=NOW)
    await bench.store.attest(
        V1, a_manifest(attempt, counter=2, event=E.ATTESTED_OTHER, installed="1.0.0"), now=after(5)
    )
    assert await state_of(bench.store, attempt) is S.ROLLED_BACK
    (case,) = await bench.store.cases(rollout_id=None, settled=False)
    assert case.cause == "rolled_back"


async def test_manifest_after_a_silent_day_settles_the_case(bench: StoreBench) -> None:
    """A vehicle that comes back from the garage well needs nobody."""
    attempt = await permitted(bench.store)
    await sweep_all(bench.store, after(DAY_MS))
    assert len(await bench.store.cases(rollout_id=None, settled=False)) == 1
    await bench.store.attest(V1, a_manifest(attempt, event=E.ATTESTED_RELEASE), now=after(DAY_MS + 1))
    assert await bench.store.cases(rollout_id=None, settled=False) == []
    (case,) = await bench.store.cases(rollout_id=None, settled=True)
    assert (case.settled_at, case.attempt_state) == (after(DAY_MS + 1), S.SUCCEEDED)


async def found_by(store: Store, wanted: Callable[[Profile], bool], page_size: int = 7) -> list[str]:
    found: list[str] = []
    token = ""
    while True:
        page, token = await store.vehicles(page_token=token, page_size=page_size, wanted=wanted)
        found += [record.vehicle.vehicle_id for record in page]
        if not token:
            return sorted(found)


@pytest.mark.parametrize("page_size", [1, 7, 1000])
async def test_pages_of_some_profiles_go_over_their_vehicles_once(bench: StoreBench, page_size: int) -> None:
    """Also where a profile has more vehicles than a page, and a page holds several profiles."""
    fleet = [a_vehicle(f"v-{number}", region=f"r{number % 5}", tags=(f"t{number % 3}",)) for number in range(90)]
    await bench.store.import_vehicles(fleet, now=NOW)
    wanted = sorted(vehicle.vehicle_id for vehicle in fleet if vehicle.region in ("r1", "r4") and "t2" in vehicle.tags)
    assert len(wanted) == 12
    assert (
        await found_by(bench.store, lambda each: each.region in ("r1", "r4") and "t2" in each.tags, page_size) == wanted
    )
    assert await found_by(bench.store, lambda each: each.region == "nowhere", page_size) == []


async def test_vehicles_are_found_by_what_they_are_now(bench: StoreBench) -> None:
    """By an import, a change, a manifest and a removal; and a second time by an import that changes keys alone."""
    await bench.store.import_vehicles([a_vehicle(f"v-{number}") for number in range(1, 6)], now=NOW)
    await bench.store.import_vehicles([a_vehicle("v-2", region="us"), a_vehicle("v-2", region="ap")], now=NOW)
    await bench.store.attest(V1, a_manifest(installed="1.0.0"), now=NOW)
    moved = InventoryChange(before=a_vehicle("v-3"), after=a_vehicle("v-3", region="ap"))
    await bench.store.change_vehicles([moved], actor="ann", reason="sold", now=NOW)
    await bench.store.remove_vehicle(VehicleId("v-4"), actor="ann", reason="sold", now=NOW)
    await bench.store.import_vehicles([a_vehicle("v-5", ecus=a_vehicle("w-5").ecus)], now=NOW)
    await bench.store.import_vehicles([a_vehicle("v-5", ecus=a_vehicle("w-5").ecus[:1])], now=NOW)
    assert await found_by(bench.store, lambda each: each.region == "ap") == ["v-2", "v-3"]
    assert await found_by(bench.store, lambda each: each.region == "us") == []
    assert await found_by(bench.store, lambda each: each.installed == "1.0.0") == ["v-1"]
    assert await found_by(bench.store, lambda each: each.region == "eu" and not each.installed) == ["v-5"]
    assert await bench.store.profiles() == {
        a_profile("1.0.0"): 1,
        a_profile(region="ap"): 2,
        a_profile(): 1,
    }
