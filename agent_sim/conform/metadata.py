"""Signed metadata for one vehicle: as an honest server would send it, and as an attacker or a broken server would.

Owns which keys sign what. Every bad bundle has exactly one fault; the rest of it is in order, so that an agent which
does not look at that very thing takes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Snapshot, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from agent_sim.conform.world import OLDER, RELEASE, ConformVehicle, World
from signing import canonical
from signing.director import AssignedImage, Assignment, DirectorSigners, DirectorVersions, director_files, next_version
from signing.keys import load_signer

_EVIL = b'{"hardware_id": "acme-gw-1", "version": "6.6.6", "seed": 0}\n' + b"evil" * 20_000


@dataclass(frozen=True, slots=True)
class Bundle:
    """The newest files of both repositories, by name, as one server has them."""

    director: Mapping[str, bytes]
    image: Mapping[str, bytes]
    extra_images: Mapping[str, bytes]
    """Images beside the released ones, by file name."""
    insist: bool = False
    """Send everything, whatever the vehicle holds."""


class Signatory:
    """Signs for one vehicle.

    Args:
        world: keys and images.
        vehicle: for whom.
    """

    def __init__(self, world: World, vehicle: ConformVehicle) -> None:
        self._world = world
        self._vehicle = vehicle
        self._signers = DirectorSigners.load(world.data.director_keys)
        self.version = 0
        """Of the newest Director files."""

    def assign(self, images: Sequence[AssignedImage], now: datetime) -> Bundle:
        """What an honest server has when `images` are assigned."""
        return Bundle(self._director(images, now), self._image(), {})

    def _director(
        self,
        images: Sequence[AssignedImage],
        now: datetime,
        *,
        signers: DirectorSigners | None = None,
        vehicle_id: str = "",
        issued_at: datetime | None = None,
    ) -> dict[str, bytes]:
        self.version = next_version(self.version, now)
        issued_at = issued_at or now
        versions = DirectorVersions(self.version, issued_at, self.version, issued_at)
        assignment = Assignment(vehicle_id or self._vehicle.vehicle_id, tuple(images))
        return director_files(signers or self._signers, assignment, versions)

    def _image(self) -> dict[str, bytes]:
        repository = self._world.repository
        versions = repository.versions()
        names = ("timestamp.json", f"{versions.snapshot}.snapshot.json", f"{versions.targets}.targets.json")
        files = {name: repository.metadata_file(name) for name in (*names, "1.root.json")}
        return {name: content for name, content in files.items() if content is not None}

    def _release(self, version: str = RELEASE) -> tuple[AssignedImage, ...]:
        return self._world.released(version, self._vehicle)

    # One fault each

    def expired(self, now: datetime) -> Bundle:
        """The Director's files ran out: a server that replays the past."""
        files = self._director(self._release(), now, issued_at=now - timedelta(days=30))
        return Bundle(files, self._image(), {})

    def forged(self, now: datetime) -> Bundle:
        """Signed with keys that no root names."""
        strangers = DirectorSigners(*(CryptoSigner.generate_ed25519() for _ in range(3)))
        return Bundle(self._director(self._release(), now, signers=strangers), self._image(), {})

    def of_another_vehicle(self, now: datetime) -> Bundle:
        """Good files of somebody else, who has the same units."""
        return Bundle(self._director(self._release(), now, vehicle_id="somebody-else"), self._image(), {})

    def for_a_strange_unit(self, now: datetime) -> Bundle:
        """Names a control unit that the vehicle does not have."""
        first, *rest = self._release()
        images = [replace(first, ecu_serials=("not-here-e0",)), *rest]
        return Bundle(self._director(images, now), self._image(), {})

    def never_released(self, now: datetime) -> Bundle:
        """A stolen Director assigns bytes that the Image repository never released under that name."""
        first, *rest = self._release()
        digest = sha256(_EVIL).hexdigest()
        images = [replace(first, sha256=digest, length=len(_EVIL)), *rest]
        evil = {f"{digest}.{first.path.rpartition('/')[2]}": _EVIL}
        return Bundle(self._director(images, now), self._image(), evil)

    def for_other_hardware(self, now: datetime) -> Bundle:
        """The Secondary's image, assigned to the Primary."""
        first, second = self._release()
        images = [replace(second, ecu_serials=first.ecu_serials)]
        return Bundle(self._director(images, now), self._image(), {})

    def delegated(self, now: datetime) -> Bundle:
        """The Director's targets delegate, which Uptane forbids."""
        key = self._signers.targets.public_key

        def edit(targets: dict[str, Any]) -> None:
            role = {"name": "helper", "keyids": [key.keyid], "threshold": 1, "terminating": True, "paths": ["*"]}
            targets["delegations"] = {"keys": {key.keyid: key.to_dict()}, "roles": [role]}

        return Bundle(self._edited(now, edit), self._image(), {})

    def badly_named(self, now: datetime) -> Bundle:
        """An image whose name leaves the folder that it belongs to."""

        def edit(targets: dict[str, Any]) -> None:
            path = next(iter(targets["targets"]))
            targets["targets"]["../../" + path] = targets["targets"].pop(path)

        return Bundle(self._edited(now, edit), self._image(), {})

    def oversized(self, now: datetime) -> Bundle:
        """More bytes than the cap."""
        return Bundle(self._edited(now, lambda targets: targets.update(padding="x" * 70_000)), self._image(), {})

    def mixed(self, now: datetime) -> Bundle:
        """Targets and snapshot that were each signed, but not together."""
        files = self._director(self._release(), now)
        stem = f"{self.version}.targets.json"
        other = self._edited(now, lambda targets: targets["targets"].pop(next(iter(targets["targets"]))))
        signed = json.loads(other[f"{self.version}.targets.json"])["signed"]
        files[stem] = self._resigned("targets", signed, self.version - 1)
        return Bundle(files, self._image(), {})

    def _edited(self, now: datetime, edit: Callable[[dict[str, Any]], object]) -> dict[str, bytes]:
        """The Director's files with other targets, signed together with the right keys."""
        files = self._director(self._release(), now)
        version = self.version
        parts: dict[str, bytes] = {}
        for role in ("targets", "snapshot", "timestamp"):
            name = "timestamp.json" if role == "timestamp" else f"{version}.{role}.json"
            signed = json.loads(files[name])["signed"]
            if role == "targets":
                edit(signed)
            else:
                below = "targets" if role == "snapshot" else "snapshot"
                content = parts[f"{version}.{below}.json"]
                digest = sha256(content).hexdigest()
                signed["meta"][f"{below}.json"] |= {"length": len(content), "hashes": {"sha256": digest}}
            parts[name] = self._resigned(role, signed, version)
        return parts

    def _resigned(self, role: str, signed: dict[str, Any], version: int) -> bytes:
        signer: CryptoSigner = getattr(self._signers, role)
        payload = canonical.encode(signed | {"version": version})
        signatures = canonical.encode([signer.sign(payload).to_dict()])
        return b'{"signatures":' + signatures + b',"signed":' + payload + b"}"

    def older_release(self, now: datetime) -> Bundle:
        """A released image with a lower release counter than what runs."""
        return Bundle(self._director(self._release(OLDER), now), self._image(), {})

    def rolled_back(self, images: Sequence[AssignedImage], now: datetime) -> Bundle:
        """Good signatures, versions below those that the vehicle was given before."""
        self.version -= 100
        version = self.version
        versions = DirectorVersions(version, now, version, now)
        files = director_files(self._signers, Assignment(self._vehicle.vehicle_id, tuple(images)), versions)
        self.version += 100
        return Bundle(files, self._image(), {}, insist=True)

    def image_forged(self, now: datetime) -> Bundle:
        """A thief of the online Image keys lists an image; the offline targets key did not sign it."""
        first, *rest = self._release()
        digest = sha256(_EVIL).hexdigest()
        stolen = [replace(first, sha256=digest, length=len(_EVIL)), *rest]
        evil = {f"{digest}.{first.path.rpartition('/')[2]}": _EVIL}
        return Bundle(self._director(stolen, now), self._image_with_forged_targets(first.path, digest), evil)

    def image_expired(self, now: datetime) -> Bundle:
        """The Image repository's timestamp ran out."""
        files = self._image()
        timestamp = Metadata[Timestamp].from_bytes(files["timestamp.json"]).signed
        timestamp.expires = now - timedelta(days=1)
        return Bundle(
            self._director(self._release(), now), files | {"timestamp.json": self._sign(timestamp, "timestamp")}, {}
        )

    def without_image_metadata(self, now: datetime) -> Bundle:
        """The Image repository's targets are nowhere to be had: nothing can be compared."""
        return Bundle(self._director(self._release(), now), {"1.root.json": self._image()["1.root.json"]}, {})

    def _image_with_forged_targets(self, path: str, digest: str) -> dict[str, bytes]:
        files = self._image()
        name = next(name for name in files if name.endswith(".targets.json"))
        targets = Metadata[Targets].from_bytes(files[name]).signed
        targets.targets[path].hashes["sha256"] = digest
        targets.targets[path].length = len(_EVIL)
        targets.version += 1
        stranger: Metadata[Targets] = Metadata(targets)
        stranger.sign(CryptoSigner.generate_ecdsa())
        forged = stranger.to_bytes(JSONSerializer(compact=True))
        snapshot_name = next(name for name in files if name.endswith(".snapshot.json"))
        snapshot = Metadata[Snapshot].from_bytes(files[snapshot_name]).signed
        snapshot.version += 1
        snapshot.meta["targets.json"] = MetaFile(targets.version, len(forged), {"sha256": sha256(forged).hexdigest()})
        signed_snapshot = self._sign(snapshot, "snapshot")
        timestamp = Metadata[Timestamp].from_bytes(files["timestamp.json"]).signed
        timestamp.version += 1
        timestamp.snapshot_meta = MetaFile(
            snapshot.version, len(signed_snapshot), {"sha256": sha256(signed_snapshot).hexdigest()}
        )
        return {
            "1.root.json": files["1.root.json"],
            f"{targets.version}.targets.json": forged,
            f"{snapshot.version}.snapshot.json": signed_snapshot,
            "timestamp.json": self._sign(timestamp, "timestamp"),
        }

    def _sign(self, signed: Snapshot | Timestamp, role: str) -> bytes:
        metadata: Metadata[Any] = Metadata(signed)
        metadata.sign(load_signer(self._world.data.image_keys, role))
        return metadata.to_bytes(JSONSerializer(compact=True))


def version_in(content: bytes) -> int:
    """The version that a metadata file carries, unchecked."""
    version = json.loads(content)["signed"]["version"]
    assert isinstance(version, int), "we signed this"
    return version
