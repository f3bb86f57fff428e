"""The private server: one owner, adoption after kill -9, nothing acknowledged is lost, repair only when asked for."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.model.attempt import AttemptEvent
from orchestrator.model.ids import VehicleId
from orchestrator.store.base import StoreRefusedError, StoreUnavailableError
from orchestrator.store.redis import EmbeddedServer, RedisStore, repair
from orchestrator.store.redis.embedded import SOCKET_PATH_MAX
from tests.builders import NOW, a_vehicle, an_attempt
from tests.contracts.steps import SPRING, assigned, reserve, running, tell

pytestmark = pytest.mark.processes


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A data folder whose server, if one was left behind, is ended in the end."""
    yield tmp_path / "store"
    try:
        left = json.loads((tmp_path / "store" / "store.json").read_text())
        os.kill(left["pid"], signal.SIGKILL)
    except (OSError, ValueError):
        return


@pytest.fixture
def server(folder: Path) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(folder)
    yield server
    server.stop()


def kill(server: EmbeddedServer) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    server.wait_dead()


def last_file(folder: Path) -> Path:
    """The append-only file that is written to."""
    (found,) = (folder / "appendonlydir").glob("*.incr.aof")
    return found


async def fill(server: EmbeddedServer, count: int = 20) -> None:
    """Vehicles, each acknowledged before the next."""
    store = await RedisStore.connect(server.url)
    for number in range(count):
        await store.import_vehicles([a_vehicle(f"v-{number}")], now=NOW)
    await store.close()


async def count_vehicles(server: EmbeddedServer) -> int:
    store = await RedisStore.connect(server.url)
    try:
        return sum((await store.profiles()).values())
    finally:
        await store.close()


async def test_server_listens_on_a_private_socket_only(server: EmbeddedServer) -> None:
    """No port that another user of the machine could reach."""
    server.start()
    assert server.alive()
    path = server.socket_path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert len(os.fsencode(path)) <= SOCKET_PATH_MAX
    store = await RedisStore.connect(server.url)
    ports = await store._calls.command("CONFIG", "GET", "port")
    assert ports == {b"port": b"0"}
    await store.close()


async def test_server_promises_what_the_store_demands(server: EmbeddedServer) -> None:
    """Every acknowledged write is on disk, nothing is evicted, no torn file is loaded silently."""
    server.start()
    store = await RedisStore.connect(server.url)
    found = await store._calls.command(
        "CONFIG", "GET", "appendonly", "appendfsync", "maxmemory-policy", "aof-load-truncated", "save"
    )
    assert found == {
        b"appendonly": b"yes",
        b"appendfsync": b"always",
        b"maxmemory-policy": b"noeviction",
        b"aof-load-truncated": b"no",
        b"save": b"",
    }
    await store.close()


def test_stop_leaves_no_process_and_no_socket(server: EmbeddedServer, folder: Path) -> None:
    """A second run begins as clean as the first."""
    server.start()
    path, pid = server.socket_path, server.pid
    server.stop()
    assert not server.alive()
    assert not path.parent.exists()
    assert not (folder / "store.json").exists()
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    server.stop()


def test_second_owner_is_told_who_the_first_is(server: EmbeddedServer, folder: Path) -> None:
    """Two orchestrators on one data folder would each think that they own it."""
    server.start()
    with pytest.raises(StoreRefusedError, match=rf"in use by process {os.getpid()}: stop that one first"):
        EmbeddedServer(folder).start()
    assert server.alive()


def test_folder_is_free_again_after_a_stop(server: EmbeddedServer, folder: Path) -> None:
    """The lock goes with its owner."""
    server.start()
    server.stop()
    second = EmbeddedServer(folder)
    second.start()
    assert second.alive()
    second.stop()


