"""A store whose disk fails: what was acknowledged is there afterwards, and nothing else was ever called durable."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from orchestrator.model.ids import VehicleId
from orchestrator.store.base import StoreError, StoreUnavailableError
from orchestrator.store.redis import EmbeddedServer, RedisStore
from tests.builders import NOW, a_vehicle
from tests.faults.machine import FailingMachine, a_failing_machine, a_small_disk

pytestmark = pytest.mark.processes

WRITERS = 200
BEFORE = 40


@contextmanager
def a_server(folder: Path) -> Iterator[EmbeddedServer]:
    """A store's server; dead afterwards."""
    server = EmbeddedServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FailingMachine:
    """What every server of this test runs on."""
    found = a_failing_machine(tmp_path)
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    return found


async def written(store: RedisStore, names: list[str], *, then: int = 0, do: object = None) -> set[str]:
    """Import vehicles all at once; those whose import was acknowledged. After `then` of them `do` is called."""
    acknowledged: set[str] = set()

    async def write(name: str) -> None:
        # Twice, one after the other: a fast store may take all the first ones in a single commit.
        for each in (name, f"{name}-again"):
            await store.import_vehicles([a_vehicle(each)], now=NOW)
            acknowledged.add(each)
            if len(acknowledged) == then and callable(do):
                do()

    outcomes = await asyncio.gather(*map(write, names), return_exceptions=True)
    assert {type(one) for one in outcomes} <= {type(None), StoreUnavailableError}
    return acknowledged


async def missing(store: RedisStore, names: set[str]) -> set[str]:
    """Those of which the store knows nothing."""
    return {name for name in names if await store.vehicle(VehicleId(name)) is None}


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("enospc", id="full"),
        pytest.param("erofs", id="read-only"),
        pytest.param("fsync", id="fsync fails"),
    ],
)
@pytest.mark.fault("P2", "P4", "P5")
async def test_nothing_is_acknowledged_while_the_disk_fails_and_nothing_acknowledged_is_lost(
    machine: FailingMachine, tmp_path: Path, fault: str
) -> None:
    """In the middle of traffic; the same store object goes on when the disk is well again."""
    with a_server(tmp_path / "store") as server:
        store = await RedisStore.connect(server.url, deadline_s=2.0)
        names = [f"v-{number}" for number in range(WRITERS)]
        acknowledged = await written(store, names, then=BEFORE, do=lambda: machine.fail(fault))
        assert BEFORE <= len(acknowledged) < 2 * WRITERS
        # Restarted on the failing disk, as the supervisor does, it takes nothing either.
        server.wait_dead()
        with suppress(StoreError):
            server.start()
        assert await written(store, ["late"]) == set()

        machine.mend()
        server.wait_dead()
        server.start()
        assert await missing(store, acknowledged) == set()
        assert await written(store, ["after"]) == {"after", "after-again"}
        await store.close()


@pytest.mark.fault("P2")
async def test_a_disk_that_runs_full_loses_nothing_and_serves_again_when_there_is_room(tmp_path: Path) -> None:
    """A real one, to its last byte: the last record is torn there, and must not be taken for damage."""
    with a_small_disk(tmp_path / "disk", mebibytes=2) as disk, a_server(disk / "store") as server:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(1_800_000))
        store = await RedisStore.connect(server.url, deadline_s=2.0)
        acknowledged: set[str] = set()
        for number in range(2000):
            name = f"v-{number}"
            if await written(store, [name]) != {name, f"{name}-again"}:
                break
            acknowledged |= {name, f"{name}-again"}
        assert 0 < len(acknowledged) < 4000, "it ran full"
        server.wait_dead()

        ballast.unlink()
        server.start()
        assert await missing(store, acknowledged) == set()
        assert await written(store, ["after"]) == {"after", "after-again"}
        await store.close()
