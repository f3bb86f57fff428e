"""The key ceremony of a new installation: every authority, key and first root, laid out in one data folder.

Everything is made beside its place and moved there at the end, so that an interrupted ceremony leaves nothing behind
that looks like one. In production the offline keys under `keys/` are carried away to tokens afterwards; what has to
stay where is in SECURITY.md.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from signing.errors import KeyFileError, SigningError
from signing.files import sync_folder, write_atomically
from signing.image_repo import ImageRepository
from signing.keys import generate_keys, write_private
from signing.names import RepositoryName
from signing.pki import Authority
from signing.quorums import Quorums, chosen
from signing.roots import first_root

AUTHORITY_LIFE = timedelta(days=3650)
OPERATOR_LIFE = timedelta(days=365)

_PARTS = ("authorities", "keys", "director", "image-repo", "provisioning", "operators")
"""What a ceremony makes below the data folder."""
_STAGE_PREFIX = ".ceremony-"


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Where things are in a data folder."""

    path: Path

    @property
    def authorities(self) -> Path:
        """`server`, `vehicle` and `operator`, each `.crt` and `.key`."""
        return self.path / "authorities"

    @property
    def director_keys(self) -> Path:
        """The Director's keys; the signer process reads targets, snapshot and timestamp."""
        return self.path / "keys" / "director"

    @property
    def image_keys(self) -> Path:
        """The Image repository's keys."""
        return self.path / "keys" / "image"

    @property
    def director_metadata(self) -> Path:
        """The Director's roots."""
        return self.path / "director" / "metadata"

    @property
    def image_repo(self) -> Path:
        """The Image repository."""
        return self.path / "image-repo"

    @property
    def provisioning(self) -> Path:
        """What a factory puts into a vehicle."""
        return self.path / "provisioning"

    def keys_of(self, repository: RepositoryName) -> Path:
        """The keys of either repository."""
        return self.director_keys if repository == "director" else self.image_keys

    def metadata_of(self, repository: RepositoryName) -> Path:
        """The metadata files of either repository."""
        return self.director_metadata if repository == "director" else self.image_repo / "metadata"

    def pending(self, repository: RepositoryName) -> Path:
        """The change of its keys that is waiting for signatures."""
        return self.path / "pending" / f"{repository}.json"

    def operator(self, name: str) -> Path:
        """The client identity of an operator."""
        return self.path / "operators" / name


@dataclass(frozen=True, slots=True)
class Renewed:
    """What the renewal of an authority did."""

    expires_before: datetime
    """When the old certificate ends: until then whoever trusts it can be served."""
    expires: datetime
    files: tuple[Path, ...]
    """Every file that holds the new certificate."""


def initialise(
    data_folder: Path,
    *,
    trust_domain: str,
    now: datetime,
    fleet_now: datetime | None = None,
    administrator: str = "admin",
    keys: Sequence[str] = (),
) -> DataFolder:
    """Make everything that `outrider serve` needs, once.

    Args:
        data_folder: Created if need be; may hold other things.
        trust_domain: SPIFFE trust domain of all certificates, for example `fleet.example`.
        now: Machine time, UTC: certificates are judged by it.
        fleet_now: Fleet time, UTC: metadata is judged by it; None means the same.
        administrator: Name of the first operator, with role `admin`.
        keys: How many keys a role has, and how many must sign, such as `image.targets=2/3`; see `quorums`.

    Raises:
        KeyFileError: There is a part of it already; nothing was changed.
        SigningError: The trust domain or the name is malformed, or a role cannot have such keys.
    """
    quorums = chosen(keys)
    data_folder.mkdir(parents=True, exist_ok=True)
    _refuse_existing(data_folder)
    for leftover in data_folder.glob(f"{_STAGE_PREFIX}*"):
        shutil.rmtree(leftover)
    stage = DataFolder(Path(tempfile.mkdtemp(prefix=_STAGE_PREFIX, dir=data_folder)))
    try:
        _make(stage, trust_domain, administrator, now, fleet_now or now, quorums)
        _refuse_existing(data_folder)
        for part in _PARTS:
            (stage.path / part).rename(data_folder / part)
    finally:
        shutil.rmtree(stage.path)
    sync_folder(data_folder)
    return DataFolder(data_folder)


