"""Every role of both repositories gets new keys, and a vehicle follows: ceremony, Director's desk, verifier."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner, Key
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, Snapshot, Timestamp

from orchestrator.model.ids import FleetTime, HardwareId
from orchestrator.model.release import Image
from orchestrator.model.vehicle import DirectorState
from orchestrator.service.director import DirectorDesk, assigned, assignment, renewed
from orchestrator.service.image_files import ImageFiles
from signing.ceremony import DataFolder, initialise
from signing.change import PendingChange, sign_change
from signing.change_edits import (
    RootEdit,
    adding,
    begin,
    edit_root,
    renewing,
    requiring,
    revoking,
    rotating,
    with_listings,
)
from signing.change_publication import publish_director, publish_image
from signing.director import (
    Assignment,
    DirectorSigners,
    DirectorVersions,
    Renewal,
    director_files,
    director_timestamp,
)
from signing.errors import AttackCode, KeyFileError, StaleChangeError, VerificationError
from signing.image_repo import ImageRepository, NewImage
from signing.key_names import find_key
from signing.keys import load_signer, save_signer
from signing.names import VERSION_MAX, RepositoryName
from signing.roots import newest_root
from signing.verify import PrimaryVerifier
from tests.builders import PRIMARY_HARDWARE, a_release, a_vehicle, an_ecu
from tests.signing.uptane_simulator import NOW

ROLES = ("root", "targets", "snapshot", "timestamp")
EVERY_ROLE = [(repository, role) for repository in ("director", "image") for role in ROLES]
VEHICLE = a_vehicle("veh-1", ecus=[an_ecu("P-1", hardware_id=PRIMARY_HARDWARE, primary=True)])


class NewestKeys:
    """The signer without its process: signs by the keys that the newest root names, as it does."""

    def __init__(self, data: DataFolder) -> None:
        self._data = data

    async def director_files(self, wanted: Assignment, versions: DirectorVersions) -> dict[str, bytes]:
        return director_files(self._in_force(), wanted, versions)

    async def director_timestamp(self, renewal: Renewal) -> bytes:
        return director_timestamp(self._in_force(), renewal)

    def _in_force(self) -> DirectorSigners:
        return DirectorSigners.load(self._data.director_keys, newest_root(self._data.director_metadata).signed)


class Road:
    """One installation with one released image, and one vehicle that polls it."""

    def __init__(self, data: DataFolder, held: Path) -> None:
        self.data = data
        self.now = NOW
        self.desk = DirectorDesk(NewestKeys(data), data.director_metadata)
        self.repository = ImageRepository(data.image_repo)
        self.images = ImageFiles(data.image_repo / "metadata")
        image = held.parent / "image"
        image.write_bytes(b"1.1.0")
        new = NewImage("acme/gw.img", image, PRIMARY_HARDWARE, 2, "1.1.0")
        (info,) = self.repository.publish([new], data.image_keys, NOW)
        image_of_release = Image(
            hardware_id=HardwareId(info.hardware_id),
            path=info.path,
            length_bytes=info.length,
            sha256=info.sha256,
            release_counter=info.release_counter,
        )
        self.release = a_release("1.1.0", images=(image_of_release,))
        self.state = assigned(DirectorState(), self.release.version, self.fleet_time())
        self.verifier = PrimaryVerifier(
            held,
            vehicle_id="veh-1",
            ecus={"P-1": PRIMARY_HARDWARE},
            director_root=(data.provisioning / "director-root.json").read_bytes(),
            image_root=(data.provisioning / "image-root.json").read_bytes(),
        )

    def fleet_time(self) -> FleetTime:
        return FleetTime(int(self.now.timestamp() * 1000))

    async def offered(self) -> dict[tuple[str, str], bytes]:
        """What the server answers to a vehicle that says what it holds."""
        director, image = self.verifier.versions()
        state = renewed(self.state, self.fleet_time())
        if state != self.state:
            self.state = await self.desk.pinned(VEHICLE, state, self.release, self.fleet_time())
        files = await self.desk.newer_than(director, VEHICLE, self.state, self.release)
        self.images.refresh()
        offered = {("director", name): content for name, content in files.items()}
        return offered | {("image", name): content for name, content in self.images.newer_than(image).items()}

    async def poll(self) -> None:
        bundle = self.verifier.verify(await self.offered(), now=self.now, installed={})
        assert [image.path for image in bundle.images] == ["acme/gw.img"]

    def hold(self, repository: RepositoryName, edit: RootEdit, *more: CryptoSigner) -> None:
        """A whole ceremony, signed by whoever is needed."""
        change = self.edited(repository, edit)
        old = [load_signer(self.data.keys_of(repository), name) for name in ("root-2", "root-3")]
        self.publish(signed(change, *old, *more))

    def edited(self, repository: RepositoryName, edit: RootEdit) -> PendingChange:
        published = self.listings() if repository == "image" else None
        begun = begin(repository, newest_root(self.data.metadata_of(repository)), published)
        change = edit_root(begun, edit, self.now)
        return with_listings(change, published, self.now) if published is not None else change

    def targets(self) -> Metadata:  # type: ignore[type-arg]
        return self.repository.metadata.current("targets")

    def listings(self) -> dict[str, Metadata]:  # type: ignore[type-arg]
        return self.repository.metadata.listings()

    def publish(self, change: PendingChange) -> None:
        publish = publish_director if change.repository == "director" else publish_image
        publish(change, self.data, self.now)

    def rotation(self, repository: RepositoryName, role: str, number: int = 2) -> tuple[RootEdit, list[CryptoSigner]]:
        """New keys for a role, where they belong, and the edit that puts them in force."""
        offline = role == "root" or (repository, role) == ("image", "targets")
        fresh = [
            CryptoSigner.generate_ecdsa() if offline else CryptoSigner.generate_ed25519()
            for _ in range(3 if role == "root" else 1)
        ]
        if role != "root":
            save_signer(fresh[0], self.data.keys_of(repository) / f"{role}-{number}.pem")
        keys: list[Key] = [signer.public_key for signer in fresh]
        return rotating(role, [], keys), fresh if offline else []


def signed(change: PendingChange, *signers: CryptoSigner) -> PendingChange:
    for signer in signers:
        change, _ = sign_change(change, signer)
    return change


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    return initialise(tmp_path_factory.mktemp("ceremony") / "data", trust_domain="fleet.example", now=NOW)


@pytest.fixture
def road(pristine: DataFolder, tmp_path: Path) -> Road:
    shutil.copytree(pristine.path, tmp_path / "data")
    return Road(DataFolder(tmp_path / "data"), tmp_path / "held")


@pytest.mark.parametrize(("repository", "role"), EVERY_ROLE)
async def test_a_vehicle_follows_the_rotation_of_every_role(road: Road, repository: RepositoryName, role: str) -> None:
    """Whatever key is replaced, the next poll succeeds, within the same minute and with the same assignment."""
    await road.poll()
    edit, signers = road.rotation(repository, role)
    road.hold(repository, edit, *signers)
    await road.poll()
    assert [versions.root for versions in road.verifier.versions()] == ([2, 1] if repository == "director" else [1, 2])


@pytest.mark.parametrize("looks_apart_s", [0.0, 0.05])
async def test_a_vehicle_that_lacks_nothing_hears_of_a_new_root_soon(road: Road, looks_apart_s: float) -> None:
    """Not every poll looks at the disk; none waits for its root longer than the looks are apart."""
    await road.poll()
    road.desk = DirectorDesk(NewestKeys(road.data), road.data.director_metadata, looks_apart_s=looks_apart_s)
    assert not await road.desk.newer_than(road.verifier.versions()[0], VEHICLE, road.state, road.release)
    edit, signers = road.rotation("director", "timestamp")
    road.hold("director", edit, *signers)
    await asyncio.sleep(looks_apart_s)
    await road.poll()
    assert road.verifier.versions()[0].root == 2


@pytest.mark.parametrize("role", ROLES)
async def test_a_quiet_vehicle_is_sent_a_timestamp_alone_again_after_a_rotation(road: Road, role: str) -> None:
    """What was kept of a snapshot is of one root's keys; the one behind the next root is kept in its place."""

    async def a_day_later() -> list[str]:
        road.now += timedelta(hours=21)
        road.repository.renew(road.data.image_keys, road.now)
        names = [name for repository, name in await road.offered() if repository == "director"]
        await road.poll()
        return names

    await road.poll()
    await a_day_later()
    assert await a_day_later() == ["timestamp.json"]
    edit, signers = road.rotation("director", role)
    road.hold("director", edit, *signers)
    assert len([name for repository, name in await road.offered() if repository == "director"]) == len(ROLES)
    await road.poll()
    only_timestamp_lost = replace(road.verifier.versions()[0], timestamp=0)
    assert len(await road.desk.newer_than(only_timestamp_lost, VEHICLE, road.state, road.release)) == len(ROLES) - 1
    for _ in range(2):
        assert await a_day_later() == ["timestamp.json"]


