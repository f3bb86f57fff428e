"""Files in one archive, and a manifest that names each with the digest of the very bytes that were packed.

Files are replaced and removed while they are read, so that each is read once: what is packed is what is digested. The
manifest comes last for that. Leaves to `backup` which files, and what else the manifest says.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

MANIFEST = "backup.json"
CHUNK_BYTES = 1 << 20


def pack(target: Path, found: Iterable[tuple[str, Path]], about: Mapping[str, object]) -> dict[str, str]:
    """Write an archive, readable by its owner only, durably.

    Args:
        target: the file; must not exist. The manifest is written beside it first.
        found: what goes into it, by its name there; what was removed meanwhile is left out.
        about: what the manifest says beside the digests.

    Returns:
        The digest of each file that is in it, the manifest's among them.

    Raises:
        OSError: something cannot be read or written, or was cut while it was read.
    """
    packed: dict[str, str] = {}
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        # Dereferenced, as digests are of contents: no file is packed as a link to another one.
        with tarfile.open(fileobj=file, mode="w", dereference=True) as archive:
            for name, path in found:
                try:
                    content = path.open("rb")
                except FileNotFoundError:
                    continue
                with content:
                    packed[name] = _add(archive, name, content)
            manifest = target.with_name(MANIFEST)
            manifest.write_text(json.dumps({**about, "files": packed}, indent=2) + "\n", encoding="utf-8")
            with manifest.open("rb") as content:
                packed[MANIFEST] = _add(archive, MANIFEST, content)
        file.flush()
        os.fsync(file.fileno())
    return packed


def prove(archive: Path, packed: Mapping[str, str]) -> None:
    """Read an archive once, to see that it holds what was packed.

    Args:
        archive: as `pack` wrote it.
        packed: what `pack` answered.

    Raises:
        OSError: it cannot be read, or holds something else.
    """
    found = {}
    try:
        with tarfile.open(archive) as opened:
            for member in opened:
                content = opened.extractfile(member)
                found[member.name] = _read_through(content) if content else ""
    except tarfile.TarError as exc:
        raise OSError(f"the backup cannot be read back ({exc}): look at that disk") from exc
    for name in found.keys() | packed.keys():
        if found.get(name) != packed.get(name):
            raise OSError(f"{name} does not read back from the backup as it was written: look at that disk")


def digest(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return _read_through(file)


def _add(archive: tarfile.TarFile, name: str, content: IO[bytes]) -> str:
    """Add a file by its open descriptor, whatever stands at its path by now; the digest of what was added."""
    read = _Digesting(content)
    archive.addfile(archive.gettarinfo(arcname=name, fileobj=content), read)
    return read.sha256.hexdigest()


def _read_through(content: IO[bytes]) -> str:
    read = _Digesting(content)
    while read.read(CHUNK_BYTES):
        pass
    return read.sha256.hexdigest()


class _Digesting:
    """A file that digests what is read from it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, at most `size` of them."""
        content = self._file.read(size)
        self.sha256.update(content)
        return content
