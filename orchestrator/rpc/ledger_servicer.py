"""The ledger on the operator port: identity and role in, use case, conversion out."""

from __future__ import annotations

from outrider.v1 import ledger_pb2, ledger_pb2_grpc

from orchestrator.ledger import EntryFilter
from orchestrator.rpc import convert
from orchestrator.rpc.identity import IdentityReader
from orchestrator.rpc.operator_requests import Context, page_bounds, vehicle_id_of
from orchestrator.service.history import HistoryDesk
from orchestrator.service.rollouts import rollout_id_of


class LedgerServicer(ledger_pb2_grpc.LedgerServiceServicer):
    """The append-only record."""

    def __init__(self, desk: HistoryDesk, identities: IdentityReader) -> None:
        self._desk = desk
        self._identities = identities

    async def ListLedgerEntries(  # noqa: N802 - gRPC's name
        self, request: ledger_pb2.ListLedgerEntriesRequest, context: Context
    ) -> ledger_pb2.ListLedgerEntriesResponse:
        """Entries about one rollout, vehicle or attempt, or all, oldest first."""
        self._identities.operator(context.auth_context(), "viewer")
        wanted = EntryFilter(
            rollout_id=rollout_id_of(request.rollout) if request.rollout else "",
            vehicle_id=vehicle_id_of(request.vehicle) if request.vehicle else "",
            attempt_id=request.attempt_id,
            decisions_only=request.decisions_only,
        )
        # The token is a place in the chain, not in the page: entries that are added meanwhile shift nothing.
        after, count = page_bounds(request.page_size, request.page_token)
        found = await self._desk.page(wanted, after=after, count=count)
        return ledger_pb2.ListLedgerEntriesResponse(
            entries=[convert.ledger_entry(entry) for entry in found.entries],
            next_page_token="" if found.following is None else str(found.following),
            archived_entries=found.archived,
        )
