"""The Director's three online files for one vehicle: a pure function of assignment, versions and keys.

Ed25519 is deterministic and so is every byte here: who keeps the inputs can make the files again, in any process; who
keeps what a timestamp says of its snapshot can renew the timestamp alone, by one signature.
What a vehicle is assigned, and when versions rise, is the caller's decision. All three files carry the vehicle's id
inside the signed part: without it in snapshot and timestamp one vehicle's fresh timestamp silently freezes another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import attrgetter
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.metadata import Root

from signing.errors import KeyFileError, SigningError
from signing.key_folder import signers_of
from signing.key_sources import did_not_sign
from signing.keys import Secret, environment_secret, load_signer
from signing.names import NAME_PATTERN, SHA256_PATTERN, VEHICLE_ID_PATTERN, VERSION_MAX, target_path_fault
from signing.versions import format_time, next_version

__all__ = [
    "DIRECTOR_FILE_MAX_BYTES",
    "SERIALISER_VERSION",
    "SNAPSHOT_LIFE",
    "TARGETS_LIFE",
    "TIMESTAMP_LIFE",
    "AssignedImage",
    "Assignment",
    "DirectorSigners",
    "DirectorVersions",
    "Renewal",
    "SnapshotPin",
    "assignment_digest",
    "director_files",
    "director_timestamp",
    "next_version",
]

TARGETS_LIFE = timedelta(days=7)
SNAPSHOT_LIFE = timedelta(days=7)
TIMESTAMP_LIFE = timedelta(hours=24)
DIRECTOR_FILE_MAX_BYTES = 64 * 1024
SERIALISER_VERSION = 1
"""Raised when the same inputs would give other bytes; whoever regenerates files must then raise their version."""

# Canonical JSON, names in order. What is put in has been checked: nothing of it has to be escaped. Written so, as
# dictionaries and an encoder cost as much again as two of the signatures.
_BOUND = '"vehicleId":"%s","version":%d}'
_TARGETS = '{"_type":"targets","expires":"%s","spec_version":"1.0.31","targets":{%s},' + _BOUND
_SNAPSHOT = '{"_type":"snapshot","expires":"%s","meta":{"targets.json":%s},"spec_version":"1.0.31",' + _BOUND
_META = '{"hashes":{"sha256":"%s"},"length":%d,"version":%d}'
_TIMESTAMP = '{"_type":"timestamp","expires":"%s","meta":{"snapshot.json":%s},"spec_version":"1.0.31",' + _BOUND


Sign = Callable[[bytes], bytes]
"""The signature of some bytes, the same each time."""


@dataclass(frozen=True, slots=True)
class AssignedImage:
    """One image and the control units it is for."""

    path: str
    """Target path, the same as in the Image repository."""
    length: int
    """Bytes."""
    sha256: str
    """Hex digest."""
    hardware_id: str
    """What it is built for."""
    release_counter: int
    """As in the Image repository."""
    ecu_serials: tuple[str, ...]
    """Serials, at least one."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one vehicle shall run. No images means: nothing to change."""

    vehicle_id: str
    images: tuple[AssignedImage, ...]


@dataclass(frozen=True, slots=True)
class DirectorVersions:
    """Versions and issue times of the three files; expiries follow from them."""

    version: int
    """Of targets and snapshot."""
    issued_at: datetime
    """Of targets and snapshot; fleet time, UTC, whole seconds."""
    timestamp_version: int
    timestamp_issued_at: datetime
    """Fleet time, UTC, whole seconds."""


