"""The ledger on PostgreSQL: what is wrong with a server or an address is said with its remedy, and passes by itself."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import psycopg
import pytest

from orchestrator.ledger import (
    Archiving,
    EntryFilter,
    Ledger,
    LedgerBrokenError,
    LedgerReader,
    LedgerUnavailableError,
    archive_ledger,
    database,
)
from tests.ledger.entries import an_entry
from tests.ledger.places import Place
from tests.ledger.test_heads import Key
from tests.postgres_server import PostgresServer


def test_a_server_that_is_not_there_is_told_with_its_address_and_no_password(tmp_path: Path):
    """The message goes into tickets; the supervisor says it and ends."""
    url = f"postgresql://outrider:hunter2@/ledger?host={tmp_path}"
    with pytest.raises(LedgerUnavailableError, match="start the server, or correct ledger_url") as refused:
        Ledger(url)
    assert str(tmp_path) in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_an_address_that_is_none_is_told(tmp_path: Path):
    """A slip in the settings file must not look like a server that is down."""
    with pytest.raises(LedgerBrokenError, match="write postgresql://USER:PASSWORD@HOST") as refused:
        LedgerReader("postgresql://outrider:hunter2@host:port/ledger?nonsense=hunter2")
    assert "hunter2" not in str(refused.value)


def test_a_wrong_password_a_missing_database_and_a_missing_right_are_told_apart(postgres: PostgresServer):
    """Each needs another person: who knows the password, or who runs the server."""
    database_url = postgres.a_database()
    with psycopg.connect(database_url, autocommit=True) as owner:
        for name in ("guest", "reader"):
            owner.execute(f"DROP ROLE IF EXISTS {name}".encode())
        owner.execute("CREATE ROLE guest LOGIN PASSWORD 'right'")
        owner.execute("CREATE ROLE reader LOGIN PASSWORD 'right'")
    postgres.require_passwords()
    guest = database_url.replace("//outrider@", "//guest:hunter2@")
    with pytest.raises(LedgerBrokenError, match="check user and password in ledger_url") as refused:
        Ledger(guest)
    assert "hunter2" not in str(refused.value)
    with pytest.raises(LedgerBrokenError, match="check user and password"):
        Ledger(database_url.replace("//outrider@", "//nobody:x@"))
    with pytest.raises(LedgerBrokenError, match="make it: createdb"):
        Ledger(postgres.url("nowhere"))
    with pytest.raises(LedgerBrokenError, match="grant it CREATE on the database"):
        Ledger(guest.replace("hunter2", "right"))


async def test_tables_of_a_newer_outrider_are_refused(postgres: PostgresServer):
    """What a newer one wrote, this one could only damage."""
    url = postgres.a_database()
    await Ledger(url).close()
    with psycopg.connect(url) as owner:
        owner.execute("UPDATE outrider_ledger.meta SET value = '99' WHERE name = 'version'")
    for opened in (Ledger, LedgerReader):
        with pytest.raises(LedgerBrokenError, match="tables of version 99, this Outrider knows 3"):
            await opened(url).entries(EntryFilter(), after=0, count=1)  # type: ignore[union-attr]


async def test_a_reader_waits_for_tables_and_can_write_nothing(postgres: PostgresServer):
    """A worker that could change the ledger could forge it; and it may be up before the supervisor made it."""
    url = postgres.a_database()
    reader = LedgerReader(url)
    with pytest.raises(LedgerUnavailableError, match="no tables yet"):
        await reader.entries(EntryFilter(), after=0, count=1)
    ledger = Ledger(url)
    await ledger.append([an_entry(1)])
    assert [item.entry for item in await reader.entries(EntryFilter(), after=0, count=9)] == [an_entry(1)]
    assert reader._connection is not None
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        reader._connection.run("UPDATE meta SET value = 'x'")
    await reader.close()
    await ledger.close()


async def test_a_busy_ledger_asks_to_try_again(postgres: PostgresServer):
    """Another writer that does not end is no reason to stop the service."""
    url = postgres.a_database()
    ledger = Ledger(url, busy_timeout_s=0.05)
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE outrider_ledger.marks IN EXCLUSIVE MODE")
        with pytest.raises(LedgerUnavailableError, match="another process holds it"):
            await ledger.append([an_entry(1)])
    assert await ledger.append([an_entry(1)]) == {"attempt_changed": 1}
    await ledger.close()


@pytest.mark.processes
async def test_a_server_that_dies_is_waited_for(postgres: PostgresServer):
    """It is killed in the middle of the night and comes back: the next try after that goes on where it was."""
    url = postgres.a_database()
    ledger = Ledger(url)
    await ledger.append([an_entry(1)])
    postgres.stop(signal.SIGQUIT)
    for _ in range(2):
        with pytest.raises(LedgerUnavailableError, match="start the server"):
            await ledger.append([an_entry(2)])
    postgres.start("fsync=on")
    assert await ledger.append([an_entry(1), an_entry(2)]) == {"attempt_changed": 1}
    assert (await ledger.verify()).entries == 2
    await ledger.close()


@pytest.mark.processes
async def test_a_server_that_forgets_what_it_acknowledged_is_refused(postgres: PostgresServer):
    """The journal is trimmed on its word."""
    url = postgres.a_database()
    postgres.restart("fsync=off")
    try:
        with pytest.raises(LedgerBrokenError, match=r"fsync = off .*; set fsync = on in postgresql.conf"):
            Ledger(url)
    finally:
        postgres.restart("fsync=on")
    await Ledger(url).close()


def test_a_missing_driver_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch):
    """It is an extra: most installations never need it."""
    monkeypatch.delitem(sys.modules, "orchestrator.ledger.postgres", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(LedgerBrokenError, match=r"pip install 'outrider\[postgres\]'"):
        database.database_at("postgresql://x/y", busy_timeout_s=1.0)


async def test_two_that_make_the_tables_at_once_make_them_once(postgres: PostgresServer):
    """Two supervisors may be started on one database in the same second."""
    url = postgres.a_database()
    opened = await asyncio.gather(*(asyncio.to_thread(Ledger, url) for _ in range(4)))
    for ledger in opened:
        await ledger.close()


async def test_a_database_from_before_archives_is_brought_along(postgres: PostgresServer, tmp_path: Path) -> None:
    """What is there stays, its guards are replaced, and its oldest entries may leave."""
    url = postgres.a_database()
    ledger = Ledger(url)
    await ledger.set_dataset_id("one")
    await ledger.append([an_entry(1), an_entry(2)])
    await ledger.close()
    Place(url).as_owner(
        "DROP FUNCTION when_archived() CASCADE",
        "DROP FUNCTION archived_seq() CASCADE",
        "DROP TRIGGER entries_are_not_truncated ON entries",
        "CREATE TRIGGER entries_are_not_removed BEFORE DELETE OR TRUNCATE ON entries "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse('removed')",
        "UPDATE meta SET value = '2' WHERE name = 'version'",
    )
    with pytest.raises(LedgerUnavailableError):
        await LedgerReader(url).archived()
    ledger = Ledger(url)
    archive_ledger(url, tmp_path / "1.jsonl", Archiving(an_entry(2).at, "ada", "old"), Key())
    assert (await ledger.verify()).archived == 1
    with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
        Place(url).as_owner("DELETE FROM entries WHERE seq = 2")
    await ledger.close()
