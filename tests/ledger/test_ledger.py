"""The ledger: each entry once, whatever happens; and every change to what was written is found."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from orchestrator.ledger import (
    Ledger,
    LedgerBrokenError,
    LedgerEntry,
    LedgerEntryError,
    LedgerUnavailableError,
)
from orchestrator.ledger.errors import explained


def an_entry(number: int = 1, **changes: object) -> LedgerEntry:
    """An entry on shard 0 at position `number`."""
    entry = LedgerEntry(
        stream="shard/0",
        entry_id=f"1700000000000-{number}",
        kind="attempt_changed",
        at=1_700_000_000_000 + number,
        data={"rollout_id": "spring", "vehicle_id": "v1", "attempt_id": "spring.v1.1", "to": "downloading"},
    )
    return dataclasses.replace(entry, **changes)


def a_change(number: int, vehicle: str, to: str, kind: str = "attempt_changed") -> LedgerEntry:
    data = {"rollout_id": "spring", "vehicle_id": vehicle, "attempt_id": f"spring.{vehicle}.1"}
    return an_entry(number, kind=kind, data=data if kind == "attempt_granted" else {**data, "to": to})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


@pytest.fixture
async def ledger(path: Path) -> AsyncIterator[Ledger]:
    ledger = Ledger(path)
    yield ledger
    await ledger.close()


def tampered(path: Path, *statements: str) -> None:
    """Do to the file what somebody with access to it could: switch the guards off first."""
    with sqlite3.connect(path) as connection:
        for (trigger,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            assert connection.execute(statement).rowcount != 0, "the tampering must hit something"
    connection.close()


async def test_entries_are_written_in_order_with_the_mark(ledger: Ledger):
    """The feed goes on from the mark: it must move with the entries, and come from the highest of each stream."""
    written = await ledger.append(
        [an_entry(1), an_entry(2), an_entry(1, stream="rollout/spring", kind="rollout_created")]
    )
    assert written == {"attempt_changed": 2, "rollout_created": 1}
    assert await ledger.mark("shard/0") == "1700000000000-2"
    assert await ledger.marks() == {"shard/0": "1700000000000-2", "rollout/spring": "1700000000000-1"}
    assert await ledger.mark("shard/1") == ""
    report = await ledger.verify()
    assert (report.ok, report.entries, report.reason) == (True, 3, "")


async def test_positions_compare_as_numbers(ledger: Ledger):
    """As text, ...-9 would come after ...-10 and the feed would start over from there."""
    await ledger.append([an_entry(9), an_entry(10)])
    assert await ledger.mark("shard/0") == "1700000000000-10"


async def test_a_repeated_feed_changes_nothing(ledger: Ledger):
    """After a doubtful answer the feed sends the batch again, with what has come since."""
    await ledger.append([an_entry(1), an_entry(2)])
    before = await ledger.verify()
    assert await ledger.append([an_entry(1), an_entry(2)]) == {}
    assert await ledger.verify() == before
    assert await ledger.append([an_entry(2), an_entry(3), an_entry(3)]) == {"attempt_changed": 1}
    assert (await ledger.verify()).entries == 3


async def test_an_entry_that_comes_late_is_not_lost(ledger: Ledger):
    """A position below the mark that is not there yet is written, and the mark stays where it is."""
    await ledger.append([an_entry(5)])
    assert await ledger.append([an_entry(3)]) == {"attempt_changed": 1}
    assert await ledger.mark("shard/0") == "1700000000000-5"


async def test_another_entry_in_a_taken_place_is_refused(ledger: Ledger):
    """A store that was set back to an old copy writes new entries at old positions: history must not be guessed."""
    await ledger.append([an_entry(1), an_entry(2)])
    with pytest.raises(LedgerBrokenError, match="set back to an earlier state"):
        await ledger.append([an_entry(3), an_entry(2, kind="attempt_corrected")])
    assert (await ledger.verify()).entries == 2


async def test_two_writers_write_each_entry_once(ledger: Ledger, path: Path):
    """A second evaluator, on this machine or left over from a restart, is harmless."""
    other = Ledger(path)
    entries = [an_entry(number) for number in range(1, 201)]
    batches = [entries[start : start + 20] for start in range(0, 200, 20)]

    async def feed(target: Ledger) -> int:
        return sum([(await target.append(batch)).get("attempt_changed", 0) for batch in batches])

    written = await asyncio.gather(feed(ledger), feed(other))
    assert sum(written) == 200
    report = await other.verify()
    assert (report.ok, report.entries) == (True, 200)
    await other.close()


async def test_a_batch_with_a_bad_entry_is_refused_as_a_whole(ledger: Ledger):
    """Half a batch with a mark behind it would be a hole nobody finds."""
    for bad in (
        an_entry(2, entry_id=""),
        an_entry(2, entry_id="17-x"),
        an_entry(2, kind=""),
        an_entry(2, data={"ratio": float("nan")}),
        an_entry(2, data={"raw": b"bytes"}),
        an_entry(2, data={"rollout_id": 7}),
    ):
        with pytest.raises(LedgerEntryError):
            await ledger.append([an_entry(1), bad])
    assert await ledger.marks() == {}
    assert (await ledger.verify()).entries == 0


async def test_appending_nothing_is_nothing(ledger: Ledger):
    """The feed asks often; most of the time nothing has happened."""
    assert await ledger.append([]) == {}


@pytest.mark.parametrize(
    ("statement", "broken", "told"),
    [
        ("UPDATE entries SET data = replace(data, 'failed', 'succeeded') WHERE seq = 3", 3, "row 3 (shard/0 17"),
        ("UPDATE entries SET blob = x'00' WHERE seq = 2", 2, "was changed after it was written"),
        ("UPDATE entries SET at = at + 1 WHERE seq = 1", 1, "was changed after it was written"),
        ("UPDATE entries SET vehicle_id = 'v9' WHERE seq = 4", 4, "was changed after it was written"),
        ("UPDATE entries SET hash = zeroblob(32) WHERE seq = 2", 2, "was changed after it was written"),
        ("UPDATE entries SET prev_hash = zeroblob(32) WHERE seq = 2", 2, "does not follow the row before"),
        ("DELETE FROM entries WHERE seq = 3", 3, "row 3 is missing, row 4 follows"),
        ("DELETE FROM entries WHERE seq = 5", 5, "the chain ends at 4, the last append ended at 5"),
        ("UPDATE meta SET value = 'x' WHERE name = 'head_seq'", 0, "the last append ended at -1"),
    ],
)
async def test_tampering_is_found_at_the_first_row_it_touched(path: Path, statement: str, broken: int, told: str):
    """Evidence that can be rewritten unseen is none."""
    ledger = Ledger(path)
    await ledger.append([a_change(number, "v1", "failed") for number in range(1, 6)])
    tampered(path, statement)
    report = await ledger.verify()
    assert not report.ok
    assert report.broken_seq == broken
    assert told in report.reason
    await ledger.close()


async def test_a_ledger_whose_end_was_removed_takes_nothing_more(path: Path):
    """Going on after a cut would hide it: the chain would look whole again."""
    ledger = Ledger(path)
    await ledger.append([an_entry(1), an_entry(2)])
    tampered(path, "DELETE FROM entries WHERE seq = 2")
    with pytest.raises(LedgerBrokenError, match=r"its end \(1\) is not the one that was written \(2\)"):
        await ledger.append([an_entry(3)])
    await ledger.close()


async def test_a_rewritten_chain_has_another_head(tmp_path: Path):
    """Whoever recomputes every hash cannot keep the head that was noted elsewhere."""
    heads = []
    for name, to in (("a", "failed"), ("b", "succeeded")):
        ledger = Ledger(tmp_path / name)
        await ledger.append([a_change(1, "v1", to), a_change(2, "v2", "failed")])
        heads.append((await ledger.verify()).head_hash)
        await ledger.close()
    assert heads[0] != heads[1]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET kind = 'x'",
        "DELETE FROM entries",
        "DELETE FROM marks",
        "INSERT OR REPLACE INTO entries SELECT * FROM entries WHERE seq = 1",
    ],
)
async def test_the_file_itself_refuses_changes(ledger: Ledger, path: Path, statement: str):
    """An administrator's slip in the SQL shell must not break the chain."""
    await ledger.append([an_entry(1)])
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    connection.close()
    assert (await ledger.verify()).ok


