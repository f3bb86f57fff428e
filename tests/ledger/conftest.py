"""Both places for every promise of a ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from orchestrator.ledger import Ledger
from tests.ledger.places import Place
from tests.postgres_server import PostgresServer, a_postgres_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests of a process; each takes a database of its own."""
    with a_postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A fresh place of either kind."""
    if request.param == "sqlite":
        return Place(tmp_path / "ledger.sqlite3")
    return Place(request.getfixturevalue("postgres").a_database())


@pytest.fixture
async def ledger(place: Place) -> AsyncIterator[Ledger]:
    ledger = Ledger(place.where)
    yield ledger
    await ledger.close()
