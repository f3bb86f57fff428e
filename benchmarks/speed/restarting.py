"""How long nobody is served after the supervisor was killed: from starting it again to its word that it serves.

Whoever watches the service starts it at once, as systemd would. Nothing else runs; what a machine under fire takes is
measured by `make chaos`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.speed.fleet import Amount
from benchmarks.speed.running import TRUST_DOMAIN, running
from benchmarks.speed.serving import now
from signing.ceremony import initialise

RESTARTS = 10
WORKERS = 2


def restarts(data: Path, *, count: int = RESTARTS) -> Sequence[float]:
    """Kill the supervisor and start it again, its store lives on; seconds of each start.

    Args:
        data: its folder; new.
        count: how often.
    """
    initialise(data, trust_domain=TRUST_DOMAIN, now=now())
    found = []
    with running(data, "--workers", str(WORKERS)) as server:
        server.kill()
        server.wait()
    for number in range(count):
        began = perf_counter()
        with running(data, "--workers", str(WORKERS)) as server:
            found.append(perf_counter() - began)
            # The last one ends in order, and its store with it.
            if number < count - 1:
                server.kill()
                server.wait()
    return found


def restart_s(data: Path, *, count: int = RESTARTS) -> Amount:
    """The figure as it is reported."""
    seconds = restarts(data, count=count)
    what = f"from a start after a kill of the supervisor to serving by {WORKERS} workers, median of {count}"
    return Amount("restart_s", median(seconds), "s", what, "at most 5")