@dataclass(frozen=True, slots=True)
class SnapshotPin:
    """A snapshot that was signed, as its timestamp describes it."""

    version: int
    length: int
    """Bytes."""
    sha256: str
    """Hex digest."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """A later timestamp over a snapshot that stays as it is."""

    vehicle_id: str
    version: int
    """Of the timestamp."""
    issued_at: datetime
    """Fleet time, UTC, whole seconds."""
    snapshot: SnapshotPin


@dataclass(frozen=True, slots=True)
class DirectorSigners:
    """The Director's online keys, Ed25519, one a role."""

    targets: Signer
    snapshot: Signer
    timestamp: Signer
    raw: tuple[tuple[str, Sign], ...] = field(init=False, repr=False, compare=False)
    """Key ids and what signs by them, of targets, snapshot and timestamp."""

    def __post_init__(self) -> None:
        signers = (self.targets, self.snapshot, self.timestamp)
        for signer in signers:
            if signer.public_key.scheme != "ed25519":
                raise KeyFileError(
                    f"an online Director key is {signer.public_key.scheme}; only ed25519 repeats its bytes: "
                    "keep it in an encrypted file, or in a service that signs by ed25519 (docs/keys.md)"
                )
        if len({signer.public_key.keyid for signer in signers}) != len(signers):
            raise KeyFileError("the Director's online roles share a key; every role needs its own")
        # What `CryptoSigner` does beside signing costs a fifth of a signature.
        object.__setattr__(self, "raw", tuple(map(_raw, signers)))

    @classmethod
    def load(cls, keys_folder: Path, root: Root | None = None, secret: Secret = environment_secret) -> DirectorSigners:
        """Load exactly the three online keys.

        Args:
            keys_folder: Holds key files.
            root: Says which of them are in force; None takes `<role>.pem`.
            secret: Asked for the password of encrypted files.

        Raises:
            KeyFileError: One is missing or of another kind.
        """
        roles = ("targets", "snapshot", "timestamp")
        if root is None:
            return cls(*(load_signer(keys_folder, role, secret) for role in roles))
        return cls(*(signers_of(keys_folder, role, root, secret)[0] for role in roles))


def director_files(signers: DirectorSigners, assignment: Assignment, versions: DirectorVersions) -> dict[str, bytes]:
    """Sign a vehicle's targets, snapshot and timestamp.

    Args:
        signers: The online keys.
        assignment: What the vehicle shall run.
        versions: Versions and issue times; the same inputs give the same bytes, in every process.

    Returns:
        `<version>.targets.json`, `<version>.snapshot.json` and `timestamp.json` with their bytes.

    Raises:
        SigningError: The assignment or the versions are malformed; the message says where.
    """
    _check_assignment(assignment)
    _check_versions(versions)
    version, vehicle_id = versions.version, assignment.vehicle_id
    of_targets, of_snapshot, of_timestamp = signers.raw
    expires = format_time(versions.issued_at + TARGETS_LIFE)
    targets = _signed_file(of_targets, _TARGETS % (expires, _listed(assignment), vehicle_id, version))
    expires = format_time(versions.issued_at + SNAPSHOT_LIFE)
    snapshot = _signed_file(of_snapshot, _SNAPSHOT % (expires, _meta(targets, version), vehicle_id, version))
    expires = format_time(versions.timestamp_issued_at + TIMESTAMP_LIFE)
    described = _meta(snapshot, version)
    timestamp = _signed_file(of_timestamp, _TIMESTAMP % (expires, described, vehicle_id, versions.timestamp_version))
    return {
        f"{version}.targets.json": targets,
        f"{version}.snapshot.json": snapshot,
        "timestamp.json": timestamp,
    }


def director_timestamp(signers: DirectorSigners, renewal: Renewal) -> bytes:
    """Sign a vehicle's timestamp alone: the bytes that `director_files` gives it over the same snapshot.

    Raises:
        SigningError: The renewal is malformed; the message says where.
    """
    pin = renewal.snapshot
    _check_vehicle_id(renewal.vehicle_id)
    _check_version("timestamp version", renewal.version)
    _check_version("snapshot version", pin.version)
    _check_time("issued_at", renewal.issued_at)
    if not 0 < pin.length <= DIRECTOR_FILE_MAX_BYTES or not SHA256_PATTERN.fullmatch(pin.sha256):
        raise SigningError(f"no snapshot has {pin.length} bytes and the SHA-256 {pin.sha256[:80]!r}")
    expires = format_time(renewal.issued_at + TIMESTAMP_LIFE)
    described = _META % (pin.sha256, pin.length, pin.version)
    payload = _TIMESTAMP % (expires, described, renewal.vehicle_id, renewal.version)
    return _signed_file(signers.raw[2], payload)


def assignment_digest(assignment: Assignment) -> str:
    """Tells whether files of one version would still say the same: 16 hex digits that change when targets would.

    Raises:
        SigningError: The assignment is malformed; the message says where.
    """
    _check_assignment(assignment)
    text = f"{SERIALISER_VERSION} {assignment.vehicle_id} {_listed(assignment)}"
    return hashlib.blake2b(text.encode("ascii"), digest_size=8).hexdigest()


