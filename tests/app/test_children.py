"""Children of the supervisor, as real processes: ready, restarted, drained, and never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from orchestrator.app import children
from orchestrator.app.children import Child, ChildError
from orchestrator.clock import MachineClock
from tests.processes import eventually, is_alive

GOOD = """
import signal, sys
from orchestrator.app.children import end_with_parent, say_ready
end_with_parent()
{setup}
say_ready()
signal.pause()
"""

BEATING = """
import asyncio, signal
from orchestrator.app.children import beat, end_with_parent, say_ready
from orchestrator.clock import MachineClock
end_with_parent()

def hold():
    while True:
        pass

async def main():
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, hold)
    loop.add_signal_handler(signal.SIGTERM, loop.stop)
    say_ready()
    await beat(MachineClock())

asyncio.run(main())
"""


def a_child(folder: Path, code: str, ended: list[int] | None = None, **environment: str) -> Child:
    """A child that runs this code."""
    script = folder / "child.py"
    script.write_text(code)
    told = ended if ended is not None else []
    return Child(name="child", arguments=[str(script)], environment=environment, ended=told.append)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another process does in its own time."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - processes set no event
            await asyncio.sleep(0.02)


async def test_child_is_awaited_until_it_says_ready_and_asked_to_end(tmp_path: Path) -> None:
    """A worker that is started is not yet one that serves."""
    child = a_child(tmp_path, GOOD.format(setup="signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))"))
    await child.start()
    assert child.process is not None
    assert is_alive(child.process.pid)
    await child.stop(grace_s=10.0)
    assert child.process.returncode == 0
    await child.stop(grace_s=0.0)


async def test_child_that_is_asked_to_read_anew_as_it_starts_does_so_when_it_is_ready(tmp_path: Path) -> None:
    """It may have read its orders a moment before they changed, and cannot take the signal yet."""
    orders, reading, read = tmp_path / "orders", tmp_path / "reading", tmp_path / "read"
    os.mkfifo(reading)
    orders.write_text("old")
    # The pipe opens when it has read, and it goes on when that is closed.
    setup = f"""
from pathlib import Path
def read(*_): Path({str(read)!r}).write_text(Path({str(orders)!r}).read_text())
read()
Path({str(reading)!r}).read_text()
signal.signal(signal.SIGHUP, read)
"""
    child = a_child(tmp_path, GOOD.format(setup=setup))
    starting = asyncio.ensure_future(child.start())
    pipe = await asyncio.to_thread(reading.open, "w")
    assert read.read_text() == "old"
    orders.write_text("new")
    child.hang_up()
    pipe.close()
    await starting
    await until(lambda: read.read_text() == "new")
    await child.stop(grace_s=5.0)


async def test_child_that_will_not_end_is_killed_after_its_grace(tmp_path: Path) -> None:
    """A hung worker must not keep a deployment from ending."""
    child = a_child(tmp_path, GOOD.format(setup="signal.signal(signal.SIGTERM, signal.SIG_IGN)"))
    await child.start()
    await child.stop(grace_s=0.1)
    assert child.process is not None
    assert child.process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("code", ["import sys; sys.exit(1)", "print('something else', flush=True)"])
async def test_child_that_does_not_start_is_an_error(tmp_path: Path, code: str) -> None:
    """The supervisor must not say `serving` for it."""
    child = a_child(tmp_path, code)
    with pytest.raises(ChildError, match="child did not start"):
        await child.start()
    assert child.process is not None
    assert child.process.returncode is not None, "and nothing of it is left"


async def test_child_that_ends_as_it_is_given_up_is_not_killed(tmp_path: Path) -> None:
    """Its end may be known between the last wait for it and the signal, and then nothing is left to kill."""

    class Ending:
        pid = 1
        returncode: int | None = None

        def send_signal(self, _number: int) -> None:
            """Taken."""

        def kill(self) -> None:
            raise ProcessLookupError

        async def wait(self) -> int:
            if self.returncode is None:
                self.returncode = 1
                await asyncio.sleep(60)
            return self.returncode

    child = a_child(tmp_path, GOOD)
    child.process = cast(asyncio.subprocess.Process, Ending())
    await child.stop(grace_s=0.01)
    assert child.process.returncode == 1


async def test_child_that_hangs_at_its_start_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start has a deadline, like every wait."""
    monkeypatch.setattr(children, "START_TIMEOUT_S", 0.2)
    child = a_child(tmp_path, "import signal; signal.pause()")
    with pytest.raises(ChildError):
        await child.start()
    assert child.process is not None
    assert child.process.returncode is not None


