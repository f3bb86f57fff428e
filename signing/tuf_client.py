"""The only module that touches `tuf.ngclient`: one verified refresh of one repository, on fleet time, from given bytes.

`Updater` reads the wall clock when it is built and works on a folder. This adapter sets its private reference time
before anything is judged, gives it a scratch folder with what is held, lets it fetch from bytes at hand, and hands
back what it accepted. Nothing is kept here: the caller persists the result once all of its own checks agree.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import cast

from tuf.api import exceptions
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from signing import canonical
from signing.errors import AttackCode, HeldMetadataError, SigningError, VerificationError
from signing.versions import MetadataVersions

_BASE_URL = "bytes:/metadata/"
_MAX_ROOT_ROTATIONS = 64
_MAX_DELEGATIONS = 32


@dataclass(frozen=True, slots=True)
class Caps:
    """Most bytes that are read of each file of a repository."""

    root: int = 64 * 1024
    timestamp: int = 64 * 1024
    snapshot: int = 64 * 1024
    targets: int = 64 * 1024

    def of(self, name: str) -> int:
        """The cap of the file `name`; delegated roles are capped like targets."""
        role = name.removesuffix(".json").rpartition(".")[2]
        return {"root": self.root, "timestamp": self.timestamp, "snapshot": self.snapshot}.get(role, self.targets)


DIRECTOR_CAPS = Caps()
IMAGE_CAPS = Caps(snapshot=2 * 1024 * 1024, targets=8 * 1024 * 1024)


@dataclass(frozen=True, slots=True)
class HeldFile:
    """One accepted file."""

    version: int
    content: bytes


@dataclass(frozen=True, slots=True)
class HeldFiles:
    """What of one repository was verified earlier: the accepted bytes."""

    roots: Mapping[int, bytes] = field(default_factory=dict)
    """By version, without gaps from the provisioned one."""
    roles: Mapping[str, HeldFile] = field(default_factory=dict)
    """`timestamp`, `snapshot`, `targets` and delegated roles, each its latest."""

    def named(self, name: str) -> bytes | None:
        """The bytes of a file by the name under which a repository serves it, if that is what is held."""
        version, _, role = name.removesuffix(".json").rpartition(".")
        file = self.roles.get(role)
        return file.content if file and version in ("", str(file.version)) else None

    def versions(self) -> MetadataVersions:
        """The versions held."""
        role = {name: file.version for name, file in self.roles.items()}
        return MetadataVersions(
            root=max(self.roots, default=0),
            timestamp=role.get("timestamp", 0),
            snapshot=role.get("snapshot", 0),
            targets=role.get("targets", 0),
        )


@dataclass(frozen=True, slots=True)
class TrustedFiles:
    """What one refresh accepted."""

    held: HeldFiles
    root: Root
    timestamp: Timestamp
    snapshot: Snapshot
    targets: Targets
    delegators: tuple[Targets, ...]
    """The targets that delegate, top level included."""
    found: Mapping[str, TargetFile | None]
    """For each target path asked, what the repository says; None when it lists no such target."""

    @property
    def expires(self) -> datetime:
        """Fleet time from which the first of the four files is expired."""
        return min(self.root.expires, self.timestamp.expires, self.snapshot.expires, self.targets.expires)


class RefreshError(SigningError):
    """A refresh failed after it may have accepted new roots.

    Attributes:
        reason: What failed.
        roots: All roots accepted up to there, which are safe to keep: they rest on offline keys alone.
    """

    def __init__(self, reason: VerificationError, roots: Mapping[int, bytes]) -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.roots = roots


def refresh(
    *,
    bootstrap: bytes,
    held: HeldFiles,
    offered: Callable[[str], bytes | None],
    caps: Caps,
    now: datetime,
    find: tuple[str, ...] = (),
) -> TrustedFiles:
    """Verify one repository from its provisioned root to its targets, as a TUF client does.

    Args:
        bootstrap: The provisioned root.
        held: What was verified earlier, for rollback protection.
        offered: Gives a file's bytes by its name, or None when there is no such file.
        caps: Byte caps.
        now: Fleet time, UTC.
        find: Target paths to look up, through delegations if there are any.

    Raises:
        RefreshError: Something was refused.
        HeldMetadataError: The scratch folder could not be written or the provisioned root is unusable.
    """
    fetcher = _BytesFetcher(offered)
    try:
        with tempfile.TemporaryDirectory(prefix="outrider-tuf-") as name:
            folder = Path(name)
            _lay_out(folder, held)
            updater = _updater(folder, bootstrap, fetcher, caps, now)
            return _run(updater, folder, fetcher, held, find)
    except OSError as exc:
        raise HeldMetadataError(f"no scratch space to verify metadata in: {exc}") from exc


def _run(
    updater: Updater, folder: Path, fetcher: _BytesFetcher, held: HeldFiles, find: tuple[str, ...]
) -> TrustedFiles:
    try:
        updater.refresh()
        found = {path: updater.get_targetinfo(path) for path in find}
    except (exceptions.RepositoryError, exceptions.DownloadError) as exc:
        reason = _reason(exc, fetcher, _trusted_root(updater))
        raise RefreshError(reason, _accepted_roots(folder)) from exc
    trusted = updater._trusted_set
    roles = dict(held.roles)  # a delegated role that nobody asked for stays as it was
    all_targets: list[Targets] = []
    for role in _roles(folder):
        signed = trusted.get(role)
        if signed is not None:
            roles[role] = HeldFile(signed.version, (folder / f"{role}.json").read_bytes())
            if isinstance(signed, Targets):
                all_targets.append(signed)
    return TrustedFiles(
        held=HeldFiles(roots=_accepted_roots(folder), roles=roles),
        root=trusted.root,
        timestamp=trusted.timestamp,
        snapshot=trusted.snapshot,
        targets=trusted.targets,
        delegators=tuple(signed for signed in all_targets if signed.delegations is not None),
        found=found,
    )


def _roles(folder: Path) -> Iterator[str]:
    return (path.stem for path in sorted(folder.glob("*.json")) if path.name != "root.json")


def _updater(folder: Path, bootstrap: bytes, fetcher: _BytesFetcher, caps: Caps, now: datetime) -> Updater:
    config = UpdaterConfig(
        max_root_rotations=_MAX_ROOT_ROTATIONS,
        max_delegations=_MAX_DELEGATIONS,
        root_max_length=caps.root,
        timestamp_max_length=caps.timestamp,
        snapshot_max_length=caps.snapshot,
        targets_max_length=caps.targets,
    )
    try:
        updater = Updater(str(folder), _BASE_URL, fetcher=fetcher, config=config, bootstrap=bootstrap)
    except exceptions.RepositoryError as exc:
        raise HeldMetadataError(f"the provisioned root cannot be used: {exc}") from exc
    set_fleet_time(updater, now)
    return updater


def set_fleet_time(updater: Updater, now: datetime) -> None:
    """Make `updater` judge expiry by `now` instead of the wall clock. Nothing has been judged before `refresh`.

    Raises:
        SigningError: This version of python-tuf keeps its time elsewhere: it must not be used.
    """
    trusted_set = getattr(updater, "_trusted_set", None)
    if not isinstance(getattr(trusted_set, "reference_time", None), datetime):
        raise SigningError("this version of python-tuf does not keep a reference_time; install tuf 7.0")
    trusted_set.reference_time = now  # type: ignore[union-attr]


def _lay_out(folder: Path, held: HeldFiles) -> None:
    history = folder / "root_history"
    history.mkdir()
    for version, content in held.roots.items():
        (history / f"{version}.root.json").write_bytes(content)
    for role, file in held.roles.items():
        (folder / f"{role}.json").write_bytes(file.content)


def _accepted_roots(folder: Path) -> dict[int, bytes]:
    """The roots up to the one that `root.json` points to; python-tuf keeps no root that it did not accept."""
    last = int((folder / "root.json").readlink().name.partition(".")[0])
    roots = {int(p.name.partition(".")[0]): p.read_bytes() for p in (folder / "root_history").iterdir()}
    return {version: content for version, content in sorted(roots.items()) if version <= last}


def _trusted_root(updater: Updater) -> Root:
    return updater._trusted_set.root


class _BytesFetcher(FetcherInterface):
    """Serves files out of memory and remembers the last one, so that a failure can be named."""

    def __init__(self, offered: Callable[[str], bytes | None]) -> None:
        self._offered = offered
        self.last_name = ""
        self.last_content = b""

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.removeprefix(_BASE_URL)
        self.last_name, self.last_content = name, b""
        content = self._offered(name)
        if content is None:
            raise exceptions.DownloadHTTPError(f"{name} was neither given nor held", 404)
        self.last_content = content
        return iter((content,))


def _reason(exc: Exception, fetcher: _BytesFetcher, root: Root) -> VerificationError:
    """Name the attack that python-tuf's refusal looks like."""
    name = fetcher.last_name
    if isinstance(exc, exceptions.DownloadHTTPError):
        return VerificationError(AttackCode.MISSING, str(exc))
    if isinstance(exc, exceptions.DownloadLengthMismatchError):
        return VerificationError(AttackCode.ENDLESS_DATA, f"{name}: {exc}")
    if isinstance(exc, exceptions.ExpiredMetadataError):
        return VerificationError(AttackCode.FREEZE, f"{exc} by fleet time")
    if isinstance(exc, exceptions.DownloadError):
        return VerificationError(AttackCode.MISSING, f"{name}: {exc}")
    return _judge_content(exc, name, fetcher.last_content, root)