async def test_outcomes_are_the_latest_state_of_each_attempt(ledger: Ledger):
    """What the ledger replays must equal what the store counts, corrections and late entries included."""
    await ledger.append(
        [
            a_change(1, "v1", "", kind="attempt_granted"),
            a_change(2, "v2", "", kind="attempt_granted"),
            a_change(3, "v3", "", kind="attempt_granted"),
            a_change(4, "v1", "permitted"),
            a_change(10, "v1", "timed_out"),
            a_change(9, "v1", "installing"),
            a_change(11, "v2", "failed"),
            a_change(12, "v2", "rolled_back", kind="attempt_corrected"),
            a_change(13, "v3", "ignored", kind="event_ignored"),
            an_entry(
                14, data={"rollout_id": "autumn", "vehicle_id": "v1", "attempt_id": "autumn.v1.1", "to": "failed"}
            ),
        ]
    )
    assert await ledger.attempt_states("spring") == {
        "spring.v1.1": "timed_out",
        "spring.v2.1": "rolled_back",
        "spring.v3.1": "offered",
    }
    assert await ledger.outcomes("spring") == {"timed_out": 1, "rolled_back": 1, "offered": 1}
    assert await ledger.outcomes("winter") == {}


async def test_a_rollouts_story_leaves_single_vehicles_out(ledger: Ledger):
    """Who asks why a rollout stopped wants its twenty decisions, not a million attempts."""
    told = {"rollout_id": "spring", "actor": "alice", "reason": "go", "numbers": [1, 2.5, None, True, {"a": "ü"}]}
    story = [
        an_entry(1, stream="rollout/spring", kind="rollout_created", data=told),
        an_entry(2, stream="rollout/spring", kind="rollout_changed", data={"rollout_id": "spring", "actor": "gate"}),
    ]
    other = an_entry(1, stream="rollout/autumn", kind="rollout_created", data={"rollout_id": "autumn"})
    await ledger.append([story[0], an_entry(1), other, story[1]])
    assert [recorded.entry for recorded in await ledger.rollout_story("spring")] == story


