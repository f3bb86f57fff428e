"""One running installation for all tests of the edge: starting one takes seconds of a shared machine.

Each test has vehicles and, where it starts a rollout, a region of its own, so that none can disturb another.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.preparing import prepared
from tests.processes import Installation, an_installation

RELEASE = "1.1.0"


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation that serves; release 1.1.0 is published for the control units of `AVehicle`."""
    with an_installation(tmp_path_factory.mktemp("installation")) as running:
        running.publish(RELEASE, release_counter=2)
        yield running


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared data folder with an enrolled fleet, to be copied; made once for all test processes."""
    base = tmp_path_factory.getbasetemp()
    return prepared((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "fleet")
