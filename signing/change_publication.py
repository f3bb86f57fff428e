"""Publishing a pending change: the one moment at which a repository's keys become others.

Nothing is published below a threshold, over a gap, onto another root than the one that was edited, or before the keys
of the new root are at hand for the roles that sign by themselves. Vehicles follow root by root; the Director's signer
and workers look for a new root by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tuf.api.metadata import Metadata, Root, Targets

from signing.ceremony import DataFolder
from signing.change import PendingChange, published_bytes, same_signed
from signing.director import DirectorSigners
from signing.errors import BelowThresholdError, ChangeRefusedError, KeyFileError, SigningError, StaleChangeError
from signing.files import exclusive, write_atomically
from signing.image_repo import ImageRepository
from signing.key_names import labels
from signing.keys import Secret, environment_secret
from signing.roots import check_root_keys, newest_root
from signing.versions import require_utc


@dataclass(frozen=True, slots=True)
class Published:
    """What a publication wrote."""

    files: tuple[Path, ...]
    signed: tuple[str, ...]
    """Roles that were signed anew by keys at hand."""


def publish_director(
    change: PendingChange, data: DataFolder, now: datetime, secret: Secret = environment_secret
) -> Published:
    """Publish the Director's next root.

    Args:
        change: With enough signatures.
        data: Holds the Director's roots, and the online keys that the new root names.
        now: Fleet time, UTC.
        secret: Asked for encrypted online keys.

    Raises:
        BelowThresholdError: Signatures are missing.
        StaleChangeError: The repository has another root by now, or the new one has expired.
        ChangeRefusedError: Vehicles would refuse it.
        KeyFileError: An online key of the new root is not here: vehicles would be without Director files.
    """
    with exclusive(data.director_metadata):
        check_publishable(change, newest_root(data.director_metadata), now)
        if change.root is None:
            raise ChangeRefusedError("this change has no root; the Director's other files are signed online")
        try:
            DirectorSigners.load(data.director_keys, change.root.signed, secret)
        except KeyFileError as exc:
            raise KeyFileError(f"{exc}; nothing was published, as the signer could sign for no vehicle") from exc
        content = published_bytes(change.root, change.before.signed)
        path = data.director_metadata / f"{change.root.signed.version}.root.json"
        write_atomically(path, content)
    provisioned = data.provisioning / "director-root.json"
    write_atomically(provisioned, content)
    return Published(files=(path, provisioned), signed=())


def publish_image(
    change: PendingChange, data: DataFolder, now: datetime, secret: Secret = environment_secret
) -> Published:
    """Publish the Image repository's next root, its targets if they were signed anew, and what follows from them.

    Args:
        change: With enough signatures.
        data: Holds the Image repository, and the snapshot and timestamp keys that the new root names.
        now: Fleet time, UTC.
        secret: Asked for encrypted keys.

    Raises:
        BelowThresholdError: Signatures are missing.
        StaleChangeError: The repository has another root, or other targets, by now, or what is new has expired.
        ChangeRefusedError: Vehicles would refuse it.
        KeyFileError: A key of snapshot or timestamp is not here.
    """
    repository = ImageRepository(data.image_repo)
    with exclusive(data.image_repo):
        current = repository.metadata.current("root")
        check_publishable(change, current, now)
        _check_targets(change, repository.metadata.current("targets"))
        root = change.root or current
        signed = repository.metadata.adopt(
            change.before.signed, root, change.targets, data.image_keys, now, secret=secret
        )
    files = [data.image_repo / "metadata" / f"{file.signed.version}.{file.signed.type}.json" for file in change.files()]
    if change.root is not None:
        files.append(data.provisioning / "image-root.json")
        write_atomically(files[-1], published_bytes(change.root, change.before.signed))
    return Published(files=tuple(files), signed=signed)


def _check_targets(change: PendingChange, current: Metadata[Targets]) -> None:
    after = change.root_after
    if change.targets is None:
        if not after.get_verification_result("targets", current.signed_bytes, current.signatures).verified:
            raise StaleChangeError(
                "the published targets are not signed as the new root asks, and this change brings no others; edit it "
                "once more where the Image repository is, and have it signed"
            )
        return
    if same_signed(change.targets, current):
        return  # published already, and cut short behind it
    old, new = (file.signed.to_dict() for file in (current, change.targets))
    told_apart = {"version", "expires"}
    if any(old.get(name) != new.get(name) for name in (old.keys() | new.keys()) - told_apart):
        raise StaleChangeError(
            "the Image repository lists other images than this change: something was published since; make the "
            "change anew, so that no release is lost"
        )
    if change.targets.signed.version <= current.signed.version:
        raise StaleChangeError(
            f"targets version {change.targets.signed.version} is not above {current.signed.version}, which is "
            "published; make the change anew"
        )


def check_publishable(change: PendingChange, current: Metadata[Root], now: datetime) -> None:
    """See that a change fits the repository's root and has all its signatures.

    Raises:
        BelowThresholdError: Signatures are missing.
        StaleChangeError: The repository has another root by now, or what shall be published has expired.
        ChangeRefusedError: One key would count twice.
    """
    published = change.root is not None and same_signed(change.root, current)  # and maybe cut short behind it
    if not published and not same_signed(change.before, current):
        raise StaleChangeError(
            f"this change follows root {change.before.signed.version}, the {change.repository} repository has root "
            f"{current.signed.version} or another of that number; make the change anew and have it signed"
        )
    for file in change.files():
        if file.signed.expires <= require_utc(now):
            raise StaleChangeError(
                f"the new {file.signed.type} expired at {file.signed.expires:%Y-%m-%d %H:%M} UTC, fleet time, while it "
                "was signed; make the change anew"
            )
    try:
        check_root_keys(change.root_after)
    except SigningError as exc:
        raise ChangeRefusedError(f"every vehicle would refuse this root: {exc}") from exc
    lacking = [demand for demand in change.demands() if demand.lacking]
    if lacking:
        words = "; ".join(
            _lacking(demand.role, demand.by, demand.lacking, labels(demand.missing)) for demand in lacking
        )
        raise BelowThresholdError(words)


def _lacking(role: str, by: str, count: int, names: str) -> str:
    return f"{role} lacks {count} signature{'s' if count != 1 else ''} of the {by}, of {names}"
