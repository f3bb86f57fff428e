"""`outrider backup`: one file with everything that an installation is, taken while it runs.

Owns what belongs into it and in which order: the store first, the ledger after it. What the store's journal has lost by
then, because the ledger had taken it, is so in the copy of the ledger; the other way round it would be in neither.
Leaves to `archive` how files are packed, and to `restore` what becomes of them.
"""

from __future__ import annotations

import json
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path

from orchestrator.app.archive import pack, prove
from orchestrator.app.installation import Installation, InstallationError
from orchestrator.ledger.copying import Copied, copy_ledger
from orchestrator.settings import FILE_NAME, Settings
from orchestrator.store.redis import EmbeddedServer
from orchestrator.store.redis.snapshot import take_snapshot
from signing.files import exclusive, sync_folder

FORMAT = 1
STORE_FILE = "store.rdb"
LEDGER_FILE = "ledger.sqlite3"
FOLDERS = ("authorities", "director", "image-repo", "provisioning", "operators")
FILES = (FILE_NAME, "endpoints.json", "ledger-head.json")
SECRET_SUFFIXES = (".key", ".pem")
PUBLIC_PEM = ("enrolment-ca.pem", "server-ca.pem")


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What was taken."""

    path: Path
    size_bytes: int
    files: int
    ledger: Copied
    keys: bool
    images: bool
    """Whether the bytes of images are in it."""
    images_at: str
    """Where images lie that are never in it, a bucket or another folder; empty where they lie in the data folder."""


def back_up(
    installation: Installation,
    settings: Settings,
    target: Path,
    *,
    made_at: str,
    keys: bool = False,
    images: bool = True,
    step: Callable[[str], None] = lambda what: None,
) -> BackupReport:
    """Take a backup of an installation, running or not.

    Args:
        installation: the data folder.
        settings: its settings.
        target: the file; must not exist. It appears when it is whole and on disk, readable by its owner only.
        made_at: machine time, for people.
        keys: whether private keys go into it, those that lie in the data folder.
        images: whether the images' bytes go into it; metadata always does, images outside the data folder never.
        step: told what is being done.

    Raises:
        InstallationError: the target exists, or the store is one that is not ours to copy.
        StoreError: the store did not hand over its data.
        orchestrator.ledger.LedgerError: the ledger cannot be read, or its chain does not hold.
        OSError: something cannot be read or written, or does not read back as it was written.
    """
    installation.check()
    images = images and not settings.images
    if target.exists():
        raise InstallationError(f"{target} exists: name another file, a backup is never overwritten")
    if settings.store_url:
        raise InstallationError(
            "store_url names a store that Outrider does not run: its backup is a matter of whoever runs it; this "
            "command takes those of the private store"
        )
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        folder = Path(scratch)
        with running_store(installation) as address:
            step("the store")
            take_snapshot(address, folder / STORE_FILE)
            step("the ledger")
            copied = copy_ledger(installation.ledger_at(settings.ledger_url), folder / LEDGER_FILE)
        own = ((name, folder / name) for name in (STORE_FILE, LEDGER_FILE))
        step(f"{'keys, ' if keys else ''}metadata{' and images' if images else ''}")
        about = {
            "format": FORMAT,
            "outrider": version("outrider"),
            "made_at": made_at,
            "dataset_id": copied.dataset_id,
            "keys": keys,
            "images": images,
            "ledger": {"entries": copied.entries, "head_hash": copied.head_hash},
        }
        whole = folder / "whole"
        # The repository's own lock: nothing is published while its files are read.
        with exclusive(installation.image_repository):
            packed = pack(whole, chain(own, _files(installation, keys=keys, images=images)), about)
        step("a last look at it")
        prove(whole, packed)
        whole.rename(target)
    sync_folder(target.parent)
    return BackupReport(target, target.stat().st_size, len(packed) - 1, copied, keys, images, settings.images)


def is_secret(name: str) -> bool:
    """Whether a file of the data folder is a private key."""
    path = Path(name)
    if name.startswith("keys/"):
        return path.suffix != ".pub"
    return path.suffix in SECRET_SUFFIXES and path.name not in PUBLIC_PEM


@contextmanager
def running_store(installation: Installation) -> Iterator[Path]:
    """The socket of the store: of the one that runs, else of one started for the while."""
    told = installation.store / "store.json"
    try:
        path = Path(json.loads(told.read_text(encoding="utf-8"))["socket"])
    except (OSError, ValueError, KeyError):
        path = Path()
    if path.is_socket() and _answers(path):
        yield path
        return
    if not installation.store.is_dir():
        raise InstallationError(f"{installation.store} is missing: nothing was served here yet, nothing to back up")
    server = EmbeddedServer(installation.store)
    server.start()
    try:
        yield server.socket_path
    finally:
        server.stop()


def _answers(path: Path) -> bool:
    """Whether a server listens; one that was killed leaves its socket behind."""
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
    return True


def _files(installation: Installation, *, keys: bool, images: bool) -> Iterator[tuple[str, Path]]:
    places = [installation.data / name for name in FILES]
    for folder in (*FOLDERS, "keys"):
        places += sorted((installation.data / folder).rglob("*"))
    for path in places:
        name = path.relative_to(installation.data).as_posix()
        # A dot: locks, and what will be renamed to the file that it replaces.
        if not path.is_file() or path.name.startswith(".") or (is_secret(name) and not keys):
            continue
        if name.startswith("image-repo/fetched/") or (name.startswith("image-repo/targets/") and not images):
            continue
        yield name, path
