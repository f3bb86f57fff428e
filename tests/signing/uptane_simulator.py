"""Two Uptane repositories in memory, whose keys a test may misuse: the attacker's and the honest side's workshop.

Made from python-tuf's own objects and not from `signing.director` or `signing.image_repo`, so that the verifier is
tested against files that someone else made, and so that files can be made which our own code refuses to make.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, Snapshot, TargetFile, Targets, Timestamp

from signing.errors import AttackCode, VerificationError
from signing.verify import InstalledImage, PrimaryVerifier, VerifiedBundle

NOW = datetime(2031, 5, 1, 12, 0, 0, tzinfo=UTC)
"""Fleet time of the tests: years from the wall clock on purpose."""
VEHICLE = "veh-1"
ECUS = {"PRIMARY-1": "acme-gw-1", "BRAKE-1": "acme-brake-1"}
GATEWAY_PATH = "acme/gw-1.1.0.img"
BRAKE_PATH = "acme/brake-1.1.0.img"
IMAGES = {GATEWAY_PATH: b"gateway 1.1.0" * 10, BRAKE_PATH: b"brake 1.1.0" * 10}

LIVES = {"targets": timedelta(days=7), "snapshot": timedelta(days=7), "timestamp": timedelta(hours=24)}
Files = dict[tuple[str, str], bytes]


class RepositorySimulator:
    """One repository: edit `root`, `targets`, `snapshot`, `timestamp` and `signers`, then publish."""

    def __init__(self, kind: str, vehicle_id: str | None) -> None:
        self.kind = kind
        self.vehicle_id = vehicle_id
        self.now = NOW
        self.signers: dict[str, list[CryptoSigner]] = {"root": [CryptoSigner.generate_ecdsa() for _ in range(3)]}
        self.root = Root(version=1, expires=NOW + timedelta(days=365), consistent_snapshot=True)
        for signer in self.signers["root"]:
            self.root.add_key(signer.public_key, "root")
        self.root.roles["root"].threshold = 2
        for role in ("targets", "snapshot", "timestamp"):
            self.signers[role] = [CryptoSigner.generate_ed25519()]
            self.root.add_key(self.signers[role][0].public_key, role)
        self.targets = Targets(version=1)
        self.snapshot = Snapshot(version=1)
        self.timestamp = Timestamp(version=1)
        self.delegated: dict[str, Targets] = {}
        self.roots = {1: self.sign(self.root, self.signers["root"])}
        self.current: dict[str, bytes] = {}
        self.publish()

    @property
    def first_root(self) -> bytes:
        return self.roots[1]

    def sign(self, signed: Signed, signers: Sequence[CryptoSigner]) -> bytes:
        """Sign with whatever keys the caller has got hold of."""
        metadata = Metadata(signed)
        for signer in signers:
            metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def publish(self, *roles: str) -> None:
        """Raise the version of the given roles (default all) and sign them; each lists the files before it."""
        wanted = roles or ("targets", "snapshot", "timestamp")
        published = "timestamp.json" in self.current
        for role in ("targets", "snapshot", "timestamp"):
            if role not in wanted:
                continue
            signed = getattr(self, role)
            if published:
                signed.version += 1
            signed.expires = self.now + LIVES[role]
            if self.vehicle_id is not None:
                signed.unrecognized_fields["vehicleId"] = self.vehicle_id
            self._refer(role)
            name = "timestamp.json" if role == "timestamp" else f"{signed.version}.{role}.json"
            self._drop(role)
            self.current[name] = self.sign(signed, self.signers[role])

    def publish_delegated(self, name: str, signers: Sequence[CryptoSigner], listed: Targets) -> None:
        """A supplier's role, listed in the next snapshot."""
        listed.expires = self.now + LIVES["targets"]
        self.delegated[name] = listed
        self._drop(name)
        self.current[f"{listed.version}.{name}.json"] = self.sign(listed, signers)
        self.snapshot.meta[f"{name}.json"] = MetaFile(listed.version)

    def rotate_root(self, change: Callable[[Root], None], signers: Sequence[CryptoSigner] | None = None) -> bytes:
        """Version N+1 of the root, signed by the keys of N, or by `signers`."""
        by = list(signers if signers is not None else self.signers["root"])
        self.root.version += 1
        change(self.root)
        self.roots[self.root.version] = self.sign(self.root, by)
        return self.roots[self.root.version]

    def files(self) -> Files:
        """Everything that a reader finds now, root history included."""
        roots = {f"{version}.root.json": content for version, content in self.roots.items()}
        return {(self.kind, name): content for name, content in (self.current | roots).items()}

    def name_of(self, role: str) -> str:
        return next(name for name in self.current if name.endswith(f"{role}.json"))

    def _drop(self, role: str) -> None:
        for name in [name for name in self.current if name.endswith(f"{role}.json")]:
            del self.current[name]

    def _refer(self, role: str) -> None:
        if role == "snapshot":
            self.snapshot.meta["targets.json"] = MetaFile(self.targets.version)
        if role == "timestamp":
            content = self.current[self.name_of("snapshot")]
            digest = hashlib.sha256(content).hexdigest()
            self.timestamp.snapshot_meta = MetaFile(self.snapshot.version, len(content), {"sha256": digest})


