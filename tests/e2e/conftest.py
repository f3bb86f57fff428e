"""One running installation a module: starting one takes seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.processes import Installation, an_installation


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation that serves, without vehicles and releases."""
    with an_installation(tmp_path_factory.mktemp("installation")) as running:
        yield running
