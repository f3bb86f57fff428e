"""Files that are either the old or the new ones after a power loss, and locks between processes on one folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644, durable: bool = True) -> None:
    """Replace the file at `path` by one with `data`; readers see the old or the new content, never a mixture.

    Args:
        path: Where; its folder exists.
        data: The content.
        mode: Permissions of the file.
        durable: Whether it is on disk on return. False survives the death of the process, not of the machine.

    Raises:
        OSError: It could not be written; the old file stands.
    """
    with _replacement(path, mode=mode, durable=durable) as file:
        file.write(data)


def write_pieces_atomically(path: Path, pieces: Iterable[bytes], *, mode: int = 0o644, durable: bool = True) -> None:
    """The same with data that comes in pieces; none of it stands at `path` when getting them fails.

    Raises:
        OSError: It could not be written; the old file stands.
    """
    with _replacement(path, mode=mode, durable=durable) as file:
        for piece in pieces:
            file.write(piece)


def copy_atomically(source: Path, path: Path) -> None:
    """Copy a file to `path` so that readers see all of it or nothing, durably.

    Raises:
        OSError: It could not be copied.
    """
    with source.open("rb") as content, _replacement(path, mode=0o644, durable=True) as file:
        shutil.copyfileobj(content, file, 1 << 20)


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Wait for and hold the one lock of `folder`, against other processes as well."""
    descriptor = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _replacement(path: Path, *, mode: int, durable: bool) -> Iterator[IO[bytes]]:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:64]}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            yield file
            file.flush()
            if durable:
                os.fsync(descriptor)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
