"""The ledger over the operator port: filters, pages, and what an operator can get wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from outrider.v1 import ledger_pb2

from orchestrator.ledger import EntryFilter, Ledger, LedgerReader
from orchestrator.rpc.identity import IdentityReader
from orchestrator.rpc.ledger_servicer import LedgerServicer
from orchestrator.service.errors import ForbiddenError, InvalidInputError, StateError, TryLaterError
from orchestrator.service.history import HistoryDesk, narrowed
from tests.ledger.entries import an_entry
from tests.rpc.contexts import TRUST_DOMAIN, AContext, operator_certificate, vehicle_certificate

ATTEMPT = "spring.v1.1"


@pytest.fixture
def servicer(tmp_path: Path) -> LedgerServicer:
    return a_servicer(tmp_path)


def a_servicer(folder: Path) -> LedgerServicer:
    """A servicer over the ledger of a folder."""
    identities = IdentityReader(TRUST_DOMAIN, lambda vehicle_id: False)
    return LedgerServicer(HistoryDesk(LedgerReader(folder / "ledger.sqlite3")), identities)


async def asked(servicer: LedgerServicer, **wanted: Any) -> ledger_pb2.ListLedgerEntriesResponse:
    """The answer to a viewer."""
    context: Any = AContext(certificate=operator_certificate("eve", "viewer"))
    return await servicer.ListLedgerEntries(ledger_pb2.ListLedgerEntriesRequest(**wanted), context)


async def test_pages_go_on_where_they_ended_although_entries_are_added(tmp_path: Path) -> None:
    """Somebody reads while the fleet talks: nothing may be shown twice or left out."""
    servicer = a_servicer(tmp_path)
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    await ledger.append([an_entry(number) for number in (1, 2, 3)])
    first = await asked(servicer, page_size=2, attempt_id=ATTEMPT)
    await ledger.append([an_entry(4)])
    second = await asked(servicer, page_size=2, attempt_id=ATTEMPT, page_token=first.next_page_token)
    assert [entry.number for page in (first, second) for entry in page.entries] == [1, 2, 3, 4]
    assert (bool(first.next_page_token), second.next_page_token) == (True, "")
    await ledger.close()


async def test_an_entry_carries_all_that_was_recorded(tmp_path: Path, servicer: LedgerServicer) -> None:
    """The answer is evidence: kind, time, hash and every input, numbers as numbers."""
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    data = {"rollout_id": "spring", "epoch": 3, "verdicts": [{"inputs": {"evalue": 1.5}}], "waived": []}
    await ledger.append([an_entry(1, kind="rollout_held", data=data)])
    await ledger.close()
    [entry] = (await asked(servicer, rollout="rollouts/spring", decisions_only=True)).entries
    assert (entry.number, entry.kind, entry.create_time.ToMilliseconds()) == (1, "rollout_held", an_entry(1).at)
    assert len(bytes.fromhex(entry.hash)) == 32
    assert MessageToDict(entry.data) == data


def test_an_attempt_is_looked_up_by_its_vehicle() -> None:
    """The ledger has no index by attempt: without the vehicle, all of it would be read."""
    found = narrowed(EntryFilter(attempt_id=ATTEMPT))
    assert (found.vehicle_id, found.rollout_id, found.attempt_id) == ("v1", "spring", ATTEMPT)


@pytest.mark.parametrize(
    "wanted",
    [
        {"rollout": "spring"},
        {"vehicle": "v1"},
        {"attempt_id": "spring"},
        {"attempt_id": ATTEMPT, "vehicle": "vehicles/v2"},
        {"attempt_id": ATTEMPT, "rollout": "rollouts/autumn"},
        {"page_size": -1},
        {"page_token": "x"},
    ],
)
async def test_what_cannot_be_asked_is_refused(servicer: LedgerServicer, wanted: dict[str, Any]) -> None:
    """A typo must not look like a vehicle without a history."""
    with pytest.raises(InvalidInputError):
        await asked(servicer, **wanted)


async def test_only_operators_read_it(servicer: LedgerServicer) -> None:
    """It tells of every vehicle."""
    context: Any = AContext(certificate=vehicle_certificate("v1"))
    with pytest.raises(ForbiddenError):
        await servicer.ListLedgerEntries(ledger_pb2.ListLedgerEntriesRequest(), context)


async def test_unreadable_ledger_is_said_by_what_helps(tmp_path: Path, servicer: LedgerServicer) -> None:
    """One that is not there yet is asked again, one that is broken needs a person."""
    with pytest.raises(TryLaterError):
        await asked(servicer)
    (tmp_path / "ledger.sqlite3").write_bytes(b"not a database at all, but long enough to look like one" * 20)
    with pytest.raises(StateError, match="not a ledger"):
        await asked(servicer)
