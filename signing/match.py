"""The checks that Uptane adds to TUF, pure: binding to the vehicle, control units, and the Director-Image match.

`verify` feeds these functions with metadata that `tuf_client` has verified; the checks rely on nothing else. They are
tests of content only: signatures, versions and expiry are judged before.
Source: Uptane 2.1.0, Full verification, steps 5 and 11; How to check Targets metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from tuf.api.metadata import Signed, TargetFile, Targets, Timestamp

from signing.errors import AttackCode, VerificationError
from signing.names import SHA256_PATTERN, VERSION_MAX, target_path_fault


@dataclass(frozen=True, slots=True)
class InstalledImage:
    """What a control unit runs now."""

    path: str
    release_counter: int


@dataclass(frozen=True, slots=True)
class VerifiedImage:
    """An image that both repositories agree on, for control units of this vehicle."""

    path: str
    length: int
    """Bytes."""
    sha256: str
    """Hex digest."""
    hardware_id: str
    release_counter: int
    ecu_serials: tuple[str, ...]
    """In order of serial."""


@dataclass(frozen=True, slots=True)
class ShallMatch:
    """What the Director and the Image repository have to say alike about an image."""

    hardware_ids: tuple[str, ...]
    release_counter: int


def check_bound(role: str, vehicle_id_field: object, vehicle_id: str) -> None:
    """Refuse a Director file that is not signed for this vehicle.

    Raises:
        VerificationError: WRONG_VEHICLE.
    """
    if vehicle_id_field != vehicle_id:
        whom = f"vehicle {str(vehicle_id_field)[:80]!r}" if vehicle_id_field is not None else "no vehicle"
        raise VerificationError(
            AttackCode.WRONG_VEHICLE, f"the Director's {role} is bound to {whom}, this is {vehicle_id!r}"
        )


def check_pinned(timestamp: Timestamp) -> None:
    """Refuse a timestamp that names its snapshot by version alone: TUF leaves the hash out, Uptane does not.

    Raises:
        VerificationError: MALFORMED.
    """
    if not timestamp.snapshot_meta.hashes:
        raise VerificationError(AttackCode.MALFORMED, "the timestamp has no hash of its snapshot")


def bound_to(signed: Signed) -> object:
    """The vehicle id in the signed part of a Director file, or None."""
    return signed.unrecognized_fields.get("vehicleId")


def check_director_targets(targets: Targets, ecus: Mapping[str, str]) -> tuple[VerifiedImage, ...]:
    """Check what the Director alone answers for, and read its assignment.

    Args:
        targets: The Director's targets, verified by TUF's rules.
        ecus: This vehicle's control units: hardware id by serial.

    Returns:
        The images by path, not yet matched with the Image repository.

    Raises:
        VerificationError: DELEGATION, BAD_NAME, WRONG_ECU, WRONG_HARDWARE or MALFORMED.
    """
    if targets.delegations is not None:
        raise VerificationError(AttackCode.DELEGATION, "the Director's targets delegate, which only suppliers may do")
    seen: dict[str, str] = {}
    images = []
    for path, target in sorted(targets.targets.items()):
        image = _assigned(path, target)
        for serial in image.ecu_serials:
            _check_ecu(serial, path, target, ecus)
            if serial in seen:
                raise VerificationError(
                    AttackCode.WRONG_ECU, f"control unit {serial!r} is assigned both {seen[serial]!r} and {path!r}"
                )
            seen[serial] = path
        images.append(image)
    return tuple(images)


def named_units(targets: Targets) -> dict[str, str]:
    """The control units that the Director's targets name, with the hardware that it takes each for."""
    named = [unit for target in targets.targets.values() for unit in _ecu_identifiers(target).items()]
    return {serial: str(entry.get("hardwareId")) if isinstance(entry, dict) else "" for serial, entry in named}


