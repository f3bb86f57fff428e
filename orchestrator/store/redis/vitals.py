"""What a server says of itself while it serves: whether it still syncs to disk, and how much it holds.

`admission` asks once, before anything is trusted to the server; a setting can be changed afterwards, and a disk can
fail. Owns the questions; who shows the answers is the matter of the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.store.redis.calls import Calls

NEEDED = {b"appendonly": b"yes", b"appendfsync": b"always", b"maxmemory-policy": b"noeviction"}


@dataclass(frozen=True, slots=True)
class StoreVitals:
    """One look at a server, or at all primaries of a cluster together."""

    durable: bool
    """Whether what it acknowledges is on its disk, and stays: by its settings, and by its last write."""
    memory_bytes: int
    """Of the data."""
    file_bytes: int
    """Size of the append-only file; 0 when there is none."""


async def read_vitals(servers: Sequence[Calls]) -> StoreVitals:
    """Ask every primary.

    Raises:
        StoreError: one did not answer, or does not say.
    """
    seen = [await _read(server) for server in servers]
    return StoreVitals(
        durable=all(each.durable for each in seen),
        memory_bytes=sum(each.memory_bytes for each in seen),
        file_bytes=sum(each.file_bytes for each in seen),
    )


async def _read(calls: Calls) -> StoreVitals:
    found = await calls.command("CONFIG", "GET", *NEEDED)
    config: dict[bytes, Any] = found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))
    info = _fields(await calls.command("INFO", "everything"))
    syncs = all(config.get(name) == value for name, value in NEEDED.items())
    return StoreVitals(
        durable=syncs and info.get("aof_last_write_status", "ok") == "ok",
        memory_bytes=int(info.get("used_memory", 0)),
        file_bytes=int(info.get("aof_current_size", 0)),
    )


def _fields(text: bytes) -> dict[str, str]:
    pairs = (line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
    return dict(pair for pair in pairs if len(pair) == 2)