def _listed(assignment: Assignment) -> str:
    return ",".join(map(_target, sorted(assignment.images, key=attrgetter("path"))))


def _target(image: AssignedImage) -> str:
    ecus = ",".join(f'"{serial}":{{"hardwareId":"{image.hardware_id}"}}' for serial in sorted(image.ecu_serials))
    must_match = f'{{"hardwareIds":["{image.hardware_id}"],"releaseCounter":{image.release_counter}}}'
    custom = f'{{"ecuIdentifiers":{{{ecus}}},"shallMatch":{must_match}}}'
    return f'"{image.path}":{{"custom":{custom},"hashes":{{"sha256":"{image.sha256}"}},"length":{image.length}}}'


def _meta(content: bytes, version: int) -> str:
    return _META % (hashlib.sha256(content).hexdigest(), len(content), version)


def _raw(signer: Signer) -> tuple[str, Sign]:
    if isinstance(signer, CryptoSigner):
        private = load_pem_private_key(signer.private_bytes, None)
        assert isinstance(private, Ed25519PrivateKey)  # its scheme says so
        return signer.public_key.keyid, private.sign

    def sign(data: bytes) -> bytes:
        try:
            return bytes.fromhex(signer.sign(data).signature)
        except Exception as exc:  # what services raise is not documented; securesystemslib says to catch all
            raise SigningError(did_not_sign(signer, exc)) from exc

    return signer.public_key.keyid, sign


def _signed_file(key: tuple[str, Sign], payload: str) -> bytes:
    keyid, sign = key
    signed = payload.encode("ascii")
    signature = sign(signed).hex()
    data = b'{"signatures":[{"keyid":"%b","sig":"%b"}],"signed":%b}' % (keyid.encode(), signature.encode(), signed)
    if len(data) > DIRECTOR_FILE_MAX_BYTES:
        raise SigningError(f"{payload[:40]}... would be {len(data)} bytes, above {DIRECTOR_FILE_MAX_BYTES}")
    return data


def _check_versions(versions: DirectorVersions) -> None:
    _check_version("version", versions.version)
    _check_version("timestamp version", versions.timestamp_version)
    _check_time("issued_at", versions.issued_at)
    _check_time("timestamp_issued_at", versions.timestamp_issued_at)


def _check_version(name: str, version: int) -> None:
    if not 0 < version <= VERSION_MAX:
        raise SigningError(f"the {name} {version} is not between 1 and {VERSION_MAX}")


def _check_time(name: str, time: datetime) -> None:
    if time.utcoffset() != timedelta(0) or time.microsecond:
        raise SigningError(f"{name} {time.isoformat()} is not a whole second in UTC")


def _check_vehicle_id(vehicle_id: str) -> None:
    if not VEHICLE_ID_PATTERN.fullmatch(vehicle_id):
        raise SigningError(f"{vehicle_id[:80]!r} is not a vehicle id")


def _check_assignment(assignment: Assignment) -> None:
    _check_vehicle_id(assignment.vehicle_id)
    paths: set[str] = set()
    serials: set[str] = set()
    for image in assignment.images:
        fault = _image_fault(image)
        if fault:
            raise SigningError(f"image {image.path[:80]!r}: {fault}")
        if image.path in paths:
            raise SigningError(f"image {image.path!r} is assigned twice; name all its control units in one entry")
        paths.add(image.path)
        for serial in image.ecu_serials:
            if serial in serials:
                raise SigningError(f"control unit {serial!r} is assigned two images")
            serials.add(serial)


def _image_fault(image: AssignedImage) -> str | None:
    if fault := target_path_fault(image.path):
        return fault
    if image.length < 0:
        return f"length {image.length} is negative"
    if not SHA256_PATTERN.fullmatch(image.sha256):
        return f"{image.sha256[:80]!r} is not a SHA-256 in lower-case hex"
    if not NAME_PATTERN.fullmatch(image.hardware_id):
        return f"{image.hardware_id[:80]!r} is not a hardware id"
    if not 0 <= image.release_counter <= VERSION_MAX:
        return f"release counter {image.release_counter} is not between 0 and {VERSION_MAX}"
    if not image.ecu_serials:
        return "no control unit is named"
    odd = next((serial for serial in image.ecu_serials if not NAME_PATTERN.fullmatch(serial)), None)
    return f"{odd[:80]!r} is not an ECU serial" if odd is not None else None
