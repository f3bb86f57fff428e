"""Partial verification, as a Secondary does it: the Director's roots and targets, on its own time floor. Pure.

Bytes, what is held and the time go in; what the unit may install, and what it holds from now on, come out. It knows
its own serial and hardware only, and nothing of the Image repository: who has stolen the Director's online keys can
have it take other software, which is why the Primary verifies in full before it passes anything on. Unlike the
Standard's minimum it follows the Director's roots, so that stolen online keys can be taken from it over the air.
Source: Uptane 2.1.0, Partial verification; How to check Root metadata; How to check Targets metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Metadata, Root, Targets

from signing.errors import AttackCode, VerificationError
from signing.match import (
    InstalledImage,
    VerifiedImage,
    bound_to,
    check_bound,
    check_counters,
    check_director_targets,
    named_units,
)
from signing.roots import check_root_keys
from signing.time_floor import believed_time
from signing.tuf_client import DIRECTOR_CAPS, parse_offered

ROOTS_MAX = 64
"""Most new roots in one verification."""

T = TypeVar("T", Root, Targets)


@dataclass(frozen=True, slots=True)
class SecondaryUnit:
    """Which control unit verifies."""

    vehicle_id: str
    serial: str
    hardware_id: str


@dataclass(frozen=True, slots=True)
class SecondaryHeld:
    """What a Secondary keeps."""

    root: bytes
    """The newest Director root; at first the provisioned one."""
    targets: bytes | None = None
    """The newest Director targets that passed every check."""
    time_floor: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    """The latest fleet time at which everything was verified; time never goes back behind it."""


@dataclass(frozen=True, slots=True)
class PartialVerdict:
    """What a Secondary may do."""

    image: VerifiedImage | None
    """What to install; None when it is assigned nothing."""
    held: SecondaryHeld
    """To keep from now on."""


class PartialError(VerificationError):
    """Something was refused.

    Attributes:
        held: What to keep all the same: new roots rest on offline keys alone.
    """

    def __init__(self, reason: VerificationError, held: SecondaryHeld) -> None:
        super().__init__(reason.code, reason.message)
        self.held = held


def verify_partially(
    files: Mapping[str, bytes],
    *,
    unit: SecondaryUnit,
    held: SecondaryHeld,
    now: datetime,
    installed: InstalledImage | None = None,
) -> PartialVerdict:
    """Verify what the Primary passed on of the Director's metadata.

    Args:
        files: By name: roots above the one held, and `N.targets.json`. What is not there is taken from what is held.
        unit: Who verifies.
        held: What was kept after the last time.
        now: Fleet time as the Primary tells it, UTC.
        installed: What the unit runs.

    Raises:
        PartialError: Something was refused; the code says what it looks like.
    """
    try:
        now = believed_time(now, held.time_floor)
        held, root = _newest_root(files, held)
        if now >= root.expires:
            raise VerificationError(AttackCode.FREEZE, f"the Director's root {root.version} is expired by fleet time")
        content, targets = _targets(files, held, root)
        check_bound("targets", bound_to(targets), unit.vehicle_id)
        if now >= targets.expires:
            raise VerificationError(AttackCode.FREEZE, "the Director's targets are expired by fleet time")
        image = _own(targets, unit)
        if image is not None and installed is not None:
            check_counters(image, {unit.serial: installed})
    except VerificationError as exc:
        raise PartialError(exc, held) from exc
    return PartialVerdict(image, replace(held, targets=content, time_floor=now))


def _newest_root(files: Mapping[str, bytes], held: SecondaryHeld) -> tuple[SecondaryHeld, Root]:
    """Walk up from the root that is held, one version at a time; each is signed by the one before and by itself."""
    root = _read(Root, "root.json", held.root)
    for _ in range(ROOTS_MAX):
        name = f"{root.version + 1}.root.json"
        if name not in files:
            break
        parse_offered(name, files[name], DIRECTOR_CAPS)
        metadata, following = _metadata(Root, name, files[name]), _read(Root, name, files[name])
        for signer in (root, following):
            _check_signed(signer, "root", name, metadata)
        if following.version != root.version + 1:
            raise VerificationError(AttackCode.ROLLBACK, f"{name} has version {following.version}")
        check_root_keys(following)
        held, root = replace(held, root=files[name]), following
    return held, root


def _targets(files: Mapping[str, bytes], held: SecondaryHeld, root: Root) -> tuple[bytes, Targets]:
    """The targets that were passed on, or those held; never older ones than these, under the keys of today."""
    names = [name for name in files if name.endswith(".targets.json")]
    if len(names) > 1:
        raise VerificationError(AttackCode.MALFORMED, f"{len(names)} targets files were passed on, there is one")
    floor = _held_version(held, root)
    content = files[names[0]] if names else held.targets
    if content is None:
        raise VerificationError(AttackCode.MISSING, "the Director's targets were neither passed on nor held")
    name = names[0] if names else "targets.json"
    parse_offered(name, content, DIRECTOR_CAPS)
    metadata = _metadata(Targets, name, content)
    _check_signed(root, "targets", name, metadata)
    if metadata.signed.version < floor:
        raise VerificationError(
            AttackCode.ROLLBACK, f"the Director's targets have version {metadata.signed.version}, {floor} was verified"
        )
    return content, metadata.signed


def _held_version(held: SecondaryHeld, root: Root) -> int:
    """Version of the targets held; 0 when its keys were revoked since, so that versions may start again."""
    if held.targets is None:
        return 0
    metadata = _metadata(Targets, "targets.json", held.targets)
    if not root.get_verification_result("targets", metadata.signed_bytes, metadata.signatures).verified:
        return 0
    return metadata.signed.version


def _own(targets: Targets, unit: SecondaryUnit) -> VerifiedImage | None:
    """The image for this unit; which other units there are a Secondary does not know, and takes the file's word."""
    ecus = named_units(targets) | {unit.serial: unit.hardware_id}
    images = check_director_targets(targets, ecus)
    return next((image for image in images if unit.serial in image.ecu_serials), None)


def _check_signed(root: Root, role: str, name: str, metadata: Metadata[T]) -> None:
    try:
        root.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except UnsignedMetadataError as exc:
        raise VerificationError(AttackCode.ARBITRARY, f"{name} is not signed by enough of the keys of {role}") from exc


def _read(kind: type[T], name: str, content: bytes) -> T:
    return _metadata(kind, name, content).signed


def _metadata(kind: type[T], name: str, content: bytes) -> Metadata[T]:
    try:
        metadata: Metadata[T] = Metadata.from_bytes(content)
    except RepositoryError as exc:
        raise VerificationError(AttackCode.MALFORMED, f"{name} is not TUF metadata") from exc
    if not isinstance(metadata.signed, kind):
        raise VerificationError(AttackCode.ARBITRARY, f"{name} is {metadata.signed.type} metadata")
    return metadata
