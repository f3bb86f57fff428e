"""The vehicle's calls over gRPC: one attempt each, with a deadline; whatever happens comes back as an agent's input."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from outrider.v1 import vehicle_pb2 as pb

from agent_sim.actions import (
    AuthorizeCall,
    Call,
    CallFailed,
    CheckInCall,
    FetchMetadataCall,
    Input,
    ManifestReplied,
    MetadataFetched,
    PermitReplied,
    PollReplied,
    SubmitManifestCall,
)
from agent_sim.channels import ChannelPool, TlsFiles
from agent_sim.clock import FleetClock
from agent_sim.messages import Repository
from agent_sim.metadata_calls import MetadataReader
from agent_sim.renewal import Renewed
from agent_sim.tally import Tally
from agent_sim.wire import authorize_request, check_in_request, from_duration, from_timestamp, permit_reply, poll_reply

if TYPE_CHECKING:
    from outrider.v1.vehicle_pb2_grpc import VehicleServiceAsyncStub

_DETAILS_KEY = "grpc-status-details-bin"
_REFUSED = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.NOT_FOUND,
    }
)
"""Repeating the same call will not help."""


class VehicleCalls:
    """Makes calls for any vehicle.

    Args:
        pool: channels.
        clock: learns fleet time from replies.
        tally: counted into.
        timeout_s: machine time a call may take.
    """

    def __init__(self, pool: ChannelPool, clock: FleetClock, tally: Tally, *, timeout_s: float) -> None:
        self._pool = pool
        self._clock = clock
        self._tally = tally
        self._timeout_s = timeout_s

    async def make(self, vehicle_id: str, tls: TlsFiles, call: Call) -> Input:
        """Make one call as `vehicle_id`; never raises for what a server or a network can do."""
        match call:
            case CheckInCall():
                method, make = "CheckIn", self._check_in(call)
            case SubmitManifestCall():
                method, make = "SubmitManifest", self._submit(call)
            case AuthorizeCall():
                method, make = "AuthorizeInstall", self._authorize(call)
            case FetchMetadataCall():
                method, make = "FetchMetadata", self._fetch_metadata(call)
        try:
            async with self._pool.stub(vehicle_id, tls) as stub:
                answer = await make(stub)
        except grpc.aio.AioRpcError as error:
            self._tally.calls[method, error.code().name] += 1
            return CallFailed(call.token, refused=error.code() in _REFUSED, retry_after_ms=self._retry_after(error))
        self._tally.calls[method, "OK"] += 1
        return answer

    async def renew(self, vehicle_id: str, tls: TlsFiles, csr: bytes) -> Renewed | None:
        """Ask for a new certificate as `vehicle_id`; None when there is none, whatever the reason."""
        try:
            async with self._pool.stub(vehicle_id, tls) as stub:
                response = await stub.RenewCertificate(pb.RenewCertificateRequest(csr=csr), timeout=self._timeout_s)
        except grpc.aio.AioRpcError as error:
            self._tally.calls["RenewCertificate", error.code().name] += 1
            return None
        self._tally.calls["RenewCertificate", "OK"] += 1
        return Renewed(response.certificate_chain, response.server_ca)

    def _check_in(self, call: CheckInCall) -> Callable[[VehicleServiceAsyncStub], Awaitable[Input]]:
        async def make(stub: VehicleServiceAsyncStub) -> Input:
            response = await stub.CheckIn(check_in_request(call.poll), timeout=self._timeout_s)
            self._clock.observe(from_timestamp(response.fleet_time))
            return PollReplied(call.token, poll_reply(response))

        return make

    def _submit(self, call: SubmitManifestCall) -> Callable[[VehicleServiceAsyncStub], Awaitable[Input]]:
        async def make(stub: VehicleServiceAsyncStub) -> Input:
            await stub.SubmitManifest(pb.SubmitManifestRequest(manifest=call.content), timeout=self._timeout_s)
            return ManifestReplied(call.token)

        return make

    def _authorize(self, call: AuthorizeCall) -> Callable[[VehicleServiceAsyncStub], Awaitable[Input]]:
        async def make(stub: VehicleServiceAsyncStub) -> Input:
            response = await stub.AuthorizeInstall(authorize_request(call), timeout=self._timeout_s)
            self._clock.observe(from_timestamp(response.fleet_time))
            return PermitReplied(call.token, permit_reply(response))

        return make

    def _fetch_metadata(self, call: FetchMetadataCall) -> Callable[[VehicleServiceAsyncStub], Awaitable[Input]]:
        async def make(stub: VehicleServiceAsyncStub) -> Input:
            reader = MetadataReader(stub, timeout_s=self._timeout_s)
            director = await reader.read(Repository.DIRECTOR, call.director)
            image = await reader.read(Repository.IMAGE, call.image)
            return MetadataFetched(call.token, (*director, *image))

        return make

    def _retry_after(self, error: grpc.aio.AioRpcError) -> int | None:
        """What an overloaded server asks for: machine time, so it is scaled to the agent's fleet time."""
        for key, value in error.trailing_metadata() or ():
            if key == _DETAILS_KEY and isinstance(value, bytes):
                return self._retry_delay(value)
        return None

    def _retry_delay(self, details: bytes) -> int | None:
        try:
            status = Status.FromString(details)
        except DecodeError:
            return None
        for detail in status.details:
            info = RetryInfo()
            if detail.Unpack(info):
                return self._clock.to_fleet_ms(from_duration(info.retry_delay) / 1000)
        return None