async def test_a_vehicle_that_was_away_walks_through_all_rotations(road: Road) -> None:
    """A26: in a garage for years; it goes root by root, over some that have expired."""
    await road.poll()
    for number in range(3):
        for repository in ("director", "image"):
            edit, signers = road.rotation(repository, "timestamp", number + 2)
            road.hold(repository, edit, *signers)
            road.hold(repository, renewing)
        road.now += timedelta(days=300)
    for repository, keys in (("image", road.data.image_keys), ("director", None)):
        road.hold(repository, renewing)
        if keys:
            road.repository.renew(keys, road.now)
    road.hold("image", renewing)
    published = road.listings()
    begun = begin("image", newest_root(road.data.metadata_of("image")), published)
    targets = with_listings(begun, published, road.now, renew="targets")
    road.publish(signed(targets, load_signer(road.data.image_keys, "targets")))
    await road.poll()
    assert road.verifier.versions()[0].root == 8


async def test_a_stolen_director_timestamp_key_is_worth_nothing_after_its_rotation(road: Road) -> None:
    """A24 and A25: versions that the thief has driven up are forgotten, and the old key convinces nobody."""
    stolen = DirectorSigners.load(road.data.director_keys)
    wanted = assignment(VEHICLE, road.release)

    def forged(version: int) -> dict[tuple[str, str], bytes]:
        versions = DirectorVersions(version, road.now, VERSION_MAX, road.now)
        return {("director", name): file for name, file in director_files(stolen, wanted, versions).items()}

    await road.poll()
    road.verifier.verify(forged(VERSION_MAX), now=road.now, installed={})
    assert road.verifier.versions()[0].timestamp == VERSION_MAX
    for number, role in enumerate(("targets", "snapshot", "timestamp")):
        edit, signers = road.rotation("director", role, number + 2)
        road.hold("director", edit, *signers)
    await road.poll()
    assert road.verifier.versions()[0].timestamp < VERSION_MAX
    with pytest.raises(VerificationError) as caught:
        road.verifier.verify(forged(VERSION_MAX), now=road.now, installed={})
    assert caught.value.code is AttackCode.ARBITRARY


