"""`outrider serve` for the bench, on a data folder, and ended afterwards whatever happens."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import CLOCK_MONOTONIC, clock_gettime, sleep

OUTRIDER = str(Path(sys.executable).with_name("outrider"))
TRUST_DOMAIN = "bench.outrider.invalid"
START_TIMEOUT_S = 120.0
"""A store with a large fleet is read from the disk first."""
STOP_TIMEOUT_S = 30.0


@contextmanager
def running(data: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """An installation that serves.

    Args:
        data: its folder, initialised.
        options: of `outrider serve`.

    Raises:
        RuntimeError: it does not start.
    """
    (data / "outrider.toml").write_text(f'trust_domain = "{TRUST_DOMAIN}"\nlog_level = "warning"\ndrain_s = 1.0\n')
    with (data / "serve.log").open("wb") as log:
        # In a session of its own: a Ctrl-C ends the bench, which then ends this in order.
        server = subprocess.Popen(
            [OUTRIDER, "serve", "--data", str(data), *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _await_endpoints(data, server)
        yield server
    finally:
        server.terminate()
        try:
            server.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _await_endpoints(data: Path, server: subprocess.Popen[bytes]) -> None:
    ends_at = clock_gettime(CLOCK_MONOTONIC) + START_TIMEOUT_S
    while not _serves(data, server.pid):
        if server.poll() is not None or clock_gettime(CLOCK_MONOTONIC) > ends_at:
            raise RuntimeError(f"outrider serve did not start: {(data / 'serve.log').read_text()[-2000:]}")
        sleep(0.05)


def _serves(data: Path, pid: int) -> bool:
    """Whether it has told its addresses; those of an earlier run do not count."""
    try:
        return bool(json.loads((data / "endpoints.json").read_text())["pid"] == pid)
    except (OSError, ValueError):
        return False