async def test_child_that_dies_is_started_again_and_told_of(tmp_path: Path) -> None:
    """Kill -9 of a worker costs a pause; its metrics are put away under its process id."""
    ended: list[int] = []
    child = a_child(tmp_path, GOOD.format(setup=""), ended)
    await child.start()
    assert child.process is not None
    first = child.process.pid
    supervising = asyncio.ensure_future(child.supervise(MachineClock()))
    os.kill(first, signal.SIGKILL)
    await until(lambda: child.process is not None and child.process.pid != first and is_alive(child.process.pid))
    second = child.process.pid
    assert ended == [first]
    supervising.cancel()
    await child.stop(grace_s=5.0)
    assert not is_alive(second)


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda pid: os.kill(pid, signal.SIGSTOP), id="stopped"),
        pytest.param(lambda pid: os.kill(pid, signal.SIGUSR1), id="busy"),
    ],
)
async def test_child_whose_loop_stands_still_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[int], None]
) -> None:
    """It holds its connections and answers none: to its clients that is worse than a crash. One that beats is kept."""
    monkeypatch.setattr(children, "SILENCE_S", 2.5)
    ended: list[int] = []
    stuck: list[None] = []
    child = a_child(tmp_path, BEATING, ended)
    child.stuck = lambda: stuck.append(None)
    await child.start()
    assert child.process is not None
    first = child.process.pid
    supervising = asyncio.ensure_future(child.supervise(MachineClock()))
    await asyncio.sleep(6.0)
    assert not ended, "while it beats it is let alone"
    harm(first)
    await until(lambda: child.process is not None and child.process.pid != first and is_alive(child.process.pid))
    assert (ended, len(stuck)) == ([first], 1)
    supervising.cancel()
    await child.stop(grace_s=5.0)


async def test_child_that_dies_again_and_again_is_started_ever_more_slowly(tmp_path: Path) -> None:
    """A crash loop must not eat the machine that the others need."""
    counter = tmp_path / "starts"
    child = a_child(
        tmp_path,
        f"open({str(counter)!r}, 'a').write('x')\nfrom orchestrator.app.children import say_ready\nsay_ready()",
    )
    waits: list[float] = []

    class Impatient(MachineClock):
        async def sleep(self, seconds: float) -> None:
            waits.append(seconds)
            await asyncio.sleep(0)

    await child.start()
    supervising = asyncio.ensure_future(child.supervise(Impatient()))
    await until(lambda: len(waits) >= 3)
    supervising.cancel()
    await child.stop(grace_s=5.0)
    assert waits[:3] == [0.1, 0.5, 1.0]


async def test_child_that_served_for_a_while_is_started_again_at_once(tmp_path: Path) -> None:
    """Found by `make chaos`: workers that were killed every ten seconds were waited for as if they were broken."""
    child = a_child(tmp_path, "from orchestrator.app.children import say_ready\nsay_ready()")
    waits: list[float] = []

    class Hurried(MachineClock):
        now_ms = 0

        def monotonic_ms(self) -> int:
            self.now_ms += 6_000
            return self.now_ms

        async def sleep(self, seconds: float) -> None:
            waits.append(seconds)
            await asyncio.sleep(0)

    await child.start()
    supervising = asyncio.ensure_future(child.supervise(Hurried()))
    await until(lambda: len(waits) >= 3)
    supervising.cancel()
    await child.stop(grace_s=5.0)
    assert waits[:3] == [0.1, 0.1, 0.1]


def test_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """Kill -9 of the supervisor must leave its ports free for the next one."""
    script = tmp_path / "child.py"
    script.write_text(GOOD.format(setup=""))
    parent = subprocess.Popen(
        [sys.executable, "-m", "tests.app.parent", str(script)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert parent.stdout is not None
    try:
        child = int(parent.stdout.readline())
        assert is_alive(child)
        parent.kill()
        eventually(lambda: not is_alive(child), what="the child ends with its parent")
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
