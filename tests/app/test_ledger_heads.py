"""The ledger's own key and its daily head in a data folder."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from orchestrator.app.installation import Installation
from orchestrator.app.ledger_heads import open_key, public_keys, seal_day
from orchestrator.ledger import Ledger
from orchestrator.ledger.heads import public_key, read_head
from tests.ledger.entries import an_entry


async def test_the_key_is_made_once_and_its_head_lies_where_it_can_be_fetched(tmp_path: Path) -> None:
    """Installations from before have none; afterwards it must stay the same, or no head would be believed."""
    installation = Installation(tmp_path)
    ledger = Ledger(installation.ledger)
    await ledger.set_dataset_id("one")
    await ledger.append([an_entry(1)])
    head = await seal_day(installation, ledger, 20_000, at=1)
    assert head is not None
    assert await seal_day(installation, ledger, 20_000, at=2) is None
    assert open_key(installation).key_id == head.key_id
    assert stat.S_IMODE(installation.ledger_key.stat().st_mode) == 0o600
    fetched = read_head(json.loads(installation.ledger_head.read_text()))
    [path] = public_keys(installation)
    assert fetched == head
    assert (await ledger.verify(keys=[public_key(path.read_bytes())], kept=fetched)).ok
    await ledger.close()
