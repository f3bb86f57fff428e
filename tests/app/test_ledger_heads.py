"""The ledger's own key and its daily head in a data folder."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.app.installation import Installation
from orchestrator.app.ledger_heads import open_key, public_keys, seal_day
from orchestrator.ledger import Ledger
from orchestrator.ledger.heads import SignedHead, public_key, read_head
from orchestrator.ledger.verify import VerifyReport
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
    assert {path.name for path in public_keys(installation)} == {"head.pub", f"head-{head.key_id[:16]}.pub"}
    assert fetched == head
    assert (await verified(installation, ledger, kept=fetched)).signatures_checked
    await ledger.close()


async def verified(installation: Installation, ledger: Ledger, *, kept: SignedHead | None = None) -> VerifyReport:
    """What `ledger verify` finds by the keys that lie in the data folder."""
    keys = [public_key(path.read_bytes()) for path in public_keys(installation)]
    report = await ledger.verify(keys=keys, kept=kept)
    assert report.ok, report.reason
    return report


@pytest.fixture
async def sealed(tmp_path: Path) -> AsyncIterator[tuple[Installation, Ledger]]:
    """A data folder whose ledger has the head of one day."""
    installation = Installation(tmp_path)
    ledger = Ledger(installation.ledger)
    await ledger.set_dataset_id("one")
    await ledger.append([an_entry(1)])
    await seal_day(installation, ledger, 20_000, at=1)
    yield installation, ledger
    await ledger.close()


async def next_day(installation: Installation, ledger: Ledger, day: int) -> SignedHead:
    await ledger.append([an_entry(day)])
    head = await seal_day(installation, ledger, day, at=day)
    assert head is not None
    return head


async def test_heads_of_a_lost_key_are_proven_still(sealed: tuple[Installation, Ledger]) -> None:
    """After a restore without keys: an alarm of tampering that is none makes people overlook the one that is."""
    installation, ledger = sealed
    before = open_key(installation).key_id
    installation.ledger_key.unlink()
    head = await next_day(installation, ledger, 20_001)
    assert head.key_id != before
    report = await verified(installation, ledger, kept=head)
    assert (report.heads, report.signatures_checked) == (2, True)
    in_force = installation.ledger_key.with_suffix(".pub")
    assert head.signed_by(public_key(in_force.read_bytes())), "the one to be copied elsewhere"


async def test_a_public_half_that_an_earlier_build_laid_is_kept(sealed: tuple[Installation, Ledger]) -> None:
    """Folders from before have `head.pub` alone, and it would be the next restore that loses it."""
    installation, ledger = sealed
    [named] = installation.ledger_key.parent.glob("head-*.pub")
    named.unlink()
    installation.ledger_key.unlink()
    await next_day(installation, ledger, 20_001)
    assert (await verified(installation, ledger)).heads == 2


async def test_heads_are_proven_after_the_first_key_was_put_back_over_the_second(
    sealed: tuple[Installation, Ledger],
) -> None:
    """Keys are found late, and copied over what stands there by then."""
    installation, ledger = sealed
    files = [installation.ledger_key, installation.ledger_key.with_suffix(".pub")]
    first = [path.read_bytes() for path in files]
    installation.ledger_key.unlink()
    await next_day(installation, ledger, 20_001)
    for path, content in zip(files, first, strict=True):
        path.write_bytes(content)
    await next_day(installation, ledger, 20_002)
    assert (await verified(installation, ledger)).heads == 3


@pytest.mark.parametrize("left", [None, b"", b"-----BEGIN"])
async def test_a_public_half_that_is_missing_or_damaged_is_made_good(
    left: bytes | None, sealed: tuple[Installation, Ledger]
) -> None:
    """A crash between the key and its public half would leave heads that nobody can check."""
    installation, ledger = sealed
    for path in public_keys(installation):
        path.unlink()
    if left is not None:
        installation.ledger_key.with_suffix(".pub").write_bytes(left)
    await next_day(installation, ledger, 20_001)
    assert (await verified(installation, ledger)).signatures_checked
