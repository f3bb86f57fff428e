"""`outrider doctor` beside a service that runs, hangs and is gone."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Installation, an_installation

pytestmark = pytest.mark.processes


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Installation]:
    with an_installation(tmp_path) as running:
        yield running


def examined(house: Installation) -> dict[str, Any]:
    """Findings by check."""
    outcome = house.cli("doctor")
    return {finding["check"]: finding for finding in outcome.json["findings"]}


def test_doctor_finds_a_service_well_hanging_and_gone(house: Installation) -> None:
    """The three nights on which it is called."""
    well = examined(house)
    assert {name for name, finding in well.items() if finding["level"] in ("error", "skipped")} == set()
    assert well["version"]["level"] == "ok"

    assert house.process is not None
    os.kill(house.process.pid, signal.SIGSTOP)
    try:
        hanging = examined(house)
    finally:
        os.kill(house.process.pid, signal.SIGCONT)
    assert hanging["service"]["level"] == "ok", "it lives"
    assert hanging["readiness"]["level"] == "error"
    assert hanging["evaluator"]["level"] == "error"
    assert hanging["store"]["level"] == "ok", "the store is a process of its own"

    assert house.terminate() == 0
    gone = examined(house)
    assert gone["service"]["level"] == "skipped"
    assert gone["store file"]["level"] == "ok"
    assert {name for name, finding in gone.items() if finding["level"] == "error"} == set()
