"""A ledger in memory that outlives evaluators and can be out of reach; takes each entry once, as the real one does.

The real ledger is SQLite in threads of its own: its chain and its transactions have tests of their own, and threads
would not be the same twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from orchestrator.ledger import LedgerEntry, LedgerError
from orchestrator.ledger.entry import canonical, position
from tests.sim.process import Process


class Record:
    """What stands in the ledger."""

    def __init__(self) -> None:
        self.entries: dict[str, dict[str, LedgerEntry]] = {}
        """By stream and position."""
        self.marks: dict[str, str] = {}
        self.dataset_id = ""
        self.away = False
        """Whether it does not answer just now."""


class LedgerWindow:
    """The ledger as one process reaches it.

    Args:
        record: the one all processes share.
        process: whose window it is.
    """

    def __init__(self, record: Record, process: Process) -> None:
        self._record = record
        self._process = process

    async def append(self, entries: Sequence[LedgerEntry]) -> Mapping[str, int]:
        """See `orchestrator.ledger.Ledger`."""
        await self._step()
        new: Counter[str] = Counter()
        for entry in entries:
            stream = self._record.entries.setdefault(entry.stream, {})
            standing = stream.get(entry.entry_id)
            if standing is not None:
                # The real one says that it is broken, and nothing is judged any more.
                assert standing == entry, f"{entry.entry_id} of {entry.stream} is recorded as {standing}, not {entry}"
                continue
            canonical(dict(entry.data))
            stream[entry.entry_id] = entry
            mark = self._record.marks.get(entry.stream, "0-0")
            self._record.marks[entry.stream] = max(mark, entry.entry_id, key=position)
            new[entry.kind] += 1
        await self._step()
        return new

    async def marks(self) -> Mapping[str, str]:
        """See `orchestrator.ledger.Ledger`."""
        await self._step()
        return dict(self._record.marks)

    async def last_decision(self, stream: str) -> LedgerEntry | None:
        """See `orchestrator.ledger.Ledger`."""
        await self._step()
        decided = (entry for entry in self._record.entries.get(stream, {}).values() if entry.kind != "counter_repaired")
        return max(decided, key=lambda entry: position(entry.entry_id), default=None)

    async def dataset_id(self) -> str:
        """See `orchestrator.ledger.Ledger`."""
        await self._step()
        return self._record.dataset_id

    async def set_dataset_id(self, dataset_id: str) -> None:
        """See `orchestrator.ledger.Ledger`."""
        await self._step()
        self._record.dataset_id = dataset_id

    async def _step(self) -> None:
        await self._process.elsewhere()
        if self._record.away:
            raise LedgerError("the ledger does not answer")
