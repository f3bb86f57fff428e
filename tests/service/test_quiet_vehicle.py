"""A vehicle for which nothing changes: it costs one timestamp a day, and what it is told always verifies."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.model.ids import FleetTime
from orchestrator.model.vehicle import DirectorState, SignedSnapshot
from orchestrator.service.director import TARGETS_LIFE_MS, TIMESTAMP_KEPT_MS, renewed
from orchestrator.service.vehicles import Held
from signing.director import Renewal
from signing.verify import PrimaryVerifier
from tests.builders import HOUR_MS, NOW, an_ecu
from tests.service.world import POLL, Car, World

A_DAY_MS = TIMESTAMP_KEPT_MS + HOUR_MS


class QuietVehicle:
    """A car that calls now and then, and verifies all that it is told."""

    def __init__(self, world: World, car: Car) -> None:
        self._world = world
        self.car = car
        self.verifier = self._provisioned("held")

    def _provisioned(self, folder: str) -> PrimaryVerifier:
        provisioning = self._world.data.provisioning
        return PrimaryVerifier(
            self._world.folder / folder,
            vehicle_id=self.car.vehicle_id,
            ecus=self.car.hardware,
            director_root=(provisioning / "director-root.json").read_bytes(),
            image_root=(provisioning / "image-root.json").read_bytes(),
        )

    def loses_its_metadata(self) -> None:
        self.verifier = self._provisioned("empty")

    async def poll(self) -> list[str]:
        """One call; the names of the files that came."""
        versions, _ = self.verifier.versions()
        held = Held(versions.root, versions.timestamp, versions.snapshot, versions.targets)
        reply = await self._world.desk.check_in(self.car.vehicle_id, replace(POLL, director=held))
        files = {("director", name): content for name, content in reply.director_files.items()}
        assert self.verifier.verify(files, now=self._world.signed_now(), installed={}).images == ()
        return sorted(name.partition(".")[2] if name[0].isdigit() else name for name in reply.director_files)


@pytest.fixture
async def quiet(world: World) -> QuietVehicle:
    """It has called once."""
    car = Car("v-1")
    await world.add(car)
    vehicle = QuietVehicle(world, car)
    assert await vehicle.poll() == ["snapshot.json", "targets.json", "timestamp.json"]
    return vehicle


@pytest.mark.uptane("D6")
async def test_quiet_vehicle_costs_one_signature_a_day(world: World, quiet: QuietVehicle) -> None:
    """A fleet is quiet on most days: three signatures and three files for each would be thrice the cost."""
    for day in range(4):
        world.hand.advance(A_DAY_MS)
        assert await quiet.poll() == ["timestamp.json"]
        assert await quiet.poll() == []
        assert (world.signer.asked, world.signer.renewed) == (1, day + 1)
    world.hand.advance(A_DAY_MS)
    assert await quiet.poll() == ["snapshot.json", "targets.json", "timestamp.json"]
    assert (world.signer.asked, world.signer.renewed) == (2, 4), "at half the life of targets, all three"


@pytest.mark.uptane("D6")
async def test_calling_every_hour_costs_no_more(world: World, quiet: QuietVehicle) -> None:
    """And each time what it holds is good for hours to come: a few calls may fail."""
    for _ in range(3 * 24):
        world.hand.advance(HOUR_MS)
        await quiet.poll()
    assert (world.signer.asked, world.signer.renewed) == (1, 3)


async def test_other_worker_goes_on_where_one_left_off(world: World, quiet: QuietVehicle) -> None:
    """What the snapshot was is in the store, not in the memory of the worker that had it signed."""
    world.director._files.clear()
    world.hand.advance(A_DAY_MS)
    assert await quiet.poll() == ["timestamp.json"]
    assert (world.signer.asked, world.signer.renewed) == (1, 1)


async def test_vehicle_that_lost_its_metadata_is_sent_all_of_it(world: World, quiet: QuietVehicle) -> None:
    """A timestamp alone leads nowhere for who does not hold the snapshot under it."""
    world.hand.advance(A_DAY_MS)
    quiet.loses_its_metadata()
    assert await quiet.poll() == ["snapshot.json", "targets.json", "timestamp.json"]
    world.hand.advance(A_DAY_MS)
    assert await quiet.poll() == ["timestamp.json"]


@pytest.mark.parametrize("lacking", ["snapshot", "targets"])
async def test_timestamp_alone_is_for_who_holds_both_others(world: World, quiet: QuietVehicle, lacking: str) -> None:
    """Half a memory is none: both files come again."""
    world.hand.advance(A_DAY_MS)
    versions, _ = quiet.verifier.versions()
    held = replace(Held(versions.root, versions.timestamp, versions.snapshot, versions.targets), **{lacking: 0})
    reply = await world.desk.check_in(quiet.car.vehicle_id, replace(POLL, director=held))
    assert len(reply.director_files) == 3


async def test_replaced_unit_is_listed_under_a_version_of_its_own(world: World) -> None:
    """Old targets name a unit that is gone. Other content under the old version would look like an attack."""
    car = Car("v-1")
    await world.add(car)
    await world.start()
    await world.granted(car)
    before = (await world.record(car)).director
    units = [
        *(ecu for ecu in car.vehicle.ecus if ecu.primary),
        *(replace(ecu, serial=an_ecu("new-bcm").serial) for ecu in car.vehicle.ecus if not ecu.primary),
    ]
    world.hand.advance(A_DAY_MS)
    await world.check_in(car)  # kept from here on
    await world.store.import_vehicles([replace(car.vehicle, ecus=tuple(units))], now=world.now)
    kept = (await world.record(car)).director
    assert (kept.release, kept.version > before.version) == ("1.1.0", True)
    world.hand.advance(A_DAY_MS)
    reply = await world.check_in(car)
    after = (await world.record(car)).director
    assert after.version > kept.version
    assert b"new-bcm" in reply.director_files[f"{after.version}.targets.json"]


async def test_root_that_comes_while_a_timestamp_is_signed_brings_all_files(
    world: World, quiet: QuietVehicle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timestamp by new keys over a snapshot by old ones is a file that no vehicle can use."""
    sign = world.signer.director_timestamp
    newest = world.director.newest_root()

    async def overtaken(renewal: Renewal) -> bytes:
        monkeypatch.setattr(world.director, "newest_root", lambda: newest + 1)
        return await sign(renewal)

    monkeypatch.setattr(world.signer, "director_timestamp", overtaken)
    world.hand.advance(A_DAY_MS)
    versions, _ = quiet.verifier.versions()
    held = Held(versions.root, versions.timestamp, versions.snapshot, versions.targets)
    reply = await world.desk.check_in(quiet.car.vehicle_id, replace(POLL, director=held))
    assert len(reply.director_files) == 3


def test_version_whose_snapshot_is_not_known_is_never_signed_again() -> None:
    """A state that was granted, or written before snapshots were kept: in doubt everything gets a new version."""
    state = DirectorState(version=7, issued_at=NOW, timestamp_version=7, timestamp_issued_at=NOW)
    later = FleetTime(NOW + A_DAY_MS)
    assert A_DAY_MS < TARGETS_LIFE_MS // 2
    assert renewed(state, later).version > 7
    kept = replace(state, snapshot=SignedSnapshot(7, 400, "ab" * 32, "cd" * 8))
    assert renewed(kept, later).version == 7
    assert renewed(kept, later).snapshot == kept.snapshot