async def test_versions_driven_up_in_the_image_repository_end_with_its_keys(road: Road) -> None:
    """A24: snapshot and timestamp start again from the clock, in the folder and in vehicles; the evidence is kept."""
    folder = road.data.image_repo / "metadata"
    metadata = road.repository.metadata
    snapshot, timestamp = metadata.load("snapshot", Snapshot), metadata.load("timestamp", Timestamp)
    snapshot.version = timestamp.version = VERSION_MAX - 1
    timestamp.snapshot_meta = metadata.sign(snapshot, road.data.image_keys, road.now)
    metadata.sign(timestamp, road.data.image_keys, road.now)
    await road.poll()
    assert road.verifier.versions()[1].timestamp == VERSION_MAX
    for role in ("snapshot", "timestamp"):
        edit, _ = road.rotation("image", role)
        road.hold("image", edit)
    await road.poll()
    assert road.verifier.versions()[1].timestamp < VERSION_MAX
    assert (road.data.image_repo / "set-aside" / f"{VERSION_MAX}.snapshot.json").exists()
    assert not (folder / f"{VERSION_MAX}.snapshot.json").exists()
    road.now += timedelta(days=4)
    assert road.repository.renew(road.data.image_keys, road.now) == ("snapshot", "timestamp")
    await road.poll()


async def test_a_revoked_root_key_signs_no_further_root(road: Road) -> None:
    """A25: one of three is stolen; the other two take it away, and it has no say in the next one."""
    root = newest_root(road.data.director_metadata).signed
    road.hold("director", revoking(find_key(root, "root-1")))
    await road.poll()
    change = road.edited("director", renewing)
    assert "root-1" not in str([demand.missing for demand in change.demands()])


async def test_a_vehicle_that_gets_the_roots_alone_goes_on_at_its_next_poll(road: Road) -> None:
    """The connection breaks behind the roots: what it holds by old keys is not told as held, and is sent anew."""
    await road.poll()
    edit, _ = road.rotation("director", "timestamp")
    road.hold("director", edit)
    roots = {key: content for key, content in (await road.offered()).items() if key[1].endswith("root.json")}
    with pytest.raises(VerificationError):
        road.verifier.verify(roots, now=road.now, installed={})
    director = road.verifier.versions()[0]
    assert (director.root, director.timestamp, director.snapshot) == (2, 0, 0)
    await road.poll()