@dataclass
class UptaneSimulator:
    """A Director for one vehicle, and an Image repository that released two images."""

    director: RepositorySimulator
    image: RepositorySimulator

    @classmethod
    def create(cls, vehicle_id: str = VEHICLE) -> UptaneSimulator:
        """Two images are released and assigned, everything is signed as it should be."""
        simulator = cls(RepositorySimulator("director", vehicle_id), RepositorySimulator("image", None))
        simulator.release(GATEWAY_PATH, hardware_id="acme-gw-1", counter=2)
        simulator.release(BRAKE_PATH, hardware_id="acme-brake-1", counter=5)
        simulator.image.publish()
        simulator.assign({GATEWAY_PATH: {"PRIMARY-1": "acme-gw-1"}, BRAKE_PATH: {"BRAKE-1": "acme-brake-1"}})
        simulator.director.publish()
        return simulator

    def release(self, path: str, *, hardware_id: str, counter: int, content: bytes | None = None) -> None:
        """List an image in the Image repository's targets; publish afterwards."""
        self.image.targets.targets[path] = target(
            path,
            content if content is not None else IMAGES[path],
            {"shallMatch": {"hardwareIds": [hardware_id], "releaseCounter": counter}, "version": "1.1.0"},
        )

    def assign(self, serials: Mapping[str, Mapping[str, str]]) -> None:
        """Assign released images: path -> serial -> hardware id; publish afterwards."""
        listed = self.image.targets.targets
        self.director.targets.targets = {
            path: target_like(listed[path], {"shallMatch": listed[path].custom["shallMatch"], "ecuIdentifiers": ecus})
            for path, ecus in ((p, {s: {"hardwareId": h} for s, h in e.items()}) for p, e in serials.items())
        }

    def files(self) -> Files:
        """What an honest server would answer."""
        return self.director.files() | self.image.files()

    def vehicle(self, folder: Path, **changes: object) -> SimulatedPrimary:
        """A Primary that was provisioned with both first roots."""
        arguments: dict[str, object] = {
            "vehicle_id": VEHICLE,
            "ecus": ECUS,
            "director_root": self.director.first_root,
            "image_root": self.image.first_root,
        }
        return SimulatedPrimary(PrimaryVerifier(folder, **(arguments | changes)))


@dataclass
class SimulatedPrimary:
    """A verifier with defaults, so that a test says only what is special about it."""

    verifier: PrimaryVerifier

    def verify(
        self, files: Files, now: datetime = NOW, installed: Mapping[str, InstalledImage] | None = None
    ) -> VerifiedBundle:
        return self.verifier.verify(files, now=now, installed=installed or {})


def target(path: str, content: bytes, custom: Mapping[str, object]) -> TargetFile:
    """A targets entry for `content`."""
    hashes = {"sha256": hashlib.sha256(content).hexdigest()}
    return TargetFile(len(content), hashes, path, {"custom": dict(custom)})


def target_like(entry: TargetFile, custom: Mapping[str, object]) -> TargetFile:
    """The same bytes with another custom section."""
    return TargetFile(entry.length, dict(entry.hashes), entry.path, {"custom": dict(custom)})


def refusal(primary: SimulatedPrimary, files: Files, now: datetime = NOW) -> AttackCode:
    """The code of the refusal that is due, and the proof that nothing was taken over."""
    before = primary.verifier.versions()
    with pytest.raises(VerificationError) as caught:
        primary.verify(files, now)
    assert primary.verifier.versions() == before
    return caught.value.code


def repository(uptane: UptaneSimulator, name: str) -> RepositorySimulator:
    return uptane.director if name == "director" else uptane.image
