"""Entries of the ledger, to the wire."""

from __future__ import annotations

from typing import Any, cast

from google.protobuf.struct_pb2 import Struct
from outrider.v1 import ledger_pb2

from orchestrator.ledger import Recorded
from orchestrator.rpc.convert.wire import timestamp


def ledger_entry(recorded: Recorded) -> ledger_pb2.LedgerEntry:
    """An entry in its place. Bytes of evidence stay in the ledger; their digest is in the data."""
    data = Struct()
    data.update(cast("dict[str, Any]", dict(recorded.entry.data)))
    return ledger_pb2.LedgerEntry(
        number=recorded.seq,
        kind=recorded.entry.kind,
        create_time=timestamp(recorded.entry.at),
        data=data,
        hash=recorded.hash.hex(),
    )
