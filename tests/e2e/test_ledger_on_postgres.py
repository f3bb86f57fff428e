"""An installation whose ledger is a PostgreSQL database: the whole way, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres_server import PostgresServer, a_postgres_server
from tests.processes import Installation, an_installation, eventually, run_cli

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with a_postgres_server() as server:
        yield server


def kinds(installation: Installation) -> set[str]:
    """Kinds of what the ledger tells."""
    return {entry["kind"] for entry in installation.must("ledger", "show", "--all")["entries"]}


def test_installation_writes_its_ledger_to_postgres_and_no_other_may(postgres: PostgresServer, tmp_path: Path) -> None:
    """Two installations in one database would be one history of two fleets."""
    url = postgres.a_database()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with an_installation(tmp_path / "one", ledger_url=url) as first:
        first.publish("1.0.0", release_counter=1)
        eventually(lambda: "release_created" in kinds(first), timeout_s=60.0, what="the ledger has the release")
        assert not (first.data / "ledger.sqlite3").exists()
        assert first.must("ledger", "verify")["ok"]
        assert "ends where it was left" in first.cli("doctor").stdout
    with an_installation(tmp_path / "two", start=False, ledger_url=url) as second:
        refused = run_cli("serve", "--data", second.data)
        assert refused.exit_code != 0
        assert "names the ledger of another data set" in refused.stderr
        postgres.stop()
        refused = run_cli("serve", "--data", second.data)
        assert refused.exit_code != 0
        assert "start the server, or correct ledger_url" in refused.stderr
