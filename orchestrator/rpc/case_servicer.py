"""Cases on the operator port: identity and role in, use case, conversion out."""

from __future__ import annotations

from outrider.v1 import case_pb2, case_pb2_grpc

from orchestrator.model.ids import AttemptId
from orchestrator.rpc import convert
from orchestrator.rpc.identity import IdentityReader
from orchestrator.rpc.operator_requests import Context, page, required
from orchestrator.service.cases import CaseDesk
from orchestrator.service.errors import InvalidInputError
from orchestrator.service.rollouts import rollout_id_of


class CaseServicer(case_pb2_grpc.CaseServiceServicer):
    """Vehicles that an update hurt, or may have."""

    def __init__(self, desk: CaseDesk, identities: IdentityReader) -> None:
        self._desk = desk
        self._identities = identities

    async def ListCases(  # noqa: N802 - gRPC's name
        self, request: case_pb2.ListCasesRequest, context: Context
    ) -> case_pb2.ListCasesResponse:
        """Cases, newest first."""
        self._identities.operator(context.auth_context(), "viewer")
        rollout_id = rollout_id_of(request.rollout) if request.rollout else None
        found = await self._desk.list(rollout_id, settled=request.show_settled)
        cases, following = page(found, request.page_size, request.page_token)
        return case_pb2.ListCasesResponse(
            cases=[convert.case(case) for case in cases],
            next_page_token=following,
            open_count=sum(case.settled_at is None for case in found),
        )

    async def GetCase(  # noqa: N802 - gRPC's name
        self, request: case_pb2.GetCaseRequest, context: Context
    ) -> case_pb2.Case:
        """One case, and what could be done."""
        self._identities.operator(context.auth_context(), "viewer")
        found = await self._desk.get(attempt_id_of(request.name))
        return convert.case(found.case, advice=found.advice)

    async def CloseCase(  # noqa: N802 - gRPC's name
        self, request: case_pb2.CloseCaseRequest, context: Context
    ) -> case_pb2.Case:
        """A person settles a case."""
        operator = self._identities.operator(context.auth_context(), "operator")
        case = await self._desk.close(attempt_id_of(request.name), actor=operator.name, reason=required(request.reason))
        return convert.case(case)


def attempt_id_of(name: str) -> AttemptId:
    """The attempt in a resource name `cases/{attempt_id}`.

    Raises:
        InvalidInputError: it is no such name.
    """
    prefix, _, value = name.partition("/")
    if prefix != "cases" or not value:
        raise InvalidInputError(f"name must be cases/ATTEMPT, not `{name[:80]}`", reason="NAME_MALFORMED")
    return AttemptId(value)
