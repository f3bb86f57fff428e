"""One running installation for all tests of the edge: starting one takes seconds of a shared machine.

Each test has vehicles and, where it starts a rollout, a region of its own, so that none can disturb another.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.processes import Installation, an_installation

RELEASE = "1.1.0"


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation that serves; release 1.1.0 is published for the control units of `AVehicle`."""
    with an_installation(tmp_path_factory.mktemp("installation")) as running:
        running.publish(RELEASE, release_counter=2)
        yield running
