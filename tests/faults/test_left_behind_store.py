"""An owner that dies while it starts its store: the next one takes over whatever it left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from orchestrator.store.redis import EmbeddedServer
from tests.processes import is_alive

pytestmark = pytest.mark.processes

DIES_LAUNCHING = textwrap.dedent(
    """
    import os, signal, sys
    from pathlib import Path
    from orchestrator.store.redis import EmbeddedServer

    def die(self, process, log_start):
        print(process.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    EmbeddedServer._await_start = die
    EmbeddedServer(Path(sys.argv[1])).start()
    """
)
"""Dies between the start of the server and the first word from it."""


@pytest.mark.fault("F1", "P1")
@pytest.mark.parametrize("earlier", [False, True], ids=["first start", "start after a crash"])
def test_store_whose_owner_died_while_starting_it_is_adopted(tmp_path: Path, *, earlier: bool) -> None:
    """Found by `make chaos`: nobody has to look for a process and stop it at 3 a.m."""
    folder = tmp_path / "store"
    if earlier:
        crashed = EmbeddedServer(folder)
        crashed.start()
        assert crashed.pid is not None
        os.kill(crashed.pid, signal.SIGKILL)
        crashed.wait_dead()
        crashed._lock.drop()
    owner = subprocess.run(
        [sys.executable, "-c", DIES_LAUNCHING, str(folder)], stdout=subprocess.PIPE, text=True, check=False
    )
    assert owner.returncode == -signal.SIGKILL
    left_behind = int(owner.stdout)
    assert is_alive(left_behind)
    server = EmbeddedServer(folder)
    try:
        server.start()
        assert server.pid == left_behind
    finally:
        server.stop()
        if is_alive(left_behind):
            os.kill(left_behind, signal.SIGKILL)
