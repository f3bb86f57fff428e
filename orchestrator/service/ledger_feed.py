"""Carries the journal to the ledger, and on its way settles what the rollouts' keys need to know.

Each entry goes once: the ledger's mark moves in the transaction that writes the entry, the journal is trimmed only
behind the mark. The entry at the mark stays: a journal that still begins with it has lost nothing that the ledger saw,
which a look at what is new proves on the way. What an entry means for a rollout's keys (a slot confirmed, a permit
confirmed, a slot returned because its attempt waits or is over) is done before, and again after a crash: each is
idempotent by attempt.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.ledger import Ledger, LedgerEntry
from orchestrator.model.attempt import AttemptState
from orchestrator.model.ids import AttemptId, RolloutId
from orchestrator.store.base import BeyondMark, JournalEntry, Store
from orchestrator.store.streams import position, rollout_stream

BATCH = 512
ROUNDS_MAX = 2


@dataclass(slots=True)
class Settlement:
    """What a batch of journal entries means for one rollout's keys."""

    reservations: list[AttemptId] = field(default_factory=list)
    permits: list[AttemptId] = field(default_factory=list)
    deferred: dict[AttemptId, int] = field(default_factory=dict)
    """Machine time since which they wait; without those that went on since."""
    released: list[AttemptId] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Look:
    """What the journals hold beyond the ledger's marks, and whether that proves them whole."""

    batches: Mapping[str, Sequence[JournalEntry]]
    """New entries, at most BATCH, by stream; empty ones as well."""
    marks: Mapping[str, str]
    """The ledger's, by stream."""
    proven: bool
    """Whether nothing can be missing from the store; else `gaps` has to say."""


