"""Cases on the operator port: identity and role in, use case, conversion out."""

from __future__ import annotations

from outrider.v1 import case_pb2, case_pb2_grpc

from orchestrator.rpc import convert
from orchestrator.rpc.identity import IdentityReader
from orchestrator.rpc.operator_requests import Context, page
from orchestrator.service.rollouts import RolloutDesk, rollout_id_of


class CaseServicer(case_pb2_grpc.CaseServiceServicer):
    """Vehicles that an update hurt, or may have."""

    def __init__(self, desk: RolloutDesk, identities: IdentityReader) -> None:
        self._desk = desk
        self._identities = identities

    async def ListCases(  # noqa: N802 - gRPC's name
        self, request: case_pb2.ListCasesRequest, context: Context
    ) -> case_pb2.ListCasesResponse:
        """Cases, newest first."""
        self._identities.operator(context.auth_context(), "viewer")
        rollout_id = rollout_id_of(request.rollout) if request.rollout else None
        found = await self._desk.cases(rollout_id, settled=request.show_settled)
        cases, following = page(found, request.page_size, request.page_token)
        return case_pb2.ListCasesResponse(
            cases=[convert.case(case) for case in cases],
            next_page_token=following,
            open_count=sum(case.settled_at is None for case in found),
        )
