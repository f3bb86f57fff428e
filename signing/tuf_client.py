"""The only module that touches `tuf.ngclient`: one verified refresh of one repository, on fleet time, from given bytes.

`Updater` reads the wall clock when it is built and works on a folder. This adapter sets its private reference time
before anything is judged, replaces its file operations by a dictionary (a scratch folder cost four times as much as
the verification), lets it fetch from bytes at hand, and hands back what it accepted. Nothing is kept here: the caller
persists the result once all of its own checks agree. Six private names are relied upon; a test names each of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import cast

from tuf.api import exceptions
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from signing import canonical
from signing.delegations import ROLES_MAX, find_target
from signing.errors import AttackCode, HeldMetadataError, SigningError, VerificationError
from signing.names import VERSION_MAX
from signing.versions import MetadataVersions

_BASE_URL = "bytes:/metadata/"
_NO_FOLDER = os.path.join(os.devnull, "outrider")
_MAX_ROOT_ROTATIONS = 64
FAST_FORWARDED = ("timestamp", "snapshot")
"""Roles whose held files are forgotten when either one's keys were rotated."""
_NOTHING: Mapping[str, tuple[str, ...]] = MappingProxyType({})


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
    listings: tuple[Targets, ...]
    """The targets that were looked at, top level first."""
    sought: Mapping[str, tuple[str, ...]]
    """The target paths that were asked, each with the hardware ids that it is for."""
    found: Mapping[str, TargetFile | None]
    """For each target path asked, what the repository says; None when it lists no such target."""

    @property
    def delegators(self) -> tuple[Targets, ...]:
        """The targets that delegate, of those that were looked at."""
        return tuple(targets for targets in self.listings if targets.delegations is not None)

    @property
    def expires(self) -> datetime:
        """Fleet time from which the first of the four files is expired."""
        return min(self.root.expires, self.timestamp.expires, self.snapshot.expires, self.targets.expires)


class RefreshError(SigningError):
    """A refresh failed after it may have accepted new roots.

    Attributes:
        reason: What failed.
        roots: All roots accepted up to there, which are safe to keep: they rest on offline keys alone.
        missing: Name of the file that was nowhere, if that is what failed; else empty.
        verified: What else was new and good before it failed, by role. A plain TUF client would keep it; a vehicle
            takes up a bundle whole or not at all.
    """

    def __init__(
        self, reason: VerificationError, roots: Mapping[int, bytes], missing: str, verified: Mapping[str, bytes]
    ) -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.roots = roots
        self.missing = missing
        self.verified = verified


def refresh(
    *,
    bootstrap: bytes,
    held: HeldFiles,
    offered: Callable[[str], bytes | None],
    caps: Caps,
    now: datetime,
    find: Mapping[str, tuple[str, ...]] = _NOTHING,
) -> TrustedFiles:
    """Verify one repository from its provisioned root to its targets, as a TUF client does.

    Args:
        bootstrap: The provisioned root.
        held: What was verified earlier, for rollback protection.
        offered: Gives a file's bytes by its name, or None when there is no such file.
        caps: Byte caps.
        now: Fleet time, UTC.
        find: Target paths to look up, through delegations if there are any, with the hardware ids that each is for;
            none of these looks up a path whatever it is for.

    Raises:
        RefreshError: Something was refused.
        HeldMetadataError: The provisioned root is unusable.
    """
    fetcher = _BytesFetcher(held, offered)
    try:
        updater = MemoryUpdater(fetcher, held, bootstrap, caps)
    except exceptions.RepositoryError as exc:
        raise HeldMetadataError(f"the provisioned root cannot be used: {exc}") from exc
    set_fleet_time(updater, now)
    try:
        updater.refresh()
        found = {path: find_target(path, hardware_ids, updater.load) for path, hardware_ids in find.items()}
    except (exceptions.RepositoryError, exceptions.DownloadError) as exc:
        reason = _reason(exc, fetcher, updater._trusted_set.root)
        missing = fetcher.last_name if reason.code is AttackCode.MISSING else ""
        raise RefreshError(reason, updater.accepted_roots(), missing, updater.persisted) from exc
    return updater.accepted(find, found)


def keys_rotated(before: Root, after: Root) -> bool:
    """Whether timestamp or snapshot have other keys, so that what is held of either is to be forgotten.

    Whoever had the old keys may have signed the highest version there is; nothing would ever be newer.
    Source: Uptane 2.1.0, How to check Root metadata; TUF 1.0.34, Update the root role.
    """
    return any(set(before.roles[role].keyids) != set(after.roles[role].keyids) for role in FAST_FORWARDED)


def set_fleet_time(updater: Updater, now: datetime) -> None:
    """Make `updater` judge expiry by `now` instead of the wall clock. Nothing has been judged before `refresh`.

    Raises:
        SigningError: This version of python-tuf keeps its time elsewhere: it must not be used.
    """
    trusted_set = getattr(updater, "_trusted_set", None)
    if not isinstance(getattr(trusted_set, "reference_time", None), datetime):
        raise SigningError("this version of python-tuf does not keep a reference_time; install tuf 7.0")
    trusted_set.reference_time = now  # type: ignore[union-attr]


