"""The inventory on the operator port: identity and role in, use case, conversion out."""

from __future__ import annotations

from outrider.v1 import fleet_pb2, fleet_pb2_grpc

from orchestrator.rpc import convert
from orchestrator.rpc.identity import IdentityReader
from orchestrator.rpc.operator_requests import Context, checked_vehicle_id, required, vehicle_id_of
from orchestrator.service.fleet import FleetDesk
from orchestrator.service.rollouts import rollout_id_of


class FleetServicer(fleet_pb2_grpc.FleetServiceServicer):
    """The inventory."""

    def __init__(self, desk: FleetDesk, identities: IdentityReader) -> None:
        self._desk = desk
        self._identities = identities

    async def ImportVehicles(  # noqa: N802 - gRPC's name
        self, request: fleet_pb2.ImportVehiclesRequest, context: Context
    ) -> fleet_pb2.ImportVehiclesResponse:
        """Add or replace vehicles."""
        operator = self._identities.operator(context.auth_context(), "operator")
        outcome = await self._desk.import_csv(
            request.csv, validate_only=request.validate_only, actor=operator.name, reason=request.reason
        )
        return fleet_pb2.ImportVehiclesResponse(
            added_count=outcome.added, changed_count=outcome.changed, unchanged_count=outcome.unchanged
        )

    async def CreateEnrollmentTokens(  # noqa: N802 - gRPC's name
        self, request: fleet_pb2.CreateEnrollmentTokensRequest, context: Context
    ) -> fleet_pb2.CreateEnrollmentTokensResponse:
        """Single-use tokens."""
        operator = self._identities.operator(context.auth_context(), "operator")
        tokens = await self._desk.create_tokens(
            [checked_vehicle_id(value) for value in request.vehicle_ids], actor=operator.name, reason=request.reason
        )
        return fleet_pb2.CreateEnrollmentTokensResponse(
            tokens=[
                fleet_pb2.EnrollmentToken(
                    vehicle_id=token.vehicle_id, token=token.token, expire_time=convert.timestamp(token.expires_ms)
                )
                for token in tokens
            ]
        )

    async def ListVehicles(  # noqa: N802 - gRPC's name
        self, request: fleet_pb2.ListVehiclesRequest, context: Context
    ) -> fleet_pb2.ListVehiclesResponse:
        """A page of vehicles."""
        self._identities.operator(context.auth_context(), "viewer")
        records, following = await self._desk.page(
            page_token=request.page_token,
            page_size=request.page_size,
            region=request.region,
            cohort=request.cohort,
        )
        return fleet_pb2.ListVehiclesResponse(
            vehicles=[
                convert.vehicle(record, revoked=self._desk.revoked(record.vehicle.vehicle_id)) for record in records
            ],
            next_page_token=following,
            registered_count=await self._desk.registered(),
        )

    async def GetVehicle(  # noqa: N802 - gRPC's name
        self, request: fleet_pb2.GetVehicleRequest, context: Context
    ) -> fleet_pb2.Vehicle:
        """One vehicle with its attempts."""
        self._identities.operator(context.auth_context(), "viewer")
        vehicle_id = vehicle_id_of(request.name)
        record = await self._desk.vehicle(vehicle_id)
        return convert.vehicle(
            record, revoked=self._desk.revoked(vehicle_id), attempts=await self._desk.attempts(vehicle_id)
        )

    async def ExplainVehicle(  # noqa: N802 - gRPC's name
        self, request: fleet_pb2.ExplainVehicleRequest, context: Context
    ) -> fleet_pb2.ExplainVehicleResponse:
        """Why a vehicle does or does not get an update."""
        self._identities.operator(context.auth_context(), "viewer")
        rollout_id = rollout_id_of(request.rollout) if request.rollout else None
        answers = await self._desk.explain(vehicle_id_of(request.name), rollout_id)
        return fleet_pb2.ExplainVehicleResponse(
            explanations=[convert.explanation(found, answer) for found, answer in answers]
        )

    async def RevokeVehicle(  # noqa: N802 - gRPC's name
        self, request: fleet_pb2.RevokeVehicleRequest, context: Context
    ) -> fleet_pb2.Vehicle:
        """Refuse a vehicle's certificates."""
        operator = self._identities.operator(context.auth_context(), "operator")
        record = await self._desk.revoke(
            vehicle_id_of(request.name), actor=operator.name, reason=required(request.reason)
        )
        return convert.vehicle(record, revoked=True)
