"""The locks on a store's data folder: one owner at a time, named by its pid, and one server, which may outlive it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import BinaryIO

from orchestrator.store.base import StoreRefusedError


class FolderLock:
    """An exclusive lock that the kernel drops when its holder dies.

    Args:
        folder: what is locked; the lock is its file `lock`.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock"
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds it."""
        return self._descriptor is not None

    @property
    def holder(self) -> str:
        """The process that took it last, as far as the file tells."""
        return self._path.read_text(encoding="utf-8", errors="replace").strip() or "unknown"

    def take(self) -> None:
        """Take it, or refuse at once.

        Raises:
            StoreRefusedError: another process, or another object of this one, holds it.
        """
        # Not inheritable (the default of os.open): a server that outlives us must not keep it.
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise StoreRefusedError(
                f"the store in {self._path.parent} is in use by process {self.holder}: stop that one first, or use "
                "another data folder"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def drop(self) -> None:
        """Let go of it; harmless when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def take_server_lock(folder: Path) -> BinaryIO | None:
    """A lock for a server to inherit, so that nobody else ever opens the same append-only file.

    Returns:
        The lock, held until it is closed here and in every process that inherited it. None while a server that was
        left behind, or a child of it that still rewrites the file, holds it.
    """
    file = (folder / "server.lock").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
