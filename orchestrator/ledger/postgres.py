"""The ledger in a PostgreSQL database: tables, their guards, the durability of a connection, and the words of errors.

Everything lies in a schema of its own, so that the database may be shared with whatever else is there. A connection
that was lost is opened again at the next use. Leaves to `ledger` what is written and read. Imported only where a URL
asks for it: the driver is an extra.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, LiteralString

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from orchestrator.ledger.errors import LedgerBrokenError, LedgerUnavailableError

SCHEMA = "outrider_ledger"
LOCK = 0x4F545244
"""`OTRD`: the advisory lock under which tables are made."""
CONNECT_TIMEOUT_S = 5
ROWS_AT_ONCE = 2000
UNACKNOWLEDGED_MS_MAX = 10_000
"""How long sent bytes may go without an acknowledgement before a connection counts as lost."""

# As in `sqlite`, with the version of the tables in `meta`. TRUNCATE would pass by the guard of rows.
TABLES = """
CREATE TABLE entries (
  seq bigint PRIMARY KEY,
  stream text NOT NULL,
  entry_id text NOT NULL,
  kind text NOT NULL,
  at bigint NOT NULL,
  rollout_id text NOT NULL,
  vehicle_id text NOT NULL,
  attempt_id text NOT NULL,
  data text NOT NULL,
  blob bytea NOT NULL,
  prev_hash bytea NOT NULL,
  hash bytea NOT NULL,
  UNIQUE (stream, entry_id)
);
CREATE INDEX entries_by_vehicle ON entries (vehicle_id, seq) WHERE vehicle_id <> '';
CREATE INDEX entries_by_rollout ON entries (rollout_id, seq) WHERE rollout_id <> '';
CREATE INDEX decisions_by_rollout ON entries (rollout_id, seq) WHERE rollout_id <> '' AND vehicle_id = '';
CREATE TABLE marks (stream text PRIMARY KEY, entry_id text NOT NULL);
CREATE TABLE meta (name text PRIMARY KEY, value text NOT NULL);
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN RAISE EXCEPTION 'the ledger is append-only: % are not %', TG_TABLE_NAME, TG_ARGV[0]; END $$;
CREATE TRIGGER entries_are_not_changed BEFORE UPDATE ON entries
  FOR EACH STATEMENT EXECUTE FUNCTION refuse('changed');
CREATE TRIGGER marks_are_not_removed BEFORE DELETE OR TRUNCATE ON marks
  FOR EACH STATEMENT EXECUTE FUNCTION refuse('removed');
"""

# As in `sqlite`: only what is noted as archived may be removed, and the first entry follows it.
FROM_2_TO_3 = """
CREATE FUNCTION archived_seq() RETURNS bigint LANGUAGE sql STABLE AS
  $$ SELECT coalesce((SELECT value::bigint FROM meta WHERE name = 'archived_seq'), 0) $$;
CREATE FUNCTION when_archived() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    IF OLD.seq > archived_seq() THEN
      RAISE EXCEPTION 'the ledger is append-only: entries are not removed';
    END IF;
    RETURN OLD;
  END $$;
CREATE OR REPLACE FUNCTION at_the_end() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    IF NEW.seq <> 1 + coalesce((SELECT max(seq) FROM entries), archived_seq()) THEN
      RAISE EXCEPTION 'the ledger is append-only: entries are added at the end';
    END IF;
    RETURN NEW;
  END $$;
DROP TRIGGER IF EXISTS entries_are_not_removed ON entries;
DROP TRIGGER IF EXISTS entries_are_added_at_the_end ON entries;
CREATE TRIGGER entries_are_not_truncated BEFORE TRUNCATE ON entries
  FOR EACH STATEMENT EXECUTE FUNCTION refuse('removed');
CREATE TRIGGER entries_are_not_removed BEFORE DELETE ON entries
  FOR EACH ROW EXECUTE FUNCTION when_archived();
CREATE TRIGGER entries_are_added_at_the_end BEFORE INSERT ON entries
  FOR EACH ROW EXECUTE FUNCTION at_the_end();