async def test_a_vehicles_history_has_its_manifests(ledger: Ledger):
    """A manifest is evidence: it comes back byte for byte."""
    manifest = an_entry(2, kind="manifest_accepted", data={"vehicle_id": "v1"}, blob=bytes(range(256)))
    await ledger.append([an_entry(1), a_change(3, "v2", "failed"), manifest])
    assert [recorded.entry for recorded in await ledger.vehicle_history("v1")] == [an_entry(1), manifest]
    assert [recorded.seq for recorded in await ledger.vehicle_history("v1")] == [1, 3]


async def test_a_ledger_belongs_to_one_data_set(ledger: Ledger):
    """Feeding a second store into it would mix two histories."""
    assert await ledger.dataset_id() == ""
    await ledger.set_dataset_id("one")
    await ledger.set_dataset_id("one")
    with pytest.raises(LedgerBrokenError, match="belongs to data set one, not to two"):
        await ledger.set_dataset_id("two")
    assert await ledger.dataset_id() == "one"


async def test_everything_is_there_after_reopening(path: Path):
    """The ledger is what remains when all else is gone."""
    first = Ledger(path)
    await first.append([an_entry(1), an_entry(2)])
    head = await first.verify()
    await first.close()
    second = Ledger(path)
    assert await second.verify() == head
    assert await second.append([an_entry(2), an_entry(3)]) == {"attempt_changed": 1}
    await second.close()


async def test_only_its_owner_can_read_the_file(ledger: Ledger, path: Path):
    """It names operators and holds manifests."""
    await ledger.append([an_entry(1)])
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name


def _nothing(path: Path) -> None:
    """Leave the place empty."""


def _text(path: Path) -> None:
    path.write_text("this is not a database, but long enough to look at" * 30)


