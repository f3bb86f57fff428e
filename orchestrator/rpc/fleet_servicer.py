"""The inventory on the operator port: identity and role in, use case, conversion out."""

from __future__ import annotations

from collections.abc import Sequence

from outrider.v1 import fleet_pb2, fleet_pb2_grpc

from orchestrator.model.ids import VehicleId
from orchestrator.rpc import convert
from orchestrator.rpc.identity import IdentityReader
from orchestrator.rpc.operator_requests import Context, checked_vehicle_id, required, vehicle_id_of
from orchestrator.service.explain import ExplainDesk
from orchestrator.service.fleet import FleetDesk
from orchestrator.service.fleet_care import Amendment, FleetCareDesk
from orchestrator.service.rollouts import rollout_id_of


class FleetServicer(fleet_pb2_grpc.FleetServiceServicer):
    """The inventory."""

    def __init__(
        self, *, desk: FleetDesk, care: FleetCareDesk, explain: ExplainDesk, identities: IdentityReader
    ) -> None:
        self._desk = desk
        self._care = care
        self._explain = explain
        self._identities = identities

    async def ImportVehicles(  # noqa: N802 - gRPC's name
        self, request: fleet_pb2.ImportVehiclesRequest, context: Context
    ) -> fleet_pb2.ImportVehiclesResponse:
        """Add or replace vehicles."""
        operator = self._identities.operator(context.auth_context(), "operator")
        reason = request.reason if request.validate_only else required(request.reason)
        outcome = await self._desk.import_csv(
            request.csv, validate_only=request.validate_only, actor=operator.name, reason=reason
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
            [checked_vehicle_id(value) for value in request.vehicle_ids],
            actor=operator.name,
            reason=required(request.reason),
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
            filter_text=request.filter,
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
        found = await self._explain.explain(vehicle_id_of(request.name), rollout_id)
        return fleet_pb2.ExplainVehicleResponse(
            explanations=[convert.explanation(each) for each in found.explanations], summary=found.summary
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

    async def CountVehicles(  # noqa: N802 - gRPC's name
        self, request: fleet_pb2.CountVehiclesRequest, context: Context
    ) -> fleet_pb2.CountVehiclesResponse:
        """How many share values."""
        self._identities.operator(context.auth_context(), "viewer")
        counts = await self._care.count(request.group_by, request.filter)
        return fleet_pb2.CountVehiclesResponse(
            counts=[fleet_pb2.VehicleCount(values=each.values, count=each.count) for each in counts],
            total=sum(each.count for each in counts),
        )

    async def UpdateVehicles(  # noqa: N802 - gRPC's name
        self, request: fleet_pb2.UpdateVehiclesRequest, context: Context
    ) -> fleet_pb2.UpdateVehiclesResponse:
        """Change region, cohort, zone or tags."""
        operator = self._identities.operator(context.auth_context(), "operator")
        outcome = await self._care.amend(
            vehicle_ids_of(request.vehicle_ids),
            Amendment(
                region=request.region,
                cohort=request.cohort,
                zone=request.zone,
                add_tags=tuple(request.add_tags),
                remove_tags=tuple(request.remove_tags),
            ),
            actor=operator.name,
            reason=required(request.reason),
        )
        return fleet_pb2.UpdateVehiclesResponse(changed_count=outcome.changed, unchanged_count=outcome.unchanged)

    async def RemoveVehicles(  # noqa: N802 - gRPC's name
        self, request: fleet_pb2.RemoveVehiclesRequest, context: Context
    ) -> fleet_pb2.RemoveVehiclesResponse:
        """Take vehicles out of the inventory."""
        operator = self._identities.operator(context.auth_context(), "operator")
        removed = await self._care.remove(
            vehicle_ids_of(request.vehicle_ids), actor=operator.name, reason=required(request.reason)
        )
        return fleet_pb2.RemoveVehiclesResponse(removed_count=removed)

    async def ExcludeVehicles(  # noqa: N802 - gRPC's name
        self, request: fleet_pb2.ExcludeVehiclesRequest, context: Context
    ) -> fleet_pb2.ExcludeVehiclesResponse:
        """Keep vehicles out of every rollout, or of one."""
        operator = self._identities.operator(context.auth_context(), "operator")
        changed = await self._care.exclude(
            vehicle_ids_of(request.vehicle_ids),
            rollout_id_of(request.rollout) if request.rollout else None,
            actor=operator.name,
            reason=required(request.reason),
        )
        return fleet_pb2.ExcludeVehiclesResponse(changed_count=changed)

    async def ReadmitVehicles(  # noqa: N802 - gRPC's name
        self, request: fleet_pb2.ReadmitVehiclesRequest, context: Context
    ) -> fleet_pb2.ReadmitVehiclesResponse:
        """Take such an exclusion back."""
        operator = self._identities.operator(context.auth_context(), "operator")
        changed = await self._care.readmit(
            vehicle_ids_of(request.vehicle_ids),
            rollout_id_of(request.rollout) if request.rollout else None,
            actor=operator.name,
            reason=required(request.reason),
        )
        return fleet_pb2.ReadmitVehiclesResponse(changed_count=changed)


def vehicle_ids_of(values: Sequence[str]) -> Sequence[VehicleId]:
    """Vehicle ids, or a refusal."""
    return [checked_vehicle_id(value) for value in values]
