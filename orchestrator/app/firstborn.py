"""The first child of each name: forked by the supervisor while it is alone, so that nobody imports what it has.

Importing takes most of a start. What follows a child that died is a Python of its own (`children`): the supervisor
has threads by then. A fork waits for one line on its standard input before it does anything, and ends with its parent.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

GO = b"\n"
REAP_S = 0.005
"""Machine time between two looks at a process that is ending."""


@dataclass(slots=True)
class Fork:
    """A forked child, in its parent; once it was let go it is used as an `asyncio.subprocess.Process`."""

    pid: int
    orders: int
    """The writing end of its standard input; it ends when this is closed."""
    words: int
    """The reading end of its standard output."""
    returncode: int | None = None
    stdout: asyncio.StreamReader | None = None
    _transport: asyncio.BaseTransport | None = field(default=None)

    async def let_go(self) -> None:
        """Have it begin."""
        reader = asyncio.StreamReader()
        pipe = os.fdopen(self.words, "rb", buffering=0)
        self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        self.stdout = reader
        # One that died before is told from its silence, as any that does not start.
        with suppress(BrokenPipeError):
            os.write(self.orders, GO)

    async def wait(self) -> int:
        """Its exit code, negative for a signal, once it has ended."""
        while self.returncode is None:
            if not self._reaped():
                await asyncio.sleep(REAP_S)
        return self.returncode

    def _reaped(self) -> bool:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            return False
        self.returncode = os.waitstatus_to_exitcode(status)
        os.close(self.orders)
        if self._transport is not None:
            self._transport.close()
        return True

    def send_signal(self, number: int) -> None:
        """Send it a signal; it is not reaped but by `wait`, so the id is its own."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def drop(self) -> None:
        """End one that was never let go."""
        if self.stdout is None:
            os.close(self.orders)
            os.close(self.words)
            os.waitpid(self.pid, 0)


class Firstborn:
    """Forks of one supervisor, by the name of the child. To be made before it has an event loop."""

    def __init__(self) -> None:
        self._waiting: dict[str, Fork] = {}
        # What is there now stays; a look for garbage would copy every page that children share.
        gc.freeze()

    def fork(self, name: str, entry: Callable[[Path], None], data: Path, environment: Mapping[str, str]) -> None:
        """Fork a child that runs `entry` on the data folder once it is let go; none where another thread runs."""
        if threading.active_count() > 1:
            return
        (read_orders, orders), (words, write_words) = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            for elder in self._waiting.values():
                os.close(elder.orders)
                os.close(elder.words)
            os.close(orders)
            os.close(words)
            os.dup2(read_orders, 0)
            os.dup2(write_words, 1)
            os.close(read_orders)
            os.close(write_words)
            os.environ.update(environment)
            _live(entry, data)
        os.close(read_orders)
        os.close(write_words)
        self._waiting[name] = Fork(pid, orders, words)

    def take(self, name: str) -> Fork | None:
        """The fork of this name, once; None when there is none left."""
        return self._waiting.pop(name, None)

    def drop(self) -> None:
        """End those that nobody took."""
        while self._waiting:
            self._waiting.popitem()[1].drop()


def _live(entry: Callable[[Path], None], data: Path) -> None:
    """The whole life of a fork; never returns into what its parent was doing."""
    code = 1
    try:
        # A Ctrl-C in the terminal reaches the supervisor alone; it drains its children in order.
        os.setsid()
        if os.read(0, len(GO)) == GO:
            entry(data)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