def _foreign(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.commit()
    connection.close()


def _newer(path: Path) -> None:
    asyncio.run(Ledger(path).close())
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


@pytest.mark.parametrize(
    ("prepare", "name", "told"),
    [
        (_text, "ledger.sqlite3", "this is not a ledger"),
        (_foreign, "ledger.sqlite3", "another program's database"),
        (_newer, "ledger.sqlite3", "tables of version 99, this Outrider knows 1"),
        (_nothing, "no/such/folder/ledger.sqlite3", "see to it that the folder exists"),
    ],
)
def test_a_file_that_cannot_be_a_ledger_is_refused_with_the_remedy(
    tmp_path: Path, prepare: Callable[[Path], None], name: str, told: str
):
    """The message names the file and says what to do; the file is left as it was."""
    path = tmp_path / name
    prepare(path)
    before = path.read_bytes() if path.exists() else b""
    with pytest.raises(LedgerBrokenError, match=told) as refused:
        Ledger(path)
    assert str(path) in str(refused.value)
    assert (path.read_bytes() if path.exists() else b"") == before


async def test_a_damaged_file_is_told_apart_from_a_busy_one(path: Path):
    """One needs a backup, the other a moment."""
    ledger = Ledger(path)
    await ledger.append([an_entry(number, blob=b"x" * 3000) for number in range(1, 60)])
    await ledger.close()
    _damage(path)
    damaged = Ledger(path)
    with pytest.raises(LedgerBrokenError, match="restore the last backup"):
        await damaged.append([an_entry(100)])
    await damaged.close()


def _damage(path: Path) -> None:
    """Overwrite all pages but the first two."""
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xaa" * (len(content) - 8192)
    path.write_bytes(content)


async def test_a_busy_ledger_asks_to_try_again(path: Path):
    """Another process in the middle of a long write is no reason to stop the service."""
    ledger = Ledger(path, busy_timeout_s=0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerUnavailableError, match="another process holds it"):
        await ledger.append([an_entry(1)])
    other.execute("ROLLBACK")
    other.close()
    assert await ledger.append([an_entry(1)]) == {"attempt_changed": 1}
    await ledger.close()


FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from orchestrator.ledger import Ledger, LedgerEntry, LedgerUnavailableError

async def main():
    ledger = Ledger(Path(sys.argv[1]))
    entries = [LedgerEntry("shard/0", f"1-{n}", "k", n, {"text": "x" * 2000}) for n in range(1, 201)]
    await ledger.append(entries[:2])
    before = await ledger.verify()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))
    try:
        await ledger.append(entries)
    except LedgerUnavailableError as exc:
        print("refused", exc)
    assert await ledger.verify() == before
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    print(dict(await ledger.append(entries)), (await ledger.verify()).ok)
    await ledger.close()

asyncio.run(main())
"""


@pytest.mark.processes
def test_a_disk_that_takes_no_more_loses_nothing(path: Path):
    """The batch stays whole: none of it now, all of it when there is room again."""
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    refused, repeated = done.stdout.splitlines()
    assert refused.startswith(f"refused ledger {path}: ")
    assert repeated == "{'k': 198} True"


FEED = """
import asyncio, sys
from pathlib import Path
from orchestrator.ledger import Ledger, LedgerEntry

async def main():
    ledger = Ledger(Path(sys.argv[1]))
    mark = int((await ledger.mark("shard/0") or "1-0").partition("-")[2])
    while True:
        first = max(1, mark - 3)
        await ledger.append([LedgerEntry("shard/0", f"1-{n}", "k", n, {"n": n}) for n in range(first, mark + 41)])
        mark += 40
        print(mark, flush=True)

asyncio.run(main())
"""


@pytest.mark.processes
async def test_kill_9_in_the_middle_of_appends_leaves_a_valid_chain(path: Path):
    """What was acknowledged is there, what was not is whole or absent, and the feed goes on from the mark."""
    for acknowledgements in (1, 7, 30):
        acknowledged = _feed_and_kill(path, acknowledgements)
        ledger = Ledger(path)
        report = await ledger.verify()
        assert report.ok, report.reason
        assert report.entries >= acknowledged
        assert report.entries % 40 == 0
        assert await ledger.mark("shard/0") == f"1-{report.entries}"
        await ledger.close()


def _feed_and_kill(path: Path, acknowledgements: int) -> int:
    """Run a feeder until it has told of so many batches, then kill it at once; the last number it told."""
    feeder = subprocess.Popen([sys.executable, "-c", FEED, str(path)], stdout=subprocess.PIPE, text=True)
    assert feeder.stdout is not None
    told = [int(feeder.stdout.readline()) for _ in range(acknowledgements)]
    feeder.send_signal(signal.SIGKILL)
    feeder.wait(30)
    feeder.stdout.close()
    return told[-1]


def test_a_full_disk_is_named_as_such(tmp_path: Path):
    """SQLite's own word for it is "database or disk is full": the remedy must be ours."""
    with pytest.raises(LedgerUnavailableError, match="the disk is full; free some space"):
        _fill(tmp_path / "small.sqlite3")


def _fill(path: Path) -> None:
    """Write more into a database than it may hold."""
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA max_page_count = 2")
        with explained(path):
            connection.execute("CREATE TABLE big AS SELECT zeroblob(100000)")
    finally:
        connection.close()
