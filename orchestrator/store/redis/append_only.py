"""The append-only file of the embedded store while no server runs: checked, and repaired when a person asks for it.

A torn tail is what a power cut leaves. It is never cut off silently: what is cut may have been acknowledged.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import structlog

from orchestrator.store.base import StoreRefusedError
from orchestrator.store.redis.binary import find_binary
from orchestrator.store.redis.lock import FolderLock

MANIFEST = Path("appendonlydir") / "appendonly.aof.manifest"
CHECK_TIMEOUT_S = 600.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class CutFile:
    """One file that lost its tail."""

    name: str
    """Within the store's folder."""
    size_before_bytes: int
    size_after_bytes: int
    copy: Path
    """The file as it was."""


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a repair did."""

    cut: tuple[CutFile, ...]
    """Empty when nothing was damaged."""
    output: str
    """What the check program said."""

    @property
    def bytes_cut(self) -> int:
        """How much was cut off in all."""
        return sum(file.size_before_bytes - file.size_after_bytes for file in self.cut)


def check(folder: Path) -> str:
    """Read through the append-only file without changing it.

    Returns:
        What is wrong with it, for people; empty when it is whole or absent.
    """
    if not (folder / MANIFEST).exists():
        return ""
    done = _check_program(folder, fix=False)
    return "" if done.returncode == 0 else _reason(done.stdout)


def repair(folder: Path) -> RepairReport:
    """Cut the damaged tail off the append-only file, keeping a copy, and log what was cut.

    Args:
        folder: the store's data folder, not in use.

    Raises:
        StoreRefusedError: it is in use, has no append-only file, or is damaged beyond a torn tail.
    """
    if not (folder / MANIFEST).exists():
        raise StoreRefusedError(f"{folder} holds no append-only file: nothing to repair")
    lock = FolderLock(folder)
    lock.take()
    try:
        return _repair(folder)
    finally:
        lock.drop()


def _repair(folder: Path) -> RepairReport:
    if _check_program(folder, fix=False).returncode == 0:
        return RepairReport(cut=(), output="nothing is damaged")
    copies = _new_folder(folder)
    files = sorted((folder / MANIFEST).parent.iterdir())
    for file in files:
        shutil.copy2(file, copies / file.name)
    done = _check_program(folder, fix=True)
    cut = tuple(
        CutFile(
            name=str(file.relative_to(folder)),
            size_before_bytes=(copies / file.name).stat().st_size,
            size_after_bytes=file.stat().st_size,
            copy=copies / file.name,
        )
        for file in files
        if file.stat().st_size != (copies / file.name).stat().st_size
    )
    if _check_program(folder, fix=False).returncode != 0:
        raise StoreRefusedError(
            f"the append-only file in {folder} is damaged beyond its tail ({_reason(done.stdout)}): restore a backup; "
            f"the files as they were are in {copies}"
        )
    report = RepairReport(cut=cut, output=done.stdout)
    log.warning(
        "store_repaired",
        folder=str(folder),
        bytes_cut=report.bytes_cut,
        files=[file.name for file in cut],
        copies=str(copies),
    )
    return report


def _new_folder(folder: Path) -> Path:
    number = 1 + sum(1 for path in folder.iterdir() if re.fullmatch(r"damaged-\d+", path.name))
    copies = folder / f"damaged-{number}"
    copies.mkdir(mode=0o700)
    return copies


def _check_program(folder: Path, *, fix: bool) -> subprocess.CompletedProcess[str]:
    binary = find_binary()
    # The server program is the check program when it is called by that name.
    name = "redis-check-aof" if binary.name == "redis-server" else "valkey-check-aof"
    return subprocess.run(
        [name, *(["--fix"] if fix else []), str(folder / MANIFEST)],
        executable=binary,
        input="y\n" * 8,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=CHECK_TIMEOUT_S,
        check=False,
    )


def _reason(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if "rror" in line or "xpected" in line or "not valid" in line]
    return (telling or lines or ["no reason given"])[-1]
