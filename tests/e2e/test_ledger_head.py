"""The ledger's daily head as a running service signs it, and as whoever keeps a copy elsewhere checks it."""

from __future__ import annotations

import json
import shutil
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.cli.local import certificate_time
from tests.processes import an_installation, eventually, run_cli
from tests.vehicles import AVehicle, enrolled

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

SCALE = 600
"""An hour of fleet time in six seconds."""


def test_head_of_a_day_that_is_over_is_signed_and_proves_the_ledger_to_who_kept_it(tmp_path: Path) -> None:
    """It lies there the morning after, and shows whoever kept a copy of it whether the ledger is what it was."""
    evening = certificate_time().replace(hour=23, minute=0, second=0, microsecond=0)
    with an_installation(tmp_path, scale=SCALE, fleet_origin=evening.isoformat()) as house:
        enrolled(house, AVehicle("v-1"))
        laid = house.data / "ledger-head.json"
        eventually(laid.exists, timeout_s=60, what="the day is over")
        kept = tmp_path / "elsewhere"
        kept.mkdir()
        for path in (laid, house.data / "keys" / "ledger" / "head.pub"):
            shutil.copy(path, kept / path.name)
        head = json.loads((kept / "ledger-head.json").read_text())
        assert head["signed"]["day"] == int(evening.timestamp()) // int(timedelta(days=1).total_seconds())
        assert house.must("ledger", "head") == head

        enrolled(house, AVehicle("v-2"))
        by_kept = ("ledger", "verify", "--head", kept / "ledger-head.json", "--key", kept / "head.pub")

        def grown() -> bool:
            report = house.must(*by_kept)
            assert (report["ok"], report["signatures_checked"], report["heads"]) == (True, True, 1)
            return bool(report["entries"] > head["signed"]["seq"] + 1)

        eventually(grown, what="entries came since, behind those that the head proves")
        assert house.terminate() == 0

        # Whoever has the machine has its key as well: everything could be signed anew, but not what was kept elsewhere.
        with sqlite3.connect(house.data / "ledger.sqlite3") as ledger:
            ledger.execute("DROP TRIGGER entries_are_not_changed")
            ledger.execute("UPDATE entries SET kind = 'vehicles_forgotten' WHERE seq = 1")
        refused = run_cli("--data", house.data, *by_kept)
        assert refused.exit_code == 1
        assert "entry 1 is not what was written" in refused.stderr