def check_match(image: VerifiedImage, assigned: TargetFile, released: TargetFile | None) -> None:
    """Compare what the Director assigns with what the Image repository's offline keys released.

    Raises:
        VerificationError: IMAGE_MISMATCH.
    """
    if released is None:
        raise VerificationError(
            AttackCode.IMAGE_MISMATCH, f"the Director assigns {image.path!r}, which the Image repository never released"
        )
    if assigned.length != released.length:
        raise VerificationError(
            AttackCode.IMAGE_MISMATCH, f"{image.path!r}: assigned {assigned.length} bytes, released {released.length}"
        )
    if assigned.hashes != released.hashes:
        raise VerificationError(AttackCode.IMAGE_MISMATCH, f"{image.path!r}: assigned hashes are not the released ones")
    if _shall_match_field(assigned) != _shall_match_field(released):
        raise VerificationError(
            AttackCode.IMAGE_MISMATCH, f"{image.path!r}: hardware ids or release counter are not the released ones"
        )


def check_counters(image: VerifiedImage, installed: Mapping[str, InstalledImage]) -> None:
    """Refuse an image older than what a control unit runs.

    Raises:
        VerificationError: ROLLBACK.
    """
    for serial in image.ecu_serials:
        current = installed.get(serial)
        if current is not None and image.release_counter < current.release_counter:
            raise VerificationError(
                AttackCode.ROLLBACK,
                f"{image.path!r} has release counter {image.release_counter}, "
                f"control unit {serial!r} runs {current.release_counter}",
            )


def read_shall_match(path: str, target: TargetFile) -> ShallMatch:
    """The section that both repositories have to agree on.

    Raises:
        VerificationError: MALFORMED.
    """
    section = _shall_match_field(target)
    hardware_ids = section.get("hardwareIds") if isinstance(section, dict) else None
    counter = section.get("releaseCounter") if isinstance(section, dict) else None
    if not isinstance(hardware_ids, list) or not hardware_ids or not all(isinstance(h, str) for h in hardware_ids):
        raise VerificationError(AttackCode.MALFORMED, f"{path!r} names no hardware ids")
    if type(counter) is not int or not 0 <= counter <= VERSION_MAX:
        raise VerificationError(AttackCode.MALFORMED, f"{path!r} has no release counter")
    return ShallMatch(tuple(hardware_ids), counter)


def _assigned(path: str, target: TargetFile) -> VerifiedImage:
    if fault := target_path_fault(path):
        raise VerificationError(AttackCode.BAD_NAME, f"{path[:80]!r} is no image name: {fault}")
    sha256 = target.hashes.get("sha256", "")
    if not SHA256_PATTERN.fullmatch(sha256) or type(target.length) is not int:
        raise VerificationError(AttackCode.MALFORMED, f"{path!r} has no SHA-256 or no length")
    serials = _ecu_identifiers(target)
    if not serials or not all(isinstance(serial, str) for serial in serials):
        raise VerificationError(AttackCode.WRONG_ECU, f"{path!r} is assigned to no control unit")
    match = read_shall_match(path, target)
    return VerifiedImage(
        path=path,
        length=target.length,
        sha256=sha256,
        hardware_id=match.hardware_ids[0],
        release_counter=match.release_counter,
        ecu_serials=tuple(sorted(serials)),
    )


def _check_ecu(serial: str, path: str, target: TargetFile, ecus: Mapping[str, str]) -> None:
    if serial not in ecus:
        raise VerificationError(AttackCode.WRONG_ECU, f"{path!r} is for control unit {serial!r}, which is not here")
    entry = _ecu_identifiers(target)[serial]
    named = entry.get("hardwareId") if isinstance(entry, dict) else None
    allowed = read_shall_match(path, target).hardware_ids
    if named != ecus[serial] or named not in allowed:
        raise VerificationError(
            AttackCode.WRONG_HARDWARE,
            f"{path!r} is built for {', '.join(allowed)[:80]}; control unit {serial!r} is {ecus[serial]!r}",
        )


def _custom(target: TargetFile) -> dict[str, Any]:
    custom = target.custom
    return cast("dict[str, Any]", custom) if isinstance(custom, dict) else {}


def _ecu_identifiers(target: TargetFile) -> dict[str, Any]:
    identifiers = _custom(target).get("ecuIdentifiers")
    return identifiers if isinstance(identifiers, dict) else {}


def _shall_match_field(target: TargetFile) -> object:
    return _custom(target).get("shallMatch")