def _judge_content(exc: Exception, name: str, content: bytes, root: Root) -> VerificationError:
    try:
        metadata: Metadata = Metadata.from_bytes(content)  # type: ignore[type-arg]
    except exceptions.RepositoryError:
        return VerificationError(AttackCode.MALFORMED, f"{name} is not TUF metadata")
    role = name.removesuffix(".json").rpartition(".")[2]
    if isinstance(exc, exceptions.UnsignedMetadataError) or not _signed_by(metadata, role, root):
        return VerificationError(AttackCode.ARBITRARY, f"{name} is not signed by enough of the keys of {role}")
    if isinstance(exc, exceptions.LengthOrHashMismatchError):
        return VerificationError(AttackCode.MIX_AND_MATCH, f"{name} is not the file that was signed for: {exc}")
    together = role == "targets" or (role == "snapshot" and not name.startswith(f"{metadata.signed.version}."))
    if isinstance(exc, exceptions.BadVersionNumberError) and together:
        return VerificationError(AttackCode.MIX_AND_MATCH, f"{name}: {exc}")
    return VerificationError(AttackCode.ROLLBACK, f"{name}: {exc}")


def _signed_by(metadata: Metadata, role: str, root: Root) -> bool:  # type: ignore[type-arg]
    if metadata.signed.type != (role if role in root.roles else "targets"):
        return False
    if role not in root.roles:
        return True
    return root.get_verification_result(role, metadata.signed_bytes, metadata.signatures).verified


def parse_offered(name: str, content: bytes, caps: Caps) -> Mapping[str, object]:
    """Check a file before any signature is looked at: its size, and that it can be read in one way only.

    Returns:
        Its signed part.

    Raises:
        VerificationError: ENDLESS_DATA or MALFORMED.
    """
    if len(content) > caps.of(name):
        raise VerificationError(AttackCode.ENDLESS_DATA, f"{name}: {len(content)} bytes, at most {caps.of(name)}")
    try:
        value = canonical.decode(content)
    except canonical.JsonFormError as exc:
        raise VerificationError(AttackCode.MALFORMED, f"{name}: {exc}") from exc
    if not isinstance(value, dict) or not isinstance(value.get("signed"), dict):
        raise VerificationError(AttackCode.MALFORMED, f"{name} has no signed part")
    return cast("Mapping[str, object]", value["signed"])
