"""The operator port: identity and role in, use case, conversion out."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeAlias, TypeVar

import grpc
from outrider.v1 import (
    case_pb2,
    case_pb2_grpc,
    fleet_pb2,
    fleet_pb2_grpc,
    release_pb2,
    release_pb2_grpc,
    rollout_pb2,
    rollout_pb2_grpc,
)

from orchestrator.engine.progress import AbortRequested, PauseRequested, ResumeRequested
from orchestrator.model.ids import VEHICLE_ID_PATTERN, VehicleId
from orchestrator.rpc import convert
from orchestrator.rpc.identity import IdentityReader
from orchestrator.service.errors import InvalidInputError, Violation
from orchestrator.service.fleet import FleetDesk
from orchestrator.service.releases import ReleaseDesk, version_of
from orchestrator.service.rollouts import Request, RolloutDesk, rollout_id_of

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
ChangeRequest = rollout_pb2.PauseRolloutRequest | rollout_pb2.ResumeRolloutRequest | rollout_pb2.AbortRolloutRequest
Item = TypeVar("Item")
PAGE_DEFAULT = 100
PAGE_MAX = 1000
PAGE_TOKEN_PATTERN = re.compile(r"[0-9]{0,9}")


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


class ReleaseServicer(release_pb2_grpc.ReleaseServiceServicer):
    """Releases."""

    def __init__(self, desk: ReleaseDesk, identities: IdentityReader) -> None:
        self._desk = desk
        self._identities = identities

    async def CreateRelease(  # noqa: N802 - gRPC's name
        self, request: release_pb2.CreateReleaseRequest, context: Context
    ) -> release_pb2.Release:
        """Register a signed release."""
        operator = self._identities.operator(context.auth_context(), "operator")
        release = convert.release_in(request.release)
        return convert.release(await self._desk.create(release, actor=operator.name, reason=request.reason))

    async def GetRelease(  # noqa: N802 - gRPC's name
        self, request: release_pb2.GetReleaseRequest, context: Context
    ) -> release_pb2.Release:
        """One release."""
        self._identities.operator(context.auth_context(), "viewer")
        return convert.release(await self._desk.get(version_of(request.name)))

    async def ListReleases(  # noqa: N802 - gRPC's name
        self, request: release_pb2.ListReleasesRequest, context: Context
    ) -> release_pb2.ListReleasesResponse:
        """Releases, newest first."""
        self._identities.operator(context.auth_context(), "viewer")
        releases, following = page(await self._desk.list(), request.page_size, request.page_token)
        return release_pb2.ListReleasesResponse(
            releases=[convert.release(release) for release in releases], next_page_token=following
        )


class RolloutServicer(rollout_pb2_grpc.RolloutServiceServicer):
    """Rollouts."""

    def __init__(self, desk: RolloutDesk, identities: IdentityReader) -> None:
        self._desk = desk
        self._identities = identities

    async def PreviewRollout(  # noqa: N802 - gRPC's name
        self, request: rollout_pb2.PreviewRolloutRequest, context: Context
    ) -> rollout_pb2.PreviewRolloutResponse:
        """What a plan would do."""
        self._identities.operator(context.auth_context(), "viewer")
        return convert.preview(*await self._desk.preview(request.plan))

    async def CreateRollout(  # noqa: N802 - gRPC's name
        self, request: rollout_pb2.CreateRolloutRequest, context: Context
    ) -> rollout_pb2.Rollout:
        """Start a rollout."""
        operator = self._identities.operator(context.auth_context(), "operator")
        rollout = await self._desk.create(
            request.plan,
            rollout_id=request.rollout_id,
            request_id=request.request_id,
            actor=operator.name,
            reason=request.reason,
        )
        return convert.rollout(await self._desk.view(rollout.rollout_id))

    async def GetRollout(  # noqa: N802 - gRPC's name
        self, request: rollout_pb2.GetRolloutRequest, context: Context
    ) -> rollout_pb2.Rollout:
        """One rollout with its counts."""
        self._identities.operator(context.auth_context(), "viewer")
        return convert.rollout(await self._desk.view(rollout_id_of(request.name)))

    async def ListRollouts(  # noqa: N802 - gRPC's name
        self, request: rollout_pb2.ListRolloutsRequest, context: Context
    ) -> rollout_pb2.ListRolloutsResponse:
        """Rollouts, newest first."""
        self._identities.operator(context.auth_context(), "viewer")
        views, following = page(await self._desk.views(), request.page_size, request.page_token)
        return rollout_pb2.ListRolloutsResponse(
            rollouts=[convert.rollout(view) for view in views], next_page_token=following
        )

    async def WatchRollout(  # noqa: N802 - gRPC's name
        self, request: rollout_pb2.WatchRolloutRequest, context: Context
    ) -> AsyncIterator[rollout_pb2.Rollout]:
        """A rollout each time it changed."""
        self._identities.operator(context.auth_context(), "viewer")
        async for view in self._desk.watch(rollout_id_of(request.name)):
            yield convert.rollout(view)

    async def PauseRollout(  # noqa: N802 - gRPC's name
        self, request: rollout_pb2.PauseRolloutRequest, context: Context
    ) -> rollout_pb2.Rollout:
        """Stop grants and permits."""
        operator = self._identities.operator(context.auth_context(), "operator")
        return await self._change(request, PauseRequested(operator.name, request.reason))

    async def ResumeRollout(  # noqa: N802 - gRPC's name
        self, request: rollout_pb2.ResumeRolloutRequest, context: Context
    ) -> rollout_pb2.Rollout:
        """Go on."""
        operator = self._identities.operator(context.auth_context(), "operator")
        return await self._change(request, ResumeRequested(operator.name, request.reason))

    async def AbortRollout(  # noqa: N802 - gRPC's name
        self, request: rollout_pb2.AbortRolloutRequest, context: Context
    ) -> rollout_pb2.Rollout:
        """End it."""
        operator = self._identities.operator(context.auth_context(), "operator")
        return await self._change(request, AbortRequested(operator.name, request.reason))

    async def _change(self, request: ChangeRequest, wanted: Request) -> rollout_pb2.Rollout:
        rollout = await self._desk.request(
            rollout_id_of(request.name), wanted, etag=request.etag, request_id=request.request_id
        )
        return convert.rollout(await self._desk.view(rollout.rollout_id))


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


def page(items: Sequence[Item], page_size: int, page_token: str) -> tuple[Sequence[Item], str]:
    """A page of a short list and the token of the next.

    Raises:
        InvalidInputError: size or token is none.
    """
    if not 0 <= page_size <= PAGE_MAX or not PAGE_TOKEN_PATTERN.fullmatch(page_token):
        raise InvalidInputError("page_size or page_token is not one that this server gave", reason="PAGE_MALFORMED")
    begin = int(page_token or "0")
    end = begin + (page_size or PAGE_DEFAULT)
    return items[begin:end], str(end) if end < len(items) else ""


def checked_vehicle_id(value: str) -> VehicleId:
    """A vehicle id, or a refusal.

    Raises:
        InvalidInputError: it is none.
    """
    if not VEHICLE_ID_PATTERN.fullmatch(value):
        raise convert.malformed([Violation("vehicle_id", f"`{value[:80]}` is no vehicle id")])
    return VehicleId(value)


def vehicle_id_of(name: str) -> VehicleId:
    """The id in a resource name `vehicles/{vehicle_id}`.

    Raises:
        InvalidInputError: it is no such name.
    """
    prefix, _, value = name.partition("/")
    if prefix != "vehicles":
        raise InvalidInputError(f"name must be vehicles/ID, not `{name[:80]}`", reason="NAME_MALFORMED")
    return checked_vehicle_id(value)


def required(reason: str) -> str:
    """A reason, or a refusal.

    Raises:
        InvalidInputError: it is empty.
    """
    if not reason.strip():
        raise InvalidInputError(
            "a reason is required", reason="REASON_MISSING", remedy="say why with --reason; it lands in the ledger"
        )
    return reason
