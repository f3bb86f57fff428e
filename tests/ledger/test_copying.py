"""A ledger copied from either database to a file and back is the same ledger, or it is not copied."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.ledger import Ledger, LedgerBrokenError
from orchestrator.ledger.copying import copy_ledger
from tests.ledger.entries import a_change, an_entry
from tests.ledger.places import Place


async def test_a_copy_has_the_same_chain_marks_and_owner(ledger: Ledger, place: Place, tmp_path: Path) -> None:
    """A backup of a ledger on PostgreSQL may be looked at as a file, and the feed goes on from it."""
    await ledger.set_dataset_id("one")
    await ledger.append([a_change(number, "v1", "failed") for number in range(1, 2500)])
    copied = copy_ledger(place.where, tmp_path / "copy.sqlite3")
    original, copy = await ledger.verify(), Ledger(tmp_path / "copy.sqlite3")
    assert await copy.verify() == original
    assert (copied.entries, copied.head_hash, copied.dataset_id) == (2499, original.head_hash, "one")
    assert await copy.marks() == await ledger.marks()
    assert await copy.append([a_change(2499, "v1", "failed"), an_entry(2500)]) == {"attempt_changed": 1}
    await copy.close()


async def test_a_file_goes_back_into_an_empty_place_only(place: Place, tmp_path: Path) -> None:
    """Two histories in one chain would be neither."""
    source = Ledger(tmp_path / "source.sqlite3")
    await source.append([an_entry(1), an_entry(2)])
    copy_ledger(tmp_path / "source.sqlite3", place.where)
    restored = Ledger(place.where)
    assert await restored.verify() == await source.verify()
    with pytest.raises(LedgerBrokenError, match="has entries already"):
        copy_ledger(tmp_path / "source.sqlite3", place.where)
    await restored.close()
    await source.close()


async def test_a_chain_that_does_not_hold_is_not_copied(ledger: Ledger, place: Place, tmp_path: Path) -> None:
    """A backup must not launder what was tampered with."""
    await ledger.append([a_change(number, "v1", "failed") for number in range(1, 6)])
    place.tampered("UPDATE entries SET data = replace(data, 'failed', 'succeeded') WHERE seq = 3")
    with pytest.raises(LedgerBrokenError, match="entry 3 is not what was written"):
        copy_ledger(place.where, tmp_path / "copy.sqlite3")
    copy = Ledger(tmp_path / "copy.sqlite3")
    assert (await copy.verify()).entries == 0
    await copy.close()