async def test_killed_server_comes_back_with_everything_acknowledged(server: EmbeddedServer) -> None:
    """Kill -9 in the middle of traffic: what was answered is there, on the same address."""
    server.start()
    url = server.url
    store = await RedisStore.connect(url, deadline_s=2.0)
    await running(store)
    acknowledged: list[str] = []

    async def write(name: str) -> None:
        # Twice, one after the other: a fast store may take all the first ones in a single commit, before the kill.
        for each in (name, f"{name}-again"):
            await store.import_vehicles([a_vehicle(each)], now=NOW)
            acknowledged.append(each)
            if len(acknowledged) == 40:
                assert server.pid is not None
                os.kill(server.pid, signal.SIGKILL)

    outcomes = await asyncio.gather(*(write(f"v-{number}") for number in range(400)), return_exceptions=True)
    kinds = {type(one) for one in outcomes}
    assert StoreUnavailableError in kinds
    assert kinds <= {type(None), StoreUnavailableError}
    server.wait_dead()
    assert not server.alive()
    server.start()
    assert server.url == url
    # The same store object goes on: it connects again by itself.
    missing = [name for name in acknowledged if await store.vehicle(VehicleId(name)) is None]
    assert missing == []
    assert len(acknowledged) >= 40
    assert (await store.rollouts())[0].rollout_id == SPRING
    await store.close()


async def test_attempts_slots_and_counters_survive_kill_9(server: EmbeddedServer) -> None:
    """State, counters, journal and reservations are of one step, so they are of one mind after a crash as well."""
    server.start()
    store = await RedisStore.connect(server.url)
    await running(store)
    await reserve(store, "spring.v-1.1")
    attempt = await assigned(store, an_attempt())
    await tell(store, attempt, AttemptEvent.DOWNLOAD_STARTED)
    before = (
        await store.vehicle(attempt.vehicle_id),
        await store.tallies([SPRING]),
        [await store.journal_mark(stream) for stream in await store.journal_streams()],
        await store.dataset_id(),
    )
    kill(server)
    server.start()
    again = await RedisStore.connect(server.url)
    after = (
        await again.vehicle(attempt.vehicle_id),
        await again.tallies([SPRING]),
        [await again.journal_mark(stream) for stream in await again.journal_streams()],
        await again.dataset_id(),
    )
    assert after == before
    assert await again.recount([SPRING]) == after[1]
    assert (await again.unsettled([SPRING], older_than_ms=-1))[SPRING].reservations == ["spring.v-1.1"]
    await store.close()
    await again.close()


OWNER = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from orchestrator.store.redis import EmbeddedServer
    server = EmbeddedServer(Path(sys.argv[1]))
    server.start()
    print(server.pid, server.url, flush=True)
    time.sleep(600)
    """
)


def left_behind(folder: Path) -> list[str]:
    """Pid and address of a server whose owner was killed."""
    with subprocess.Popen([sys.executable, "-c", OWNER, str(folder)], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        said = owner.stdout.readline().split()
        owner.kill()
    return said


async def test_server_of_a_killed_owner_is_adopted(folder: Path) -> None:
    """The orchestrator dies by kill -9; its store lives on, and the next orchestrator takes it over with its data."""
    pid, url = left_behind(folder)
    server = EmbeddedServer(folder)
    server.start()
    assert (str(server.pid), server.url) == (pid, url)
    await fill(server, 3)
    with pytest.raises(StoreRefusedError, match="in use by process"):
        EmbeddedServer(folder).start()
    server.stop()
    assert not server.alive()
    server.start()
    assert str(server.pid) != pid
    assert await count_vehicles(server) == 3
    server.stop()


def test_adopted_server_that_dies_is_noticed_and_started_again(folder: Path) -> None:
    """An adopted server is no child, so its death must be seen on its socket."""
    pid, url = left_behind(folder)
    server = EmbeddedServer(folder)
    server.start()
    assert server.alive()
    kill(server)
    assert not server.alive()
    server.start()
    assert server.url == url
    assert str(server.pid) != pid
    server.stop()


def test_interrupt_at_the_terminal_does_not_reach_the_server(server: EmbeddedServer) -> None:
    """Ctrl-C goes to the terminal's process group; the orchestrator drains into a store that still runs."""
    server.start()
    assert server.pid is not None
    assert os.getpgid(server.pid) != os.getpgid(0)