"""

_LATER = {
    "53": "it has no room or no connection left; free some, what was not written stays in the journal",
    "55": "another process holds it for writing; if this lasts, look at pg_stat_activity",
    "40": "another process was in the way; try again",
    "57": "the server is being stopped or started; try again",
    "08": "the connection was lost; what was not written stays in the journal",
    "25": "this server only reads, as a standby does; let ledger_url name the primary",
}
_NEVER = {
    "28": "the server refuses this user; check user and password in ledger_url, and the server's pg_hba.conf",
    "3D": "there is no such database; make it: createdb",
    "42501": "this user may not; grant it CREATE on the database, and what is in schema outrider_ledger",
    "XX": "the database is damaged; stop, keep a copy for evidence and restore the last backup",
}
# A server that refuses to connect says so in text alone, in words that depend on its language for all but these.
_REFUSED = (
    ("authentication", "28"),
    ("no pg_hba.conf entry", "28"),
    ("role", "28"),
    ("no password supplied", "28"),
    ("database", "3D"),
)


class PostgresConnection:
    """One connection, opened again when it was lost.

    Args:
        connect: gives an open one, ready for use.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[tuple[Any, ...]]]) -> None:
        self._connect = connect
        self._connection = connect()
        self._cursors = count()

    def rows(self, query: str, values: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        """All rows at once."""
        return iter(self._live().execute(_query(query), values).fetchall())

    def stream(self, query: str, values: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        """Rows by a cursor on the server, which ends with the snapshot."""
        cursor = self._connection.cursor(name=f"rows_{next(self._cursors)}")
        cursor.itersize = ROWS_AT_ONCE
        return iter(cursor.execute(_query(query), values))

    def run(self, statement: str, values: Sequence[object] = ()) -> None:
        """One statement."""
        self._live().execute(_query(statement), values)

    def run_many(self, statement: str, values: Iterable[Sequence[object]]) -> None:
        """One statement, many times, without waiting for each."""
        with self._live().cursor() as cursor:
            cursor.executemany(_query(statement), values)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction under a lock that shuts out other writers and no reader."""
        with self._between("BEGIN"):
            self._connection.execute("LOCK TABLE marks IN EXCLUSIVE MODE")
            yield

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """One reading transaction that sees nothing of later commits."""
        with self._between("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"):
            yield

    def close(self) -> None:
        """Let go of it."""
        self._connection.close()

    @contextmanager
    def _between(self, begin: LiteralString) -> Iterator[None]:
        connection = self._live()
        connection.execute(begin)
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if not connection.closed:
                connection.rollback()
            raise

    def _live(self) -> psycopg.Connection[tuple[Any, ...]]:
        """The connection; outside a transaction, one that answers."""
        if self._connection.info.transaction_status is TransactionStatus.IDLE:
            try:
                self._connection.execute("")
            except psycopg.OperationalError:
                self._connection.close()
        if self._connection.closed:
            self._connection = self._connect()
        return self._connection


class PostgresDatabase:
    """A database by URL.

    Args:
        url: `postgresql://user:password@host:port/database`, with libpq's parameters after a `?`.
        version: of the tables.
        busy_timeout_s: how long to wait for another writer.

    Raises:
        LedgerBrokenError: the URL cannot be read.
    """

    def __init__(self, url: str, version: int, *, busy_timeout_s: float) -> None:
        self._url = url
        self._version = version
        self._lock_timeout_ms = max(1, round(busy_timeout_s * 1000))
        try:
            self._name = _told(url)
        except psycopg.Error as exc:
            remedy = "write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with special characters as %XX"
            raise LedgerBrokenError(f"ledger: ledger_url cannot be read; {remedy}") from exc

    @property
    def name(self) -> str:
        """The database, without the password."""
        return self._name

    def open(self) -> PostgresConnection:
        """For writing; makes schema and tables, or brings them to this version.

        Raises:
            LedgerBrokenError: a newer Outrider's, or a server that would lose what it acknowledged.
            psycopg.Error: anything else.
        """
        return PostgresConnection(lambda: self._opened(self._prepare))

    def open_reading(self) -> PostgresConnection:
        """For reading only; makes nothing.

        Raises:
            LedgerBrokenError: a newer Outrider's.
            LedgerUnavailableError: its tables are not made yet.
            psycopg.Error: anything else.
        """
        return PostgresConnection(lambda: self._opened(self._check_reading))

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what the driver raises inside into a LedgerError with the cause and the remedy.

        Raises:
            LedgerUnavailableError: out of reach, busy, full, stopping.
            LedgerBrokenError: refused, absent, damaged; or a rule of the ledger itself said no.
        """
        try:
            yield
        except psycopg.Error as exc:
            code, cause = _code(exc), " ".join(str(exc).split())
            for codes, kind in ((_NEVER, LedgerBrokenError), (_LATER, LedgerUnavailableError)):
                if remedy := codes.get(code) or codes.get(code[:2]):
                    raise kind(f"ledger {self._name}: {remedy} ({cause})") from exc
            if not code and isinstance(exc, psycopg.OperationalError):
                remedy = "it cannot be reached; start the server, or correct ledger_url"
                raise LedgerUnavailableError(f"ledger {self._name}: {remedy} ({cause})") from exc
            remedy = "this should not happen; keep a copy of the database and report it"
            raise LedgerBrokenError(f"ledger {self._name}: {remedy} ({cause})") from exc

    def _opened(
        self, prepare: Callable[[psycopg.Connection[tuple[Any, ...]]], None]
    ) -> psycopg.Connection[tuple[Any, ...]]:
        connection: psycopg.Connection[tuple[Any, ...]] = psycopg.connect(
            self._url,
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT_S,
            tcp_user_timeout=UNACKNOWLEDGED_MS_MAX,
            application_name="outrider",
        )
        try:
            connection.execute(f"SET search_path TO {SCHEMA}".encode())
            connection.execute(f"SET lock_timeout TO {self._lock_timeout_ms}".encode())
            prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        _check_durable(connection, self._name)
        if self._found(connection) == self._version:
            return
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            found = self._found(connection)
            if found == self._version:
                return
            if not _value(connection, "SELECT count(*) FROM pg_namespace WHERE nspname = %s", SCHEMA):
                connection.execute(f"CREATE SCHEMA {SCHEMA}".encode())
            if not found:
                connection.execute(TABLES)
            connection.execute(FROM_2_TO_3)
            connection.execute(
                "INSERT INTO meta (name, value) VALUES ('version', %s) "
                "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (str(self._version),),
            )

    def _check_reading(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        if self._found(connection) < self._version:
            raise LedgerUnavailableError(f"ledger {self._name}: it has no tables yet; they are made by the supervisor")
        connection.execute("SET default_transaction_read_only TO on")

    def _found(self, connection: psycopg.Connection[tuple[Any, ...]]) -> int:
        """The version of its tables, 0 for none."""
        # Asked of the catalogue and not by to_regclass, whose cache has not heard yet of tables made while we waited.
        query: LiteralString = "SELECT count(*) FROM pg_tables WHERE schemaname = %s AND tablename = 'meta'"
        if not _value(connection, query, SCHEMA):
            return 0
        version = int(_value(connection, "SELECT value FROM meta WHERE name = %s", "version"))
        if version > self._version:
            raise LedgerBrokenError(
                f"ledger {self._name}: tables of version {version}, this Outrider knows {self._version}; use the "
                "Outrider that made it"
            )
        return version


def _check_durable(connection: psycopg.Connection[tuple[Any, ...]], name: str) -> None:
    """Refuse a server that acknowledges what it may lose; the journal is trimmed on its word."""
    for setting in ("fsync", "full_page_writes"):
        if _value(connection, "SELECT current_setting(%s)", setting) == "off":
            raise LedgerBrokenError(
                f"ledger {name}: the server runs with {setting} = off and loses what it acknowledged when its machine "
                f"fails; set {setting} = on in postgresql.conf"
            )
    if _value(connection, "SELECT current_setting(%s)", "synchronous_commit") == "off":
        connection.execute("SET synchronous_commit TO on")


def _value(connection: psycopg.Connection[tuple[Any, ...]], query: LiteralString, *values: object) -> Any:
    found = connection.execute(query, values).fetchone()
    return found[0] if found else None


def _query(text: str) -> LiteralString:
    """Our own words, in the driver's form: they hold no `?` or `%` but for values."""
    return text.replace("?", "%s")


def _code(exc: psycopg.Error) -> str:
    """SQLSTATE; of a refused connection, which has none, what its text says."""
    if exc.sqlstate:
        return exc.sqlstate
    told = str(exc)
    if "FATAL" in told:
        return next((code for words, code in _REFUSED if words in told), "")
    return ""


def _told(url: str) -> str:
    parts = conninfo_to_dict(url)
    user = f"{parts['user']}@" if parts.get("user") else ""
    port = f":{parts['port']}" if parts.get("port") else ""
    return f"postgresql://{user}{parts.get('host') or ''}{port}/{parts.get('dbname') or ''}"