class LedgerFeed:
    """Feeds one ledger from one store. Two feeds at once are harmless: the ledger takes each entry once."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger
        self._dataset_id = ""
        """Of the ledger, once it has one: it never has another."""
        self._streams: Sequence[str] = ()
        """Of the last look."""
        self.waiting = 0
        """Entries that the ledger lacked when it was last fed, or did not take; at most BATCH a stream."""

    async def marks(self) -> Mapping[str, str]:
        """How far the ledger is, by stream.

        Raises:
            orchestrator.ledger.LedgerError: the ledger cannot be read.
        """
        self._dataset_id = self._dataset_id or await self._ledger.dataset_id()
        return await self._ledger.marks()

    async def look(self, marks: Mapping[str, str]) -> Look:
        """Read what is new.

        Args:
            marks: How far the ledger is.

        Raises:
            StoreError: the store did not answer.
        """
        # Those of the last look are read in the round trip in which new ones show.
        dataset_id, streams, known = await asyncio.gather(
            self._store.dataset_id(), self._store.journal_streams(), self._beyond(self._streams, marks)
        )
        self._streams = streams
        found = {**known, **await self._beyond([stream for stream in streams if stream not in known], marks)}
        same = dataset_id == self._dataset_id != "" and marks.keys() <= set(streams)
        return Look(
            batches={stream: beyond.entries for stream, beyond in found.items()},
            marks=marks,
            proven=same and all(beyond.stands for beyond in found.values()),
        )

    async def _beyond(self, streams: Sequence[str], marks: Mapping[str, str]) -> Mapping[str, BeyondMark]:
        return await self._store.journals_beyond({stream: marks.get(stream, "") for stream in streams}, count=BATCH)

    async def run_once(self, look: Look | None = None) -> Mapping[str, int]:
        """Carry what there is, at most ROUNDS_MAX batches a stream; how many entries of each kind were new to the
        ledger.

        Bounded, because whoever judges waits for it: a vehicle that talks without end must not keep the gate from
        looking.

        Args:
            look: What was just read; None reads.

        Raises:
            StoreError: the store did not answer.
            orchestrator.ledger.LedgerError: the ledger did not take them; they stay in the journal.
        """
        carried: Counter[str] = Counter()
        for number in range(ROUNDS_MAX):
            if look is None:
                look = await self.look(await self.marks())
            elif number:
                marks = await self.marks()
                found = await self._beyond(list(look.batches), marks)
                if not all(beyond.stands for beyond in found.values()):
                    break  # Set back between two batches: carried on, the next look would find everything in order.
                look = Look({stream: each.entries for stream, each in found.items()}, marks, proven=False)
            self.waiting = sum(map(len, look.batches.values()))
            carried.update(await self._carry(look))
            full = {stream: batch for stream, batch in look.batches.items() if len(batch) == BATCH}
            if not full:
                self.waiting = 0
                break
            look = Look(full, look.marks, proven=False)
        return carried

    async def _carry(self, look: Look) -> Mapping[str, int]:
        entries = [entry for batch in look.batches.values() for entry in batch]
        if not entries:
            return {}
        await self._settle(entries)
        new = await self._ledger.append([ledger_entry(entry) for entry in entries])
        behind = {
            stream: batch[-2].entry_id if len(batch) > 1 else look.marks.get(stream, "")
            for stream, batch in look.batches.items()
            if batch
        }
        await asyncio.gather(*(self._store.trim_journal(stream, upto=upto) for stream, upto in behind.items() if upto))
        return new

    async def last_decision(self, rollout_id: RolloutId) -> Mapping[str, object]:
        """What the ledger's last decision about a rollout says; empty when it has none.

        Raises:
            orchestrator.ledger.LedgerError: the ledger cannot be read.
        """
        entry = await self._ledger.last_decision(rollout_stream(rollout_id))
        return entry.data if entry else {}

    async def settle_again(self) -> None:
        """Settle what the journal still holds, also what the ledger has: a store that was set back has forgotten what
        followed from it, and a slot whose attempt ended would be held for ever.

        Raises:
            StoreError: the store did not answer.
        """
        for stream in await self._store.journal_streams():
            after = ""
            while batch := await self._store.journal(stream, after=after, count=BATCH):
                await self._settle(batch)
                after = batch[-1].entry_id

    async def accept(self) -> None:
        """Go on with a store that is not proven complete, after every rollout was paused. Not before: a process that
        is killed in between would leave rollouts that run, and nothing that says why they must not.

        Raises:
            StoreError: the store did not answer.
            orchestrator.ledger.LedgerError: the ledger cannot be written.
        """
        await self.settle_again()
        if not await self._ledger.dataset_id():
            await self._ledger.set_dataset_id(await self._store.dataset_id())

    async def _settle(self, entries: Sequence[JournalEntry]) -> None:
        for rollout_id, settlement in settlements(entries).items():
            if settlement.reservations or settlement.permits:
                await self._store.confirm(rollout_id, reservations=settlement.reservations, permits=settlement.permits)
            if settlement.deferred:
                await self._store.suspend(rollout_id, settlement.deferred)
            if settlement.released:
                await self._store.release(rollout_id, settlement.released)

    async def gaps(self) -> Mapping[str, str]:
        """Why the store cannot be proven complete against the ledger, by what is missing; empty when it is complete.

        The same data set must lie below both, and each stream must hold the ledger's mark: one that was set back and
        written on has entries beyond it, but no longer that one. A stream that ends at its mark is whole although the
        entry was trimmed, as earlier builds did; of one that was left so and written on nobody can tell, and it
        is taken for set back. A ledger that is new proves nothing about a store that already has rollouts: it stays new
        until `accept`, so that whoever looks next finds the same.

        Raises:
            StoreError: the store did not answer.
            orchestrator.ledger.LedgerError: the ledger cannot be read.
        """
        dataset_id = await self._store.dataset_id()
        known = await self._ledger.dataset_id()
        if known == "":
            if await self._store.rollouts():
                return {"ledger": "the ledger is new, the store is not"}
            await self._ledger.set_dataset_id(dataset_id)
            return {}
        if known != dataset_id:
            return {"dataset": f"the store holds data set {dataset_id}, the ledger belongs to {known}"}
        marks = await self._ledger.marks()
        found = await self._store.journals_beyond(marks, count=1)
        absent = {stream: marks[stream] for stream, beyond in found.items() if not beyond.stands}
        ends = await asyncio.gather(*(self._store.journal_mark(stream) for stream in absent))
        # Another feed trims behind marks of its own, which it moves first: what it moved since, it has looked at.
        later = await self._ledger.marks() if absent else marks
        return {
            stream: _missing(stream, mark, end)
            for (stream, mark), end in zip(absent.items(), ends, strict=True)
            if end != mark and later[stream] == mark
        }


def _missing(stream: str, mark: str, end: str) -> str:
    """What a stream lacks that ends elsewhere than at the ledger's mark, and does not hold it."""
    if position(end) < position(mark):
        return f"journal {stream} ends at {end or 'nothing'}, the ledger has seen {mark}"
    return f"journal {stream} was written on to {end}, but the last entry that the ledger has seen, {mark}, is gone"


def settlements(entries: Sequence[JournalEntry]) -> dict[RolloutId, Settlement]:
    """What the entries mean, by rollout."""
    found: dict[RolloutId, Settlement] = {}
    for entry in entries:
        if entry.kind not in ("attempt_granted", "attempt_changed", "attempt_corrected"):
            continue
        settlement = found.setdefault(RolloutId(str(entry.data["rollout_id"])), Settlement())
        attempt = AttemptId(str(entry.data["attempt_id"]))
        if entry.kind == "attempt_granted":
            settlement.reservations.append(attempt)
            continue
        state = AttemptState(str(entry.data["to"]))
        settlement.deferred.pop(attempt, None)
        if state is AttemptState.DEFERRED:
            settlement.deferred[attempt] = position(entry.entry_id)[0]
        if state is AttemptState.PERMITTED:
            settlement.permits.append(attempt)
        if state.terminal:
            settlement.released.append(attempt)
    return found


def ledger_entry(entry: JournalEntry) -> LedgerEntry:
    """The journal entry as the ledger keeps it."""
    return LedgerEntry(
        stream=entry.stream,
        entry_id=entry.entry_id,
        kind=entry.kind,
        at=entry.at,
        data=entry.data,
        blob=entry.blob,
    )