def test_left_behind_server_whose_place_nothing_tells_is_not_joined_by_a_second_one(
    server: EmbeddedServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two servers on one append-only file destroy it: the server itself holds a lock, whatever notes are missing."""
    monkeypatch.setattr("orchestrator.store.redis.embedded.LOCK_POLLS_MAX", 3)
    server.start()
    (folder / "socket").rename(folder / "gone")
    server._lock.drop()
    second = EmbeddedServer(folder)
    with pytest.raises(StoreRefusedError, match="left behind still works"):
        second.start()
    assert server.alive()


def test_server_of_another_folder_is_not_adopted(server: EmbeddedServer, folder: Path, tmp_path: Path) -> None:
    """Pids and sockets are reused: a stranger that answers where our server was keeps its own data."""
    stranger = EmbeddedServer(tmp_path / "stranger")
    stranger.start()
    server.start()
    server._lock.drop()
    (folder / "socket").write_text(str(stranger.socket_path))
    with pytest.raises(StoreRefusedError, match="another server than that of"):
        EmbeddedServer(folder).start()
    stranger.stop()


async def test_torn_file_is_refused_with_the_remedy(server: EmbeddedServer, folder: Path) -> None:
    """What is cut may have been acknowledged: a person decides, not the server."""
    server.start()
    await fill(server)
    server.stop()
    file = last_file(folder)
    os.truncate(file, file.stat().st_size - 7)
    assert "end of file" in server.check() or "Expected" in server.check()
    with pytest.raises(StoreRefusedError) as refused:
        server.start()
    assert f"outrider store repair --data {folder.parent}" in str(refused.value)
    assert "\n" not in str(refused.value)
    with pytest.raises(StoreRefusedError):
        server.start()


async def test_repair_cuts_the_torn_tail_and_keeps_a_copy(server: EmbeddedServer, folder: Path) -> None:
    """Repair is explicit, says what it cut, and can be undone."""
    server.start()
    await fill(server, 20)
    server.stop()
    file = last_file(folder)
    torn = file.read_bytes()[:-7]
    file.write_bytes(torn)
    report = repair(folder)
    (cut,) = report.cut
    assert cut.name == f"appendonlydir/{file.name}"
    assert (cut.size_before_bytes, cut.size_after_bytes) == (len(torn), file.stat().st_size)
    assert 0 < report.bytes_cut < 2000
    assert cut.copy.read_bytes() == torn
    assert server.check() == ""
    server.start()
    assert await count_vehicles(server) == 19


def test_repair_of_a_whole_file_changes_nothing(server: EmbeddedServer, folder: Path) -> None:
    """Running it to be sure does no harm."""
    server.start()
    server.stop()
    before = last_file(folder).read_bytes()
    assert repair(folder).cut == ()
    assert last_file(folder).read_bytes() == before
    assert list(folder.glob("damaged-*")) == []


def test_repair_refuses_while_the_store_is_in_use(server: EmbeddedServer, folder: Path) -> None:
    """A file that is being written to must not be cut."""
    server.start()
    with pytest.raises(StoreRefusedError, match="in use by process"):
        repair(folder)


def test_repair_of_an_empty_folder_says_so(tmp_path: Path) -> None:
    """Most likely a mistyped path."""
    with pytest.raises(StoreRefusedError, match="nothing to repair"):
        repair(tmp_path)


async def test_damage_in_the_middle_is_not_repaired_silently(server: EmbeddedServer, folder: Path) -> None:
    """A cut in the middle throws away everything behind it: the report says how much, and the copy holds it."""
    server.start()
    await fill(server, 20)
    server.stop()
    file = last_file(folder)
    content = bytearray(file.read_bytes())
    middle = content.index(b"\r\n*", content.index(b"v-10")) + 2
    content[middle] = ord("?")
    file.write_bytes(content)
    with pytest.raises(StoreRefusedError, match="damaged"):
        server.start()
    report = repair(folder)
    assert report.bytes_cut > 2000
    assert report.cut[0].copy.read_bytes() == bytes(content)
    server.start()
    assert await count_vehicles(server) < 12


def test_folder_that_cannot_be_written_is_an_error_in_one_line(tmp_path: Path) -> None:
    """The cause and where to look."""
    server = EmbeddedServer(tmp_path / "store", settings={"appendfsync": "sometimes"})
    with pytest.raises(StoreRefusedError, match=r"did not start: .*server\.log"):
        server.start()
    # And the folder is free again.
    fixed = EmbeddedServer(tmp_path / "store")
    fixed.start()
    fixed.stop()


def test_server_outlives_a_stranger_on_its_line(server: EmbeddedServer) -> None:
    """A probe that says nothing and leaves must not disturb anybody."""
    server.start()
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(server.socket_path))
    assert server.alive()
