"""Children that are forked at the start: as any other child to whoever supervises them, and never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.app import firstborn
from orchestrator.app.children import READY, Child, ChildError, end_with_parent
from orchestrator.app.firstborn import Firstborn
from orchestrator.clock import MachineClock
from tests.app.test_children import GOOD, until
from tests.processes import eventually, is_alive


@pytest.fixture
def forks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Firstborn]:
    """For a process that may have threads: what is forked here does next to nothing."""
    monkeypatch.setattr(firstborn.threading, "active_count", lambda: 1)
    made = Firstborn()
    yield made
    made.drop()


def serving(folder: Path) -> None:
    """A child that serves, and says in a file which process it is."""
    end_with_parent()
    (folder / "pid").write_text(f"{os.getpid()} {os.environ.get('OF_THE_CHILD', '')}")
    # pytest has taken sys.stdout's place.
    os.write(1, READY)
    while True:
        signal.pause()


def broken(_: Path) -> None:
    """A child that fails before it serves."""
    raise SystemExit(7)


def a_child(forks: Firstborn, folder: Path) -> Child:
    """A child whose first process is forked, and whose next is not."""
    script = folder / "child.py"
    script.write_text(GOOD.format(setup=""))
    return Child(
        name="child",
        arguments=[str(script)],
        environment={},
        ended=lambda _: None,
        firstborn=lambda: forks.take("child"),
    )


async def test_fork_serves_as_a_child_with_its_own_environment(forks: Firstborn, tmp_path: Path) -> None:
    """A worker's counts go to the workers' folder, and the supervisor's own do not."""
    forks.fork("child", serving, tmp_path, {"OF_THE_CHILD": "yes"})
    child = a_child(forks, tmp_path)
    await child.start()
    assert child.process is not None
    assert (tmp_path / "pid").read_text() == f"{child.process.pid} yes"
    assert "OF_THE_CHILD" not in os.environ
    await child.stop(grace_s=10.0)
    assert child.process.returncode == -signal.SIGTERM
    assert not is_alive(child.process.pid)


async def test_fork_does_nothing_before_it_is_let_go(forks: Firstborn, tmp_path: Path) -> None:
    """What it needs, orders and store, is not there yet."""
    forks.fork("child", serving, tmp_path, {})
    fork = forks.take("child")
    assert fork is not None
    fork.drop()
    assert not (tmp_path / "pid").exists()
    assert not is_alive(fork.pid)


async def test_fork_that_dies_is_followed_by_a_python_of_its_own(forks: Firstborn, tmp_path: Path) -> None:
    """The supervisor has threads by then, and who has threads does not fork."""
    forks.fork("child", serving, tmp_path, {})
    child = a_child(forks, tmp_path)
    await child.start()
    assert child.process is not None
    first = child.process.pid
    supervising = asyncio.ensure_future(child.supervise(MachineClock()))
    os.kill(first, signal.SIGKILL)
    await until(lambda: child.serving and child.process is not None and child.process.pid != first)
    second = child.process.pid
    assert is_alive(second)
    assert not is_alive(first)
    supervising.cancel()
    await child.stop(grace_s=5.0)
    assert not is_alive(second)


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "broken"])
async def test_fork_that_does_not_start_is_an_error(forks: Firstborn, tmp_path: Path, kill: bool) -> None:
    """Whether it fails, or was killed while it waited."""
    forks.fork("child", broken, tmp_path, {})
    child = a_child(forks, tmp_path)
    if kill:
        waiting = forks.take("child")
        assert waiting is not None
        os.kill(waiting.pid, signal.SIGKILL)
        child.firstborn = lambda: waiting
    with pytest.raises(ChildError, match="child did not start"):
        await child.start()
    assert child.process is not None
    assert child.process.returncode == (-signal.SIGKILL if kill else 7)


def test_nothing_is_forked_beside_other_threads(tmp_path: Path) -> None:
    """A lock that another thread holds would be held for ever in the fork."""
    forks = Firstborn()
    leave = threading.Event()
    other = threading.Thread(target=leave.wait)
    other.start()
    try:
        forks.fork("child", serving, tmp_path, {})
    finally:
        leave.set()
        other.join()
    assert forks.take("child") is None


PARENT = """
import os, signal, sys
from pathlib import Path
from orchestrator.app.firstborn import GO, Firstborn
from tests.app.test_firstborn import serving
forks = Firstborn()
folder = Path(sys.argv[1])
for name in ("a", "b"):
    (folder / name).mkdir()
    forks.fork(name, serving, folder / name, {})
waiting = forks.take("a")
os.write(waiting.orders, GO)
os.read(waiting.words, 10)
print(waiting.pid, forks.take("b").pid, flush=True)
signal.pause()
"""


def test_forks_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    """Whether they serve or still wait, and though they were forked beside each other's pipes."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    assert parent.stdout is not None
    try:
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert all(map(is_alive, pids))
        parent.kill()

        eventually(lambda: not any(map(is_alive, pids)), what="forks end with their parent")
    finally:
        parent.kill()
        parent.wait()
