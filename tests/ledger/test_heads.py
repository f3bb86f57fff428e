"""Signed heads: one a day, and what was kept elsewhere shows any rewriting of what came before, on either database."""

from __future__ import annotations

import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from orchestrator.ledger import Ledger, LedgerBrokenError, SignedHead
from orchestrator.ledger.heads import DAY_MS, Head, read_head
from tests.ledger.entries import a_change, an_entry
from tests.ledger.places import Place


class Key:
    """A ledger's key."""

    def __init__(self) -> None:
        self._private = Ed25519PrivateKey.generate()

    @property
    def key_id(self) -> str:
        return self.public.public_bytes_raw().hex()

    @property
    def public(self) -> Ed25519PublicKey:
        return self._private.public_key()

    def sign(self, content: bytes) -> bytes:
        return self._private.sign(content)


async def seal(ledger: Ledger, key: Key, day: int = 20_000) -> SignedHead:
    head = await ledger.seal(day=day, at=(day + 1) * DAY_MS, signer=key)
    assert head is not None
    return head


@pytest.fixture
async def fed(ledger: Ledger) -> Ledger:
    """A ledger with three entries, bound to a data set."""
    await ledger.set_dataset_id("one")
    await ledger.append([a_change(number, "v1", "failed") for number in (1, 2, 3)])
    return ledger


async def test_a_day_has_one_head_whoever_signs_it(fed: Ledger, place: Place) -> None:
    """Two supervisors on one database look at the same midnight."""
    key, other = Key(), Ledger(place.where)
    head = await seal(fed, key)
    assert (head.head.seq, head.head.dataset_id) == (3, "one")
    assert await other.seal(day=20_000, at=20_001 * DAY_MS, signer=Key()) is None
    await fed.append([an_entry(4)])
    assert (await seal(other, key, 20_001)).head.seq == 5
    assert await fed.newest_head() == await other.newest_head()
    report = await fed.verify(keys=[key.public])
    assert (report.ok, report.entries, report.heads, report.signatures_checked) == (True, 6, 2, True)
    assert set(await fed.marks()) == {"shard/0"}, "the store knows no such journal, and would be found to lack it"
    await other.close()


async def test_nothing_is_signed_of_an_empty_or_unbound_ledger(ledger: Ledger) -> None:
    """A head that says nothing, or not of whom, would pin nothing."""
    assert await ledger.seal(day=20_000, at=0, signer=Key()) is None
    await ledger.append([an_entry(1)])
    with pytest.raises(LedgerBrokenError, match="belongs to no data set"):
        await ledger.seal(day=20_000, at=0, signer=Key())
    assert (await ledger.verify()).entries == 1


async def test_a_head_by_another_key_is_found(fed: Ledger) -> None:
    """Who can write the database, and does not have the orchestrator's key, can chain but not sign."""
    key = Key()
    await seal(fed, Key())
    report = await fed.verify(keys=[key.public])
    assert (report.ok, report.broken_seq) == (False, 4)
    assert "not signed by a key of this ledger" in report.reason
    assert (await fed.verify()).ok, "without a key, it is the chain alone that speaks"


async def test_a_rewritten_ledger_does_not_go_through_a_head_kept_elsewhere(fed: Ledger, place: Place) -> None:
    """A thief of the whole machine has the key as well: only what lies elsewhere is out of reach."""
    key = Key()
    kept = read_head((await seal(fed, key)).document())
    assert (await fed.verify(keys=[key.public], kept=kept)).ok
    place.tampered("DELETE FROM entries", "DELETE FROM marks", "UPDATE meta SET value = '0' WHERE name = 'head_seq'")
    place.as_owner("DELETE FROM meta WHERE name = 'head_hash'")
    await fed.append([a_change(number, "v1", "succeeded") for number in (1, 2, 3)])
    await seal(fed, key)
    assert (await fed.verify(keys=[key.public])).ok, "by itself it looks whole"
    report = await fed.verify(keys=[key.public], kept=kept)
    assert (report.ok, report.broken_seq) == (False, 3)
    assert "the ledger was rewritten" in report.reason


@pytest.mark.parametrize(
    ("change", "told"),
    [({"seq": 9}, "rows after 3 are missing"), ({"dataset_id": "two"}, "is of data set two, this ledger of one")],
)
async def test_a_ledger_that_lacks_what_a_head_names_is_found(
    fed: Ledger, change: dict[str, object], told: str
) -> None:
    """Cut short, or the wrong one altogether."""
    key = Key()
    head = dataclasses.replace(Head("one", 20_000, 3, (await fed.verify()).head_hash), **change)
    report = await fed.verify(keys=[key.public], kept=SignedHead(head, key.key_id, key.sign(head.content())))
    assert not report.ok
    assert told in report.reason


async def test_a_head_whose_signature_is_of_something_else_is_no_witness(fed: Ledger) -> None:
    """What was kept elsewhere may have been changed there."""
    key = Key()
    head = Head("one", 20_000, 3, (await fed.verify()).head_hash)
    report = await fed.verify(keys=[key.public], kept=SignedHead(head, key.key_id, key.sign(b"something else")))
    assert "the head kept elsewhere was not signed" in report.reason


@pytest.mark.parametrize("document", [{}, {"signed": {"type": "x"}}, {"signed": [], "key_id": "", "signature": "zz"}])
def test_what_is_no_head_is_told(document: dict[str, object]) -> None:
    """A file that somebody mistook for one."""
    with pytest.raises(ValueError, match=r"."):
        read_head(document)
