"""What falls due on one shard in memory, and when."""

from __future__ import annotations

import heapq

from orchestrator.model.ids import FleetTime


class DueSet:
    """Members at fleet times; of two times of one member the later said one counts."""

    def __init__(self) -> None:
        self._due: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []
        """Entries that differ from `_due` are void."""

    def schedule(self, member: str, at: int | None) -> None:
        """Let a member fall due at a time; None: never."""
        if at is None:
            self._due.pop(member, None)
        else:
            self._due[member] = at
            heapq.heappush(self._heap, (at, member))

    def hasten(self, member: str, at: int) -> None:
        """Let a member that is to fall due do so by a time."""
        if at < self._due.get(member, at):
            self.schedule(member, at)

    def take(self, now: FleetTime, most: int) -> list[str]:
        """Take out what is due, earliest first."""
        due: list[str] = []
        while self._heap and self._heap[0][0] <= now and len(due) < most:
            at, member = heapq.heappop(self._heap)
            if self._due.get(member) == at:
                del self._due[member]
                due.append(member)
        return due
