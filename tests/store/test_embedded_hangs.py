"""The private server stands still: whoever looks at it does not, and can end it."""

from __future__ import annotations

import errno
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.store.redis import EmbeddedServer, embedded

pytestmark = pytest.mark.processes


def crowd(path: Path) -> list[socket.socket]:
    """Clients that wait to be let in, as many as there is room for."""
    waiting = []
    while True:
        line = socket.socket(socket.AF_UNIX)
        line.setblocking(False)
        waiting.append(line)
        if line.connect_ex(str(path)) == errno.EAGAIN:
            return waiting


def test_server_that_hangs_is_looked_at_without_waiting_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor looks from its event loop, where waiting for a hung store would stop it as well; and once nobody
    is let in any more it must still be able to end.
    """
    monkeypatch.setattr(embedded, "STOP_S", 0.5)
    server = EmbeddedServer(tmp_path / "store")
    server.start()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    waiting = crowd(server.socket_path)
    with ThreadPoolExecutor() as threads:
        try:
            assert threads.submit(server.alive).result(timeout=10)
            threads.submit(server.stop).result(timeout=10)
        finally:
            if server.pid is not None:
                os.kill(server.pid, signal.SIGCONT)
            for line in waiting:
                line.close()
    assert not server.alive()
