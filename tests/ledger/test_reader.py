"""Reading the ledger beside its writer: pages in order, by index, and never a byte written."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from pathlib import Path

import pytest

from orchestrator.ledger import (
    EntryFilter,
    Ledger,
    LedgerBrokenError,
    LedgerReader,
    LedgerUnavailableError,
)
from tests.ledger.entries import a_decision, an_entry

WRITES = """
import asyncio, sys
from pathlib import Path
from orchestrator.ledger import Ledger
from tests.ledger.entries import a_decision, an_entry

async def write():
    ledger = Ledger(Path(sys.argv[1]))
    for number in range(1, 4):
        await ledger.append([an_entry(number)])
        print(number, flush=True)
        sys.stdin.readline()
    await ledger.close()

asyncio.run(write())
"""


@pytest.fixture
async def reader(tmp_path: Path) -> LedgerReader:
    """A reader of a ledger with two decisions among what two vehicles did, for two rollouts."""
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    about = {"rollout_id": "spring", "vehicle_id": "v2", "attempt_id": "spring.v2.1", "to": "downloading"}
    await ledger.append([a_decision(1), an_entry(2), an_entry(3, data=about)])
    await ledger.append([an_entry(4), a_decision(5), a_decision(6, "autumn")])
    await ledger.close()
    return LedgerReader(tmp_path / "ledger.sqlite3")


@pytest.mark.parametrize(
    ("wanted", "places"),
    [
        (EntryFilter(), [1, 2, 3, 4, 5, 6]),
        (EntryFilter(rollout_id="spring"), [1, 2, 3, 4, 5]),
        (EntryFilter(rollout_id="spring", decisions_only=True), [1, 5]),
        (EntryFilter(decisions_only=True), [1, 5, 6]),
        (EntryFilter(vehicle_id="v1"), [2, 4]),
        (EntryFilter(rollout_id="autumn", vehicle_id="v1"), []),
        (EntryFilter(vehicle_id="v2", attempt_id="spring.v2.1"), [3]),
    ],
)
async def test_filters_and_pages_give_every_entry_once(
    reader: LedgerReader, wanted: EntryFilter, places: list[int]
) -> None:
    """All that is given must hold; pages of one entry give what one page gives."""
    assert [item.seq for item in await reader.entries(wanted, after=0, count=100)] == places
    paged: list[int] = []
    while page := await reader.entries(wanted, after=paged[-1] if paged else 0, count=1):
        paged += [item.seq for item in page]
    assert paged == places
    await reader.close()


async def test_entries_are_seen_as_another_process_writes_them(tmp_path: Path) -> None:
    """The worker answers from a file that the supervisor writes; its leaving must not disturb the writer either."""
    path = tmp_path / "ledger.sqlite3"
    writer = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WRITES, str(path)), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert writer.stdin is not None
    assert writer.stdout is not None
    for number in (1, 2, 3):
        assert await writer.stdout.readline() == f"{number}\n".encode()
        reader = LedgerReader(path)
        assert len(await reader.entries(EntryFilter(), after=0, count=10)) == number
        await reader.close()
        writer.stdin.write(b"\n")
        await writer.stdin.drain()
    assert await writer.wait() == 0
    assert (await Ledger(path).verify()).entries == 3


async def test_reader_writes_nothing_and_makes_no_file(tmp_path: Path) -> None:
    """A worker that could make or change a ledger could forge one; a missing one may appear later."""
    reader = LedgerReader(tmp_path / "ledger.sqlite3")
    with pytest.raises(LedgerUnavailableError, match="none yet"):
        await reader.entries(EntryFilter(), after=0, count=1)
    assert os.listdir(tmp_path) == []
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    await ledger.append([an_entry(1)])
    [found] = await reader.entries(EntryFilter(), after=0, count=10)
    assert found.entry == an_entry(1)
    assert reader._connection is not None
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._connection.run("DELETE FROM marks")
    await reader.close()
    await ledger.close()


async def test_foreign_file_is_refused(tmp_path: Path) -> None:
    """Pointing at another program's database must not look like an empty story."""
    path = tmp_path / "ledger.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE other (x)")
    with pytest.raises(LedgerBrokenError, match="another program"):
        await LedgerReader(path).entries(EntryFilter(), after=0, count=1)
