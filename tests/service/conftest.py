"""A world for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.service.world import World, make_template


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder to copy."""
    return make_template(tmp_path_factory.mktemp("template") / "data")


@pytest_asyncio.fixture
async def world(tmp_path: Path, template: Path) -> AsyncIterator[World]:
    """Use cases on a fresh reference store, with release 1.1.0 registered."""
    world = World(tmp_path, template)
    # As a supervisor does before its first tick: binds the ledger to the store.
    await world.evaluator.recover()
    await world.release()
    yield world
    await world.ledger.close()
