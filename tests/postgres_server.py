"""A real PostgreSQL server of our own: on a unix socket in a short temporary folder, no TCP port, gone with its owner.

Owns finding the programs, and that they never run as root: PostgreSQL refuses to. Leaves databases to whoever asks.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest

PORT = 5432
"""Names the socket's file; nothing listens on a network."""


def programs() -> Path | None:
    """The folder of the newest PostgreSQL on this machine; None when there is none."""
    found = shutil.which("initdb")
    places = [*Path("/usr/lib/postgresql").glob("*/bin"), *([Path(found).resolve().parent] if found else [])]
    usable = [place for place in places if (place / "initdb").exists() and (place / "postgres").exists()]
    return max(usable, key=lambda place: place.parent.name, default=None)


class PostgresServer:
    """One server, with the speed of a test's disk and the durability of a real one."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._data = folder / "data"
        self._numbers = count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        if os.getuid() == 0:
            shutil.chown(folder, "postgres")
        self._run("initdb", "-D", str(self._data), "-U", "outrider", "-A", "trust", "-E", "UTF8", "--no-sync")

    def start(self, *settings: str) -> None:
        """Start it; settings as `name=value`."""
        options = [cell for setting in settings for cell in ("-c", setting)]
        arguments = ["-D", str(self._data), "-k", str(self._folder), "-c", "listen_addresses=", "-p", str(PORT)]
        self._process = subprocess.Popen(
            self._as_user("postgres", *arguments, *options),
            stdout=subprocess.DEVNULL,
            stderr=(self._folder / "log").open("ab"),
        )
        self._run("pg_isready", "-h", str(self._folder), "-p", str(PORT), "-t", "0", tries=400)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop it; SIGQUIT ends every session in the middle of whatever it does, and leaves a recovery to the start."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None

    def restart(self, *settings: str, number: signal.Signals = signal.SIGINT) -> None:
        """Stop and start."""
        self.stop(number)
        self.start(*settings)

    def a_database(self) -> str:
        """The URL of a fresh database."""
        name = f"ledger_{os.getpid()}_{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        return self.url(name)

    def url(self, database: str, user: str = "outrider") -> str:
        """The URL of a database."""
        return f"postgresql://{user}@/{database}?host={self._folder}&port={PORT}"

    def require_passwords(self) -> None:
        """From now on who connects needs one, as on a real server; the owner `outrider` keeps its way in."""
        rules = "local all outrider trust\nlocal all all scram-sha-256\n"
        (self._data / "pg_hba.conf").write_text(rules)
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute("SELECT pg_reload_conf()")

    def _as_user(self, program: str, *arguments: str) -> Sequence[str]:
        command = [str(self._programs / program), *arguments]
        if os.getuid() != 0:
            return command
        return ["setpriv", f"--reuid={self._user}", f"--regid={self._user}", "--clear-groups", *command]

    def _run(self, program: str, *arguments: str, tries: int = 1) -> None:
        for attempt in range(tries):
            done = subprocess.run(self._as_user(program, *arguments), capture_output=True, text=True, cwd="/")
            if done.returncode == 0:
                return
            if self._process is not None and attempt + 1 < tries:
                with_death = self._process.poll()
                assert with_death is None, (self._folder / "log").read_text()
                try:
                    self._process.wait(0.05)
                except subprocess.TimeoutExpired:
                    continue
        raise AssertionError(f"{program}: {done.stdout}{done.stderr}")


@contextmanager
def a_postgres_server() -> Iterator[PostgresServer]:
    """A running server; skips where PostgreSQL is not installed, which CI never is."""
    found = programs()
    if found is None:
        assert not os.environ.get("CI"), "PostgreSQL must be installed in CI"
        pytest.skip("PostgreSQL is not installed; apt-get install postgresql runs this test")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    server = PostgresServer(found, folder)
    try:
        server.start("fsync=on")
        yield server
    finally:
        server.stop(signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)