def add_operator(
    data: DataFolder, *, trust_domain: str, name: str, role: str, now: datetime, life: timedelta = OPERATOR_LIFE
) -> Path:
    """Issue a client identity for an operator into `operators/<name>`.

    Args:
        data: The data folder.
        trust_domain: As in `initialise`.
        name: The operator's name.
        role: `viewer`, `operator`, `approver` or `admin`.
        now: Machine time, UTC.
        life: How long the certificate is valid.

    Returns:
        The folder with `operator.crt`, `operator.key` and `server-ca.pem`.

    Raises:
        KeyFileError: That operator has an identity already, or an authority is missing.
        SigningError: The name or role is malformed.
    """
    folder = data.operator(name)
    if folder.exists():
        raise KeyFileError(f"{folder} exists; remove it to issue a new identity for operator {name!r}")
    authority = Authority.load(data.authorities, "operator")
    certificate, key = authority.issue_operator(trust_domain=trust_domain, name=name, role=role, now=now, life=life)
    folder.mkdir(mode=0o700, parents=True)
    write_private(folder / "operator.key", key)
    write_atomically(folder / "operator.crt", certificate)
    write_atomically(folder / "server-ca.pem", Authority.load(data.authorities, "server").certificate_pem)
    return folder


def renew_authority(data: DataFolder, name: str, *, now: datetime, life: timedelta = AUTHORITY_LIFE) -> Renewed:
    """Give an authority a certificate that lasts longer, under the same key, wherever its certificate lies here.

    Args:
        data: The data folder.
        name: `server`, `vehicle` or `operator`.
        now: Machine time, UTC.
        life: Of the new certificate.

    Raises:
        KeyFileError: The authority is missing or damaged.
        SigningError: The new certificate would not last longer than the one that stands.
    """
    authority = Authority.load(data.authorities, name)
    fresh = authority.renewed(now, life)
    if fresh.expires <= authority.expires:
        raise SigningError(
            f"the new certificate would end at {fresh.expires:%Y-%m-%d}, the one that stands ends at "
            f"{authority.expires:%Y-%m-%d}; nothing was changed"
        )
    places = [data.authorities / f"{name}.crt"]
    if name == "server":
        places += [data.provisioning / "enrolment-ca.pem", *sorted(data.path.glob("operators/*/server-ca.pem"))]
    for place in places:
        write_atomically(place, fresh.certificate_pem)
    return Renewed(expires_before=authority.expires, expires=fresh.expires, files=tuple(places))


def _refuse_existing(data_folder: Path) -> None:
    existing = [part for part in _PARTS if (data_folder / part).exists()]
    if existing:
        raise KeyFileError(
            f"{data_folder} has {', '.join(existing)} already and nothing was changed; "
            "use another data folder, or move these away first"
        )


def _make(
    stage: DataFolder,
    trust_domain: str,
    administrator: str,
    now: datetime,
    fleet_now: datetime,
    quorums: Mapping[str, Quorums],
) -> None:
    for name in ("server", "vehicle", "operator"):
        authority = Authority.create(f"Outrider {name} authority, {trust_domain}"[:64], now, AUTHORITY_LIFE)
        authority.save(stage.authorities, name)
    generate_keys(stage.director_keys, "director", quorums["director"])
    generate_keys(stage.image_keys, "image", quorums["image"])
    stage.director_metadata.mkdir(parents=True)
    director_root = first_root(stage.director_keys, fleet_now, quorums["director"])
    write_atomically(stage.director_metadata / "1.root.json", director_root)
    ImageRepository.create(stage.image_repo, stage.image_keys, fleet_now, quorums["image"])
    stage.provisioning.mkdir()
    write_atomically(stage.provisioning / "director-root.json", director_root)
    image_root = (stage.image_repo / "metadata" / "1.root.json").read_bytes()
    write_atomically(stage.provisioning / "image-root.json", image_root)
    write_atomically(
        stage.provisioning / "enrolment-ca.pem", Authority.load(stage.authorities, "server").certificate_pem
    )
    add_operator(stage, trust_domain=trust_domain, name=administrator, role="admin", now=now)
