"""Journal streams in memory: positions rise as a Redis stream's do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from orchestrator.model.ids import FleetTime
from orchestrator.store.base import BeyondMark, JournalEntry, Json
from orchestrator.store.streams import position


class Journal:
    """One stream.

    Args:
        name: of the stream.
        machine_ms: machine time, the first half of positions.
    """

    def __init__(self, name: str, machine_ms: Callable[[], int]) -> None:
        self._name = name
        self._machine_ms = machine_ms
        self._entries: list[JournalEntry] = []
        self._last = (0, 0)

    @property
    def mark(self) -> str:
        """The last position ever written; empty when none."""
        return f"{self._last[0]}-{self._last[1]}" if self._last > (0, 0) else ""

    def append(self, kind: str, at: FleetTime, data: Mapping[str, Json], blob: bytes = b"") -> None:
        """Write one entry."""
        last_ms, last_number = self._last
        now_ms = self._machine_ms()
        self._last = (now_ms, 0) if now_ms > last_ms else (last_ms, last_number + 1)
        self._entries.append(
            JournalEntry(stream=self._name, entry_id=self.mark, kind=kind, at=at, data=dict(data), blob=blob)
        )

    def read(self, *, after: str, count: int) -> Sequence[JournalEntry]:
        """Entries after a position (empty: from the start), in order."""
        return [entry for entry in self._entries if position(entry.entry_id) > position(after)][:count]

    def beyond(self, *, mark: str, count: int) -> BeyondMark:
        """Entries after a position, and whether it is still there."""
        stands = not mark or any(entry.entry_id == mark for entry in self._entries)
        return BeyondMark(stands, self.read(after=mark, count=count))

    def trim(self, *, upto: str) -> None:
        """Forget entries up to and with a position."""
        self._entries = [entry for entry in self._entries if position(entry.entry_id) > position(upto)]
