"""A rolling upgrade in the middle of traffic: the next build opens the store that this one still works on."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.model.attempt import AttemptEvent, AttemptState
from orchestrator.model.ids import VehicleId
from orchestrator.store.base import StoreRefusedError
from orchestrator.store.redis import EmbeddedServer, RedisStore
from orchestrator.store.redis.library import LIBRARY
from tests.builders import NOW, a_vehicle, an_attempt
from tests.contracts.steps import SPRING, assigned, running, tell

pytestmark = pytest.mark.processes

NEXT_BUILD = textwrap.dedent(
    """
    import asyncio, sys

    import structlog
    from orchestrator.store.redis import admission, calls, library

    number = admission.version_of(library.LIBRARY) + 1
    library.LIBRARY = admission.LIBRARY = f"outrider_v{number}"
    library.PREFIX = calls.PREFIX = f"outrider_v{number}_"

    from orchestrator.model.attempt import AttemptEvent
    from orchestrator.store.redis import RedisStore
    from tests.builders import an_attempt
    from tests.contracts.steps import SPRING, tell

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

    if sys.argv[2] == "verify":
        from orchestrator.cli import run

        sys.exit(run(["store", "verify", "--data", sys.argv[1]]))

    async def main():
        store = await RedisStore.connect(sys.argv[1])
        print("open", flush=True)
        if sys.argv[2] == "count":
            imported = sum((await store.profiles()).values())
            same = await store.tallies([SPRING]) == await store.recount([SPRING])
            await tell(store, an_attempt(), AttemptEvent.DOWNLOAD_FINISHED)
            record = await store.vehicle(an_attempt().vehicle_id)
            print(imported, same, record.acknowledged_number, flush=True)
        await store.close()

    asyncio.run(main())
    """
)
"""The build after this one, as far as the store can tell: another number in the name of its functions."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A store's server; dead afterwards."""
    server = EmbeddedServer(tmp_path / "store")
    server.start()
    yield server
    server.stop()


def looks_at(data: Path) -> tuple[int, str]:
    """How `outrider store verify` of the next build ends, and what it says."""
    done = subprocess.run([sys.executable, "-c", NEXT_BUILD, str(data), "verify"], capture_output=True, text=True)
    return done.returncode, done.stderr


def next_build(server: EmbeddedServer, what: str) -> list[str]:
    """What the next build says when it opens the store."""
    done = subprocess.run(
        [sys.executable, "-c", NEXT_BUILD, server.url, what], stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.fault("F17", "F18", "P9")
async def test_next_build_takes_over_in_the_middle_of_traffic_and_misses_nothing(server: EmbeddedServer) -> None:
    """Each call of the build before is done by its own functions as a whole, or refused with a remedy; never half."""
    store = await RedisStore.connect(server.url)
    await running(store)
    attempt = await assigned(store, an_attempt())
    await tell(store, attempt, AttemptEvent.DOWNLOAD_STARTED)
    acknowledged: set[str] = set()
    refused: list[str] = []

    async def import_until_refused(number: int) -> None:
        for each in range(10_000):
            name = f"w-{number}-{each}"
            try:
                await store.import_vehicles([a_vehicle(name)], now=NOW)
            except StoreRefusedError as error:
                refused.append(str(error))
                return
            acknowledged.add(name)

    writers = [asyncio.ensure_future(import_until_refused(number)) for number in range(8)]
    opened = await asyncio.to_thread(next_build, server, "open")
    await asyncio.gather(*writers)
    assert opened == ["open"]
    assert len(acknowledged) > len(writers)
    assert len(refused) == len(writers)
    assert all("restart the orchestrator" in said for said in refused)

    _, counted = await asyncio.to_thread(next_build, server, "count")
    assert counted == f"{len(acknowledged) + 1} True 2"
    await store.close()


@pytest.mark.fault("F17", "F18", "P9")
async def test_look_of_the_next_build_is_refused_and_takes_nothing_from_what_serves(
    server: EmbeddedServer, tmp_path: Path
) -> None:
    """The package was upgraded and the service not restarted: whoever looks then must not stop it."""
    store = await RedisStore.connect(server.url)
    await running(store)
    await assigned(store, an_attempt())
    code, said = await asyncio.to_thread(looks_at, tmp_path)
    assert code == 4
    assert f"functions of another build ({LIBRARY};" in said
    assert "restart `outrider serve` first" in said
    await store.import_vehicles([a_vehicle("w-1")], now=NOW)
    await store.answers()
    await store.close()


@pytest.mark.fault("F18", "P9")
async def test_what_the_next_build_wrote_is_read_rightly_when_the_one_before_is_started_again(
    server: EmbeddedServer,
) -> None:
    """An upgrade that is taken back at 3 a.m. must not cost an acknowledgement."""
    store = await RedisStore.connect(server.url)
    await running(store)
    attempt = await assigned(store, an_attempt())
    await tell(store, attempt, AttemptEvent.DOWNLOAD_STARTED)
    await store.close()
    assert await asyncio.to_thread(next_build, server, "count") == ["open", "1 True 2"]

    again = await RedisStore.connect(server.url)
    record = await again.vehicle(VehicleId(attempt.vehicle_id))
    assert record is not None
    assert record.attempt is not None
    assert (record.attempt.state, record.acknowledged_number) == (AttemptState.DOWNLOADED, 2)
    assert await again.tallies([SPRING]) == await again.recount([SPRING])
    await again.close()
