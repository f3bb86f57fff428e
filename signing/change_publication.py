"""Publishing a pending change: the one moment at which a repository's keys become others.

Nothing is published below a threshold, over a gap, onto another root than the one that was edited, or before the keys
of the new root are at hand for the roles that sign by themselves. Vehicles follow root by root; the Director's signer
and workers look for a new root by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from tuf.api.metadata import Metadata, Root, TargetFile, Targets

from signing.ceremony import DataFolder
from signing.change import PendingChange, delegations_of, root_bytes, same_signed
from signing.director import DirectorSigners
from signing.errors import BelowThresholdError, ChangeRefusedError, KeyFileError, SigningError, StaleChangeError
from signing.files import exclusive, write_atomically
from signing.image_repo import ImageRepository
from signing.image_store import ImageStore
from signing.key_names import labels
from signing.keys import Secret, environment_secret
from signing.roots import check_root_keys, newest_root
from signing.supplier_rules import check_supply
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
        content = root_bytes(change.root, change.before.signed)
        path = data.director_metadata / f"{change.root.signed.version}.root.json"
        write_atomically(path, content)
    provisioned = data.provisioning / "director-root.json"
    write_atomically(provisioned, content)
    return Published(files=(path, provisioned), signed=())


def publish_image(
    change: PendingChange,
    data: DataFolder,
    now: datetime,
    secret: Secret = environment_secret,
    *,
    images: Path | None = None,
    store: ImageStore | None = None,
) -> Published:
    """Publish the Image repository's next root, lists of images that were signed anew, and what follows from them.

    Args:
        change: With enough signatures.
        data: Holds the Image repository, and the snapshot and timestamp keys that the new root names.
        now: Fleet time, UTC.
        secret: Asked for encrypted keys.
        images: Folder with the files of images that suppliers list anew.
        store: Where they go; None for the repository's folder.

    Raises:
        BelowThresholdError: Signatures are missing.
        StaleChangeError: The repository has another root, or other lists, by now, or what is new has expired.
        ChangeRefusedError: Vehicles would refuse it.
        ImageRefusedError: A supplier lists what it may not, or the bytes of an image are not there.
        KeyFileError: A key of snapshot or timestamp is not here.
    """
    repository = ImageRepository(data.image_repo, store)
    with exclusive(data.image_repo):
        current, published = repository.metadata.current("root"), repository.metadata.listings()
        change = _judged_by_what_stands(change, published)
        check_publishable(change, current, now)
        _check_listings(change, published)
        fresh = _check_supplies(change, published)
        repository.take_in(fresh, images)
        signed = repository.metadata.adopt(
            change.before.signed,
            change.root or current,
            {role: (file, _keyids(change, role)) for role, file in change.listings.items()},
            data.image_keys,
            now,
            secret=secret,
        )
    files = [
        data.image_repo / "metadata" / f"{file.signed.version}.{role}.json" for role, file in change.files().items()
    ]
    if change.root is not None:
        files.append(data.provisioning / "image-root.json")
        write_atomically(files[-1], root_bytes(change.root, change.before.signed))
    return Published(files=tuple(files), signed=signed)


def _judged_by_what_stands(change: PendingChange, published: Mapping[str, Metadata[Targets]]) -> PendingChange:
    """A change that leaves suppliers as they are is judged by who is trusted now, not when it was made."""
    if change.delegations_after == change.delegations:
        return replace(change, delegations=delegations_of(published))
    return change


def _keyids(change: PendingChange, role: str) -> Sequence[str]:
    judge = change.judge_of(role)
    if judge is None:
        raise ChangeRefusedError(f"nobody trusts {role}; make the change anew")
    return judge.get_delegated_role(role).keyids


def _check_listings(change: PendingChange, published: Mapping[str, Metadata[Targets]]) -> None:
    """See that lists of images follow those that are published, and that none is left that nobody would believe."""
    if delegations_of(published) != dict(change.delegations) and not all(
        role in published and same_signed(file, published[role]) for role, file in change.listings.items()
    ):
        raise StaleChangeError("suppliers are others than when this change was made; make it anew and have it signed")
    for role in (Targets.type, *change.suppliers_after):
        file = change.listings.get(role) or published.get(role)
        judge = change.judge_of(role)
        if (
            file is None
            or judge is None
            or not judge.get_verification_result(role, file.signed_bytes, file.signatures).verified
        ):
            raise StaleChangeError(
                f"the published {role} are not signed as the new keys ask, and this change brings no others; edit it "
                "once more where the Image repository is, and have it signed"
            )
    for role, file in change.listings.items():
        if role in published and not same_signed(file, published[role]):  # else published already, and cut short
            _check_follows(role, file.signed, published[role].signed)


def _check_follows(role: str, new: Targets, old: Targets) -> None:
    if role == Targets.type and (new.targets, new.unrecognized_fields) != (old.targets, old.unrecognized_fields):
        raise StaleChangeError(
            "the Image repository lists other images than this change: something was published since; make the "
            "change anew, so that no release is lost"
        )
    if lost := sorted(old.targets.keys() - new.targets.keys()):
        raise StaleChangeError(
            f"this list of {role} leaves out {lost[0]!r}, which is published: it was made from an older one; begin "
            f"again with `outrider keys renew image {role}`"
        )
    if new.version <= old.version:
        raise StaleChangeError(
            f"{role} version {new.version} is not above {old.version}, which is published; make the change anew"
        )


def _check_supplies(change: PendingChange, published: Mapping[str, Metadata[Targets]]) -> list[TargetFile]:
    """Judge what suppliers list anew; those images."""
    before = {role: file.signed for role, file in published.items()}
    after = before | {role: file.signed for role, file in change.listings.items()}
    fresh: list[TargetFile] = []
    for supplier in change.listings:
        role = change.delegation_of(supplier)
        if role is not None:
            fresh += check_supply(role, before=before, after=after)
    return fresh


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
    for role, file in change.files().items():
        if file.signed.expires <= require_utc(now):
            raise StaleChangeError(
                f"the new {role} expired at {file.signed.expires:%Y-%m-%d %H:%M} UTC, fleet time, while it "
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
