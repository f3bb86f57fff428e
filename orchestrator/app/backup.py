"""`outrider backup`: one file with everything that an installation is, taken while it runs.

Owns what belongs into it and in which order: the store first, the ledger after it. What the store's journal has lost by
then, because the ledger had taken it, is so in the copy of the ledger; the other way round it would be in neither. What
belongs is named: a data folder may hold whatever somebody laid there, a password or last night's backup as well.
Leaves to `archive` how files are packed, and to `restore` what becomes of them.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path

from orchestrator.app.archive import MANIFEST, pack, prove
from orchestrator.app.installation import Installation, InstallationError
from orchestrator.ledger.copying import Copied, copy_ledger
from orchestrator.settings import FILE_NAME, Settings
from orchestrator.store.redis import EmbeddedServer
from orchestrator.store.redis.snapshot import remove_leftover, take_snapshot
from signing.files import exclusive, sync_folder

FORMAT = 1
STORE_FILE = "store.rdb"
LEDGER_FILE = "ledger.sqlite3"
FOLDERS = ("authorities", "director", "image-repo", "keys", "operators", "pending", "provisioning")
FILES = (FILE_NAME, "endpoints.json", "ingest.yaml", "ledger-head.json")
APART = ("store", "run", LEDGER_FILE, f"{LEDGER_FILE}-wal", f"{LEDGER_FILE}-shm", STORE_FILE, MANIFEST)
"""Names that are no files to be copied: what is taken in its own way or made anew, and what is so named in a backup."""
SECRET_SUFFIXES = (".key", ".p12", ".pfx")
SECRET_MARK = b"PRIVATE KEY-----"
"""In every private key in PEM, encrypted or not, whatever its file is called."""


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
    left_out: tuple[str, ...]
    """What else lies in the data folder, and keys of builders that lie outside of it."""


def back_up(
    installation: Installation,
    settings: Settings,
    target: Path,
    *,
    made_at: str,
    keys: bool = False,
    images: bool = True,
    builder_keys: Collection[Path] = (),
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
        builder_keys: files that the ingest policy names; those outside the data folder never go into it.
        step: told what is being done.

    Raises:
        InstallationError: the target exists, the store is one that is not ours to copy, or a link leads nowhere.
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
            remove_leftover(installation.store)
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
            found = _files(installation, builder_keys, keys=keys, images=images)
            packed = pack(whole, chain(own, found), about)
        step("a last look at it")
        prove(whole, packed)
        whole.rename(target)
    sync_folder(target.parent)
    return BackupReport(
        path=target,
        size_bytes=target.stat().st_size,
        files=len(packed) - 1,
        ledger=copied,
        keys=keys,
        images=images,
        images_at=settings.images,
        left_out=_left_out(installation, packed.keys(), target, builder_keys),
    )


def is_secret(name: str, path: Path) -> bool:
    """Whether a file of the data folder is a private key, or what leads to one.

    Args:
        name: in the data folder. What lies in the Image repository is for everybody, whatever it holds.
        path: where it is read; one that was removed is none.
    """
    if name.startswith("image-repo/"):
        return False
    if path.suffix in SECRET_SUFFIXES or (name.startswith("keys/") and path.suffix != ".pub"):
        return True
    try:
        return SECRET_MARK in path.read_bytes()
    except FileNotFoundError:
        return False


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


def _files(
    installation: Installation, builder_keys: Collection[Path], *, keys: bool, images: bool
) -> Iterator[tuple[str, Path]]:
    data = installation.data
    # A dot: locks, and what will be renamed to the file that it replaces.
    places = [path for folder in FOLDERS for path in sorted(_below(data / folder)) if path.name[0] != "."]
    named = [path for path in map(_plain, builder_keys) if path.is_relative_to(data)]
    for path in dict.fromkeys([*(data / name for name in FILES), *named, *places]):
        name = path.relative_to(data).as_posix()
        if not path.is_file() or _top(name) in APART or (is_secret(name, path) and not keys):
            continue
        if name.startswith("image-repo/fetched/") or (name.startswith("image-repo/targets/") and not images):
            continue
        yield name, path


def _below(folder: Path) -> Iterator[Path]:
    """Every file, also behind links: images may lie on a larger disk.

    Raises:
        InstallationError: a link leads nowhere, as where that disk is not there, and what is behind it would be lost.
    """
    for name, folders, files in os.walk(folder, followlinks=True):
        place = Path(name)
        folders[:] = [each for each in folders if not _leads_back(place / each)]
        for path in (place / each for each in files):
            if path.is_symlink() and not path.exists():
                raise InstallationError(f"{path} is a link to {os.readlink(path)}, which is not there: bring it back")
            yield path


def _leads_back(path: Path) -> bool:
    """Whether a folder is a link to one that it lies in, which would be walked in rounds."""
    return path.is_symlink() and any(each.resolve().is_relative_to(path.resolve()) for each in path.parents)


def _left_out(
    installation: Installation, packed: Collection[str], target: Path, builder_keys: Collection[Path]
) -> tuple[str, ...]:
    data = installation.data
    known = {*FOLDERS, *FILES, *APART, *map(_top, packed)}
    beside = {path.name for path in data.iterdir() if path.name[0] != "." and path != target} - known
    outside = {str(path) for path in builder_keys if not _plain(path).is_relative_to(data)}
    return tuple(sorted(beside | outside))


def _plain(path: Path) -> Path:
    """Without `..`; a link stays the place that it is, for what is behind it is what is packed."""
    return Path(os.path.normpath(path))


def _top(name: str) -> str:
    return name.partition("/")[0]
