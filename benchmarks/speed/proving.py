"""What signatures cost: the Director's files, a manifest, and an agent that finds nothing new."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, generate_private_key
from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer
from tuf.ngclient import FetcherInterface, Updater

from benchmarks.speed.pairs import Pair, Work
from signing.director import (
    AssignedImage,
    Assignment,
    DirectorSigners,
    DirectorVersions,
    Renewal,
    SnapshotPin,
    director_files,
    director_timestamp,
)
from signing.keys import generate_ecu_key, public_key_base64
from signing.manifest import EcuReport, InventoryEcu, sign_manifest, sign_report, verify_manifest
from signing.tuf_client import set_fleet_time
from signing.verify import PrimaryVerifier

NOW = datetime(2031, 5, 1, 12, 0, 0, tzinfo=UTC)
VEHICLE = "veh-1"
LIFE = timedelta(days=7)
SHA256 = hashlib.sha256(b"").hexdigest()
IMAGES = tuple(
    AssignedImage(f"acme/{name}-1.1.0.img", 27_000_000, SHA256, f"acme-{name}-1", 2, (f"{name}-1",))
    for name in ("gateway", "brake", "display")
)
SECONDARIES = 3
SERIALISER = JSONSerializer(compact=True)


def proving(
    folder: Path, *, refreshes: int = 400, timestamps: int = 2000, manifests: int = 200, polls: int = 60
) -> list[Pair]:
    """The pairs.

    Args:
        folder: For what a verifier holds.
        refreshes: Of a vehicle's Director files, a round.
        timestamps: Renewed alone, a round.
        manifests: A round.
        polls: A round, by an agent for which nothing is new.
    """
    signers = DirectorSigners(*(CryptoSigner.generate_ed25519() for _ in range(3)))
    return [
        Pair(
            key="director_refresh_ratio",
            at_most=0.6,
            name="director: targets, snapshot and timestamp of three images",
            unit="refreshes",
            baseline="the same three files by python-tuf's objects",
            ours=_refreshing(signers, refreshes),
            bare=_refreshing_by_objects(signers, refreshes),
        ),
        _timestamp_pair(signers, timestamps),
        _manifest_pair(manifests),
        _idle_pair(folder, signers, polls),
    ]


def _refreshing(signers: DirectorSigners, count: int) -> Work:
    assignment = Assignment(VEHICLE, IMAGES)

    def work() -> int:
        for number in range(1, count + 1):
            director_files(signers, assignment, DirectorVersions(number, NOW, number, NOW))
        return count

    return work


def _refreshing_by_objects(signers: DirectorSigners, count: int) -> Work:
    def signed(payload: Targets | Snapshot | Timestamp, signer: Signer) -> bytes:
        metadata: Metadata[Any] = Metadata(payload)
        metadata.sign(signer)
        return metadata.to_bytes(SERIALISER)

    def listed(image: AssignedImage) -> TargetFile:
        custom = {
            "ecuIdentifiers": {serial: {"hardwareId": image.hardware_id} for serial in image.ecu_serials},
            "shallMatch": {"hardwareIds": [image.hardware_id], "releaseCounter": image.release_counter},
        }
        return TargetFile(image.length, {"sha256": image.sha256}, image.path, {"custom": custom})

    def pinned(version: int, content: bytes) -> MetaFile:
        return MetaFile(version, len(content), {"sha256": hashlib.sha256(content).hexdigest()})

    def work() -> int:
        bound = {"vehicleId": VEHICLE}
        for number in range(1, count + 1):
            listing = {image.path: listed(image) for image in IMAGES}
            targets = signed(
                Targets(number, None, NOW + LIFE, listing, unrecognized_fields=dict(bound)), signers.targets
            )
            meta = {"targets.json": pinned(number, targets)}
            snapshot = signed(Snapshot(number, None, NOW + LIFE, meta, dict(bound)), signers.snapshot)
            signed(Timestamp(number, None, NOW + LIFE, pinned(number, snapshot), dict(bound)), signers.timestamp)
        return count

    return work


def _timestamp_pair(signers: DirectorSigners, count: int) -> Pair:
    """What a quiet vehicle costs the signer, once a day."""
    snapshot = director_files(signers, Assignment(VEHICLE, IMAGES), DirectorVersions(1, NOW, 1, NOW))["1.snapshot.json"]
    pin = SnapshotPin(1, len(snapshot), hashlib.sha256(snapshot).hexdigest())
    _, raw = signers.raw[2]
    payload = director_timestamp(signers, Renewal(VEHICLE, 1, NOW, pin)).partition(b'"signed":')[2][:-1]

    def ours() -> int:
        for number in range(1, count + 1):
            director_timestamp(signers, Renewal(VEHICLE, number, NOW, pin))
        return count

    def bare() -> int:
        for _ in range(count):
            raw(payload)
        return count

    return Pair(
        key="director_timestamp_ratio",
        at_most=1.5,
        name="director: a timestamp alone, over the snapshot that stands",
        unit="timestamps",
        baseline="one raw Ed25519 signature of its signed part",
        ours=ours,
        bare=bare,
    )


def _manifest_pair(count: int) -> Pair:
    """A Primary and its Secondaries, P-256 as control units have it."""
    keys = {f"ecu-{number}": generate_ecu_key() for number in range(SECONDARIES)}
    primary = "ecu-0"
    ecus = [InventoryEcu(serial, public_key_base64(key), serial == primary) for serial, key in keys.items()]
    sent = []
    for counter in range(1, count + 1):
        reports = [
            sign_report(EcuReport(serial, IMAGES[0].path, IMAGES[0].length, SHA256, "", NOW, counter), key)
            for serial, key in keys.items()
        ]
        sent.append(sign_manifest(VEHICLE, primary, reports, keys[primary]))

    def ours() -> int:
        for number, manifest in enumerate(sent):
            verify_manifest(manifest, vehicle_id=VEHICLE, ecus=ecus, counter_above=number, now=NOW)
        return count

    private = generate_private_key(SECP256R1())
    public, digest = private.public_key(), hashlib.sha256(b"a report").digest()
    signature = private.sign(digest, ECDSA(hashes.SHA256()))

    def bare() -> int:
        for _ in range(count):
            for _ in range(SECONDARIES + 1):
                public.verify(signature, digest, ECDSA(hashes.SHA256()))
        return count

    return Pair(
        key="manifest_verify_ratio",
        at_most=1.4,
        name="manifest: a Primary's signature over three reports, each signed",
        unit="manifests",
        baseline="four raw P-256 verifications",
        ours=ours,
        bare=bare,
    )


class _Folder(FetcherInterface):
    """Serves a repository's files out of memory."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def _fetch(self, url: str) -> Iterator[bytes]:
        content = self._files.get(url.rpartition("/")[2])
        if content is None:
            raise DownloadHTTPError("not there", 404)
        return iter((content,))