class MemoryUpdater(Updater):
    """python-tuf's `Updater` with its four file operations replaced by a dictionary.

    Its folder is one that cannot exist: whatever else python-tuf might read or write there fails at once.
    """

    def __init__(self, fetcher: FetcherInterface, held: HeldFiles, bootstrap: bytes, caps: Caps) -> None:
        self._roots: dict[int, bytes] = {}
        self._held = held
        self._accepted: dict[str, bytes] = {}
        self.persisted: dict[str, bytes] = {}
        """Those of the accepted files that were not held before, by role."""
        config = UpdaterConfig(
            max_root_rotations=len(held.roots) + _MAX_ROOT_ROTATIONS,
            max_delegations=ROLES_MAX,
            root_max_length=caps.root,
            timestamp_max_length=caps.timestamp,
            snapshot_max_length=caps.snapshot,
            targets_max_length=caps.targets,
        )
        super().__init__(_NO_FOLDER, _BASE_URL, fetcher=fetcher, config=config, bootstrap=bootstrap)

    def accepted_roots(self) -> dict[int, bytes]:
        """Every root from the provisioned one to the trusted one."""
        return {version: self._roots[version] for version in sorted(self._roots)}

    def load(self, role: str, delegator: str) -> Targets:
        """The targets of a role, verified by what its delegator says of its keys."""
        return self._load_targets(role, delegator)

    def accepted(self, sought: Mapping[str, tuple[str, ...]], found: Mapping[str, TargetFile | None]) -> TrustedFiles:
        """What a finished refresh accepted."""
        trusted = self._trusted_set
        roles = dict(self._held.roles)  # a delegated role that nobody asked for stays as it was
        listings = []
        for role, content in self._accepted.items():
            signed = trusted[role]
            roles[role] = HeldFile(signed.version, content)
            if isinstance(signed, Targets):
                listings.append(signed)
        return TrustedFiles(
            held=HeldFiles(roots=self.accepted_roots(), roles=roles),
            root=trusted.root,
            timestamp=trusted.timestamp,
            snapshot=trusted.snapshot,
            targets=trusted.targets,
            listings=tuple(listings),
            sought=sought,
            found=found,
        )

    def _load_local_metadata(self, rolename: str) -> bytes:
        file = self._held.roles.get(rolename)
        if file is None or (rolename in FAST_FORWARDED and self.rotated()):
            raise FileNotFoundError(rolename)
        self._accepted.setdefault(rolename, file.content)
        return file.content

    def rotated(self) -> bool:
        """Whether the roots walked just now have other timestamp or snapshot keys: then both files are forgotten."""
        newest = max(self._held.roots, default=0)
        if not newest or newest == self._trusted_set.root.version:
            return False
        return keys_rotated(Metadata[Root].from_bytes(self._held.roots[newest]).signed, self._trusted_set.root)

    def _persist_metadata(self, rolename: str, data: bytes) -> None:
        self._accepted[rolename] = self.persisted[rolename] = data

    def _persist_root(self, version: int, data: bytes) -> None:
        self._roots[version] = data

    def _update_root_symlink(self) -> None:
        """There is no folder to keep a link in."""


class _BytesFetcher(FetcherInterface):
    """Serves files out of memory and remembers the last one, so that a failure can be named.

    Roots that were verified before come first: python-tuf walks from the provisioned root every time.
    """

    def __init__(self, held: HeldFiles, offered: Callable[[str], bytes | None]) -> None:
        self._roots = {f"{version}.root.json": content for version, content in held.roots.items()}
        self._offered = offered
        self.last_name = ""
        self.last_content = b""

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """The content of `url`, at most `max_length` bytes; python-tuf's own way there leads over a temporary file."""
        content = b"".join(self._fetch(url))
        if len(content) > max_length:
            raise exceptions.DownloadLengthMismatchError(f"{len(content)} bytes, at most {max_length}")
        return content

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.removeprefix(_BASE_URL)
        self.last_name, self.last_content = name, b""
        content = self._roots.get(name) or self._offered(name)
        if content is None:
            raise exceptions.DownloadHTTPError(f"{name} was neither given nor held", 404)
        self.last_content = content
        return iter((content,))


def _reason(exc: Exception, fetcher: _BytesFetcher, root: Root) -> VerificationError:
    """Name the attack that python-tuf's refusal looks like."""
    name = fetcher.last_name
    if isinstance(exc, exceptions.DownloadLengthMismatchError):
        return VerificationError(AttackCode.ENDLESS_DATA, f"{name}: {exc}")
    if isinstance(exc, exceptions.DownloadError):
        return VerificationError(AttackCode.MISSING, str(exc))
    if isinstance(exc, exceptions.ExpiredMetadataError):
        return VerificationError(AttackCode.FREEZE, f"{exc} by fleet time")
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
    listed = role not in ("root", "timestamp") and not name.startswith(f"{metadata.signed.version}.")
    if isinstance(exc, exceptions.BadVersionNumberError) and listed:
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
    version = value["signed"].get("version")
    if isinstance(version, bool) or (isinstance(version, int) and version > VERSION_MAX):
        raise VerificationError(AttackCode.MALFORMED, f"{name}: version {version} is no number up to {VERSION_MAX}")
    return cast("Mapping[str, object]", value["signed"])