async def test_targets_that_were_overtaken_by_a_release_are_refused(road: Road, tmp_path: Path) -> None:
    """A change that was signed for weeks must not take back a release of last week."""
    edit, signers = road.rotation("image", "targets")
    change = road.edited("image", edit)
    (tmp_path / "image").write_bytes(b"1.2.0")
    new = NewImage("acme/gw-2.img", tmp_path / "image", PRIMARY_HARDWARE, 3, "1.2.0")
    road.repository.publish([new], road.data.image_keys, road.now)
    old = [load_signer(road.data.image_keys, name) for name in ("root-1", "root-2")]
    with pytest.raises(StaleChangeError, match="lists other images"):
        road.publish(signed(change, *old, *signers))
    assert newest_root(road.data.metadata_of("image")).signed.version == 1


async def test_an_image_root_without_its_online_keys_is_not_published(road: Road) -> None:
    """Readers would find a root and no timestamp that fits it."""
    edit, _ = road.rotation("image", "timestamp")
    (road.data.image_keys / "timestamp-2.pem").unlink()
    with pytest.raises(KeyFileError, match="not the timestamp key"):
        road.hold("image", edit)
    assert newest_root(road.data.metadata_of("image")).signed.version == 1
    await road.poll()


async def test_an_image_publication_that_is_cut_short_is_repeated(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    """Power fails between root and timestamp: the same file is published again, and the repository is whole."""
    edit, signers = road.rotation("image", "targets")
    keys = [load_signer(road.data.image_keys, name) for name in ("root-1", "root-2")]
    change = signed(road.edited("image", edit), *keys, *signers)
    from signing import image_metadata

    write = image_metadata.write_atomically

    def failing(path: Path, data: bytes) -> None:
        if path.name == "timestamp.json":
            raise OSError(5, "power lost", str(path))
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(image_metadata, "write_atomically", failing)
        with pytest.raises(OSError, match="power lost"):
            road.publish(change)
    assert newest_root(road.data.metadata_of("image")).signed.version == 2
    road.publish(change)
    await road.poll()
    assert road.verifier.versions()[1].root == 2


async def test_a_publication_needs_as_many_keys_as_the_threshold_of_targets(road: Road, tmp_path: Path) -> None:
    """Two of two sign releases: one of them at hand publishes nothing, both do."""
    fresh = CryptoSigner.generate_ecdsa()
    one, two = adding("targets", [fresh.public_key]), requiring("targets", 2)
    change = edit_root(road.edited("image", one), two, road.now)
    change = with_listings(change, road.listings(), road.now)
    keys = [load_signer(road.data.image_keys, name) for name in ("root-1", "root-2", "targets")]
    road.publish(signed(change, *keys, fresh))
    (tmp_path / "image").write_bytes(b"1.2.0")
    new = NewImage("acme/gw-2.img", tmp_path / "image", PRIMARY_HARDWARE, 3, "1.2.0")
    with pytest.raises(KeyFileError, match="targets of the Image repository takes 2 keys, 1 of them in"):
        road.repository.publish([new], road.data.image_keys, road.now)
    save_signer(fresh, road.data.image_keys / "targets-2.pem")
    assert road.repository.publish([new], road.data.image_keys, road.now)
    assert len(road.targets().signatures) == 2
    await road.poll()


async def test_a_root_is_not_served_before_the_timestamp_that_fits_it(road: Road) -> None:
    """Between the two writes of a publication a vehicle gets what was there before, and no alarm is raised."""
    await road.poll()
    edit, _ = road.rotation("image", "timestamp")
    road.hold("image", edit)
    timestamp = road.data.image_repo / "metadata" / "timestamp.json"
    fits, root = timestamp.read_bytes(), road.data.image_repo / "metadata" / "2.root.json"
    content, served = root.read_bytes(), ImageFiles(timestamp.parent)
    metadata = Metadata.from_bytes(fits)
    metadata.sign(load_signer(road.data.image_keys, "timestamp"))
    timestamp.write_bytes(metadata.to_bytes())  # as it was a moment ago: by the key that the new root takes away
    with pytest.raises(UnsignedMetadataError):
        served.refresh()
    assert served.named(["2.root.json", "timestamp.json"]) == {}
    timestamp.write_bytes(fits)
    served.refresh()
    assert served.named(["2.root.json", "timestamp.json"]) == {"2.root.json": content, "timestamp.json": fits}