def _idle_pair(folder: Path, signers: DirectorSigners, count: int) -> Pair:
    """A vehicle that asks, and is told the timestamp that it has."""
    root = Root(1, None, NOW + timedelta(days=365), consistent_snapshot=True)
    offline = CryptoSigner.generate_ecdsa()
    root.add_key(offline.public_key, "root")
    for role, signer in (
        ("targets", signers.targets),
        ("snapshot", signers.snapshot),
        ("timestamp", signers.timestamp),
    ):
        root.add_key(signer.public_key, role)
    metadata = Metadata(root)
    metadata.sign(offline)
    first = metadata.to_bytes(SERIALISER)
    files = director_files(signers, Assignment(VEHICLE, ()), DirectorVersions(1, NOW, 1, NOW))
    verifier = PrimaryVerifier(
        folder / "held", vehicle_id=VEHICLE, ecus={"ecu-0": "acme-gw"}, director_root=first, image_root=first
    )
    verifier.verify({("director", name): content for name, content in files.items()}, now=NOW, installed={})
    told = {("director", "timestamp.json"): files["timestamp.json"]}

    def ours() -> int:
        for second in range(count):
            verifier.verify(told, now=NOW + timedelta(seconds=second), installed={})
        return count

    held = folder / "updater"
    held.mkdir()

    def refresh() -> None:
        updater = Updater(str(held), "https://director.invalid/", fetcher=_Folder(files), bootstrap=first)
        set_fleet_time(updater, NOW)
        updater.refresh()

    refresh()

    def bare() -> int:
        for _ in range(count):
            refresh()
        return count

    return Pair(
        key="agent_idle_refresh_ratio",
        at_most=0.5,
        name="agent: nothing new at the Director",
        unit="refreshes",
        baseline="`Updater.refresh` of python-tuf, nothing new",
        ours=ours,
        bare=bare,
    )
