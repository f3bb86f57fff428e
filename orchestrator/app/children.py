"""Child processes of the supervisor: started, awaited until ready, restarted when they die or are stuck, ended with it.

A child reads its standard input: when the supervisor dies, however it dies, the pipe ends, and so does the child. A
child says `ready` on its standard output once it serves; its log goes to standard error, as everyone's. Afterwards one
that has an event loop beats there: whose loop stands still, whatever holds it, is ended and started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from orchestrator.app.firstborn import Fork
from orchestrator.clock import MachineClock

log = structlog.get_logger()

READY = b"ready\n"
BEAT = b".\n"
BEAT_S = 1.0
SILENCE_S = 5.0
"""Machine time without a beat; after SILENCES in a row the child is stuck."""
SILENCES = 2
"""Not one: when the machine itself slept, everybody is found silent, and beats at the next look."""
START_TIMEOUT_S = 30.0
BACKOFF_S = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Waits before the restarts that follow each other; a child that served for LIVED_S starts from the first again."""
LIVED_S = 5.0
"""What is broken dies sooner; whoever is killed now and then must not be waited for."""


class ChildError(Exception):
    """A child did not become ready; its own log says why."""


@dataclass(slots=True)
class Child:
    """One process and how to start it again."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    ended: Callable[[int], None]
    """Told the process id of each that ended."""
    stuck: Callable[[], None] | None = None
    """Told of each that beat no more; None for a child that never beats."""
    firstborn: Callable[[], Fork | None] = lambda: None
    """A fork that waits to be this child, instead of a Python that imports everything anew."""
    process: asyncio.subprocess.Process | Fork | None = field(default=None)
    serving: bool = field(default=False)
    """Whether it said that it is ready, and has not ended since, as far as is known."""
    hung_up: bool = field(default=False)
    """Whether it is to read its orders anew as soon as it is ready."""

    async def start(self) -> None:
        """Start and wait until it is ready.

        Raises:
            ChildError: it ended, or was not ready in time.
        """
        self.hung_up = False
        self.process = await self._begin()
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                line = await self.process.stdout.readline()
        except TimeoutError:
            line = b""
        if line != READY:
            await self.stop(grace_s=0.0)
            raise ChildError(f"{self.name} did not start; its log above says why")
        self.serving = True
        log.info("child_ready", child=self.name, pid=self.process.pid)
        if self.hung_up:
            self.hang_up()

    async def _begin(self) -> asyncio.subprocess.Process | Fork:
        fork = self.firstborn()
        if fork is not None:
            await fork.let_go()
            return fork
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *self.arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **self.environment},
            # A Ctrl-C in the terminal reaches the supervisor alone; it drains its children in order.
            start_new_session=True,
        )

    async def supervise(self, machine: MachineClock) -> None:
        """Restart for ever."""
        failures = 0
        while True:
            assert self.process is not None
            began_ms = machine.monotonic_ms()
            code = await self._end(self.process)
            self.serving = False
            self.ended(self.process.pid)
            if machine.monotonic_ms() - began_ms > LIVED_S * 1000:
                failures = 0
            log.error("child_ended", child=self.name, pid=self.process.pid, code=code)
            await machine.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
            failures += 1
            try:
                await self.start()
            except (ChildError, OSError) as error:
                log.error("child_failed", child=self.name, error=str(error))

    async def _end(self, process: asyncio.subprocess.Process | Fork) -> int:
        """Wait for the end of a process, and bring it about when it beats no more; its exit code."""
        assert process.stdout is not None
        silences = 0
        while silences < SILENCES:
            try:
                async with asyncio.timeout(SILENCE_S if self.stuck else None):
                    if not await process.stdout.readline():
                        return await process.wait()
                silences = 0
            except TimeoutError:
                silences += 1
        assert self.stuck is not None
        log.error("child_stuck", child=self.name, pid=process.pid, silent_s=SILENCES * SILENCE_S)
        self.stuck()
        # It would not drain: whoever is connected to it is served by another one sooner.
        return await _killed(process)

    def hang_up(self) -> None:
        """Ask to read its orders anew; one that is starting, and may have read them, is asked when it is ready."""
        self.hung_up = not self.serving
        if self.process is not None and self.serving:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGHUP)

    async def stop(self, *, grace_s: float) -> None:
        """Ask to end, wait `grace_s` machine seconds, then kill."""
        process = self.process
        if process is None or process.returncode is not None:
            return
        try:
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(grace_s):
                await process.wait()
        except ProcessLookupError:
            return
        except TimeoutError:
            log.warning("child_killed", child=self.name, pid=process.pid)
            await _killed(process)


async def _killed(process: asyncio.subprocess.Process | Fork) -> int:
    """Its exit code, which is its own if it ended at the moment that it was given up."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    return await process.wait()


def end_with_parent() -> None:
    """In a child: end at once when the parent is gone, so that a new supervisor finds the ports free."""

    def wait() -> None:
        while os.read(0, 4096):
            continue
        os._exit(3)

    threading.Thread(target=wait, daemon=True, name="parent-watch").start()


def name_process(name: str) -> None:
    """In a child: be found under this name in `ps -e` and `top` (Linux; at most 15 characters)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name, encoding="ascii")


def say_ready() -> None:
    """In a child: tell the supervisor that it serves."""
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()


async def beat(machine: MachineClock) -> None:
    """In a child, for ever: show that its event loop turns."""
    out = sys.stdout.fileno()
    os.set_blocking(out, False)
    while True:
        # A supervisor that does not read is none that waits for beats; one that is gone ends us otherwise.
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(out, BEAT)
        await machine.sleep(BEAT_S)


def python_module(module: str, *arguments: str | Path) -> list[str]:
    """Arguments that run a module with this interpreter."""
    return ["-m", module, *map(str, arguments)]
