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
from orchestrator.store.redis.lock import FolderLock, take_server_lock

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
    reason: str
    """What the check program stumbled over."""
    copy: Path
    """The file as it was."""

    @property
    def bytes_cut(self) -> int:
        """How much was cut off."""
        return self.size_before_bytes - self.size_after_bytes


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a repair did."""

    cut: tuple[CutFile, ...]
    """Empty when nothing was damaged. Only the newest file can lose its tail in a crash."""

    @property
    def bytes_cut(self) -> int:
        """How much was cut off in all."""
        return sum(file.bytes_cut for file in self.cut)


def check(folder: Path) -> str:
    """Read through the append-only file without changing it.

    Returns:
        What is wrong with it, for people; empty when it is whole or absent.
    """
    if not (folder / MANIFEST).exists():
        return ""
    return next((damage for file in _files(folder) if (damage := _damage(file))), "")


def repair(folder: Path) -> RepairReport:
    """Cut the damaged tail off the append-only file, keeping a copy, and log what was cut.

    Args:
        folder: the store's data folder, not in use.

    Raises:
        StoreRefusedError: it is in use, also by a server whose owner was killed, has no append-only file, or is damaged
            beyond a torn tail.
    """
    if not (folder / MANIFEST).exists():
        raise StoreRefusedError(f"{folder} holds no append-only file: nothing to repair")
    lock = FolderLock(folder)
    lock.take()
    try:
        server_lock = take_server_lock(folder)
        if server_lock is None:
            raise StoreRefusedError(
                f"a server that was left behind still works on {folder}: `outrider serve` adopts it, and needs no "
                f"repair; or stop the process that `fuser {folder / 'server.lock'}` names, then repair"
            )
        with server_lock:
            return _repair(folder)
    finally:
        lock.drop()


def _repair(folder: Path) -> RepairReport:
    files = _files(folder)
    damaged = {file: damage for file in files if (damage := _damage(file))}
    if not damaged:
        return RepairReport(cut=())
    last = files[-1]
    if set(damaged) != {last}:
        other = next(file for file in damaged if file != last)
        raise StoreRefusedError(
            f"{other} is damaged, which is not the tail that a crash tears ({damaged[other]}): restore a backup"
        )
    copy = _new_folder(folder) / last.name
    shutil.copy2(last, copy)
    _run("check-aof", "--fix", str(last))
    if damage := _damage(last):
        raise StoreRefusedError(f"{last} cannot be repaired ({damage}): restore a backup; as it was it is in {copy}")
    cut = CutFile(
        name=str(last.relative_to(folder)),
        size_before_bytes=copy.stat().st_size,
        size_after_bytes=last.stat().st_size,
        reason=damaged[last],
        copy=copy,
    )
    log.warning("store_repaired", file=str(last), bytes_cut=cut.bytes_cut, reason=cut.reason, copy=str(copy))
    return RepairReport(cut=(cut,))


def _files(folder: Path) -> list[Path]:
    """The files that make up the data now: base first, then the increments in order."""
    found = []
    for line in (folder / MANIFEST).read_text(encoding="utf-8").splitlines():
        words = line.split()
        fields = dict(zip(words[::2], words[1::2], strict=False))
        if fields.get("type") in ("b", "i"):
            found.append((fields["type"], int(fields["seq"]), (folder / MANIFEST).parent / fields["file"]))
    return [path for _, _, path in sorted(found)]


def _damage(file: Path) -> str:
    """What is wrong with one file; empty when it is whole."""
    if not file.exists():
        return f"{file.name} is missing"
    if file.stat().st_size == 0:
        return ""
    # One by one: the check of a whole manifest in Valkey 9.1 does not know its own snapshot format.
    done = _run("check-rdb" if file.suffix == ".rdb" else "check-aof", str(file))
    return "" if done.returncode == 0 else _reason(done.stdout)


def _new_folder(folder: Path) -> Path:
    taken = [int(found[1]) for path in folder.iterdir() if (found := re.fullmatch(r"damaged-(\d+)", path.name))]
    # Above the highest, not the count: people delete old ones.
    copies = folder / f"damaged-{max(taken, default=0) + 1}"
    copies.mkdir(mode=0o700)
    return copies


def _run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a check program; the server program is one when it is called by that name."""
    binary = find_binary()
    family = "redis" if binary.name == "redis-server" else "valkey"
    return subprocess.run(
        [f"{family}-{program}", *arguments],
        executable=binary,
        input="y\n",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=CHECK_TIMEOUT_S,
        check=False,
    )


def _reason(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip() and not line.startswith("Start")]
    # What it stumbled over comes first, what follows is counting.
    return lines[0] if lines else "no reason given"
