"""The vehicle's calls over gRPC: one attempt each, with a deadline; whatever happens comes back as an agent's input."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Protocol, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message
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
from agent_sim.clock import FleetClock, machine_ms
from agent_sim.messages import Repository
from agent_sim.metadata_calls import MetadataReader
from agent_sim.renewal import Renewed
from agent_sim.tally import Tally
from agent_sim.wire import authorize_request, check_in_request, from_duration, from_timestamp, permit_reply, poll_reply

if TYPE_CHECKING:
    from outrider.v1.vehicle_pb2_grpc import VehicleServiceAsyncStub

_Request = TypeVar("_Request", bound=Message, contravariant=True)
_Response = TypeVar("_Response", bound=Message, covariant=True)
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


class _Method(Protocol[_Request, _Response]):
    def __call__(self, request: _Request, /, *, timeout: float) -> Awaitable[_Response]: ...


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
        self._failed: set[str] = set()
        """Vehicles whose last call failed."""

    async def make(self, vehicle_id: str, tls: TlsFiles, call: Call) -> Input:
        """Make one call as `vehicle_id`; never raises for what a server or a network can do."""
        self._tally.calls_repeated += vehicle_id in self._failed
        try:
            async with self._pool.stub(vehicle_id, tls) as stub:
                answer = await self._answer(stub, call)
        except grpc.aio.AioRpcError as error:
            self._failed.add(vehicle_id)
            return CallFailed(call.token, refused=error.code() in _REFUSED, retry_after_ms=self._retry_after(error))
        self._failed.discard(vehicle_id)
        return answer

    async def renew(self, vehicle_id: str, tls: TlsFiles, csr: bytes) -> Renewed | None:
        """Ask for a new certificate as `vehicle_id`; None when there is none, whatever the reason."""
        try:
            async with self._pool.stub(vehicle_id, tls) as stub:
                request = pb.RenewCertificateRequest(csr=csr)
                response = await self._count("RenewCertificate", stub.RenewCertificate, request)
        except grpc.aio.AioRpcError:
            return None
        return Renewed(response.certificate_chain, response.server_ca)

    async def _answer(self, stub: VehicleServiceAsyncStub, call: Call) -> Input:
        match call:
            case CheckInCall():
                polled = await self._count("CheckIn", stub.CheckIn, check_in_request(call.poll))
                self._clock.observe(from_timestamp(polled.fleet_time))
                reply = poll_reply(polled)
                self._tally.polls_idle += not call.poll.events and reply.directive is None
                return PollReplied(call.token, reply)
            case SubmitManifestCall():
                manifest = pb.SubmitManifestRequest(manifest=call.content)
                await self._count("SubmitManifest", stub.SubmitManifest, manifest)
                return ManifestReplied(call.token)
            case AuthorizeCall():
                cleared = await self._count("AuthorizeInstall", stub.AuthorizeInstall, authorize_request(call))
                self._clock.observe(from_timestamp(cleared.fleet_time))
                return PermitReplied(call.token, permit_reply(cleared))
            case FetchMetadataCall():
                reader = MetadataReader(lambda request: self._count("FetchMetadata", stub.FetchMetadata, request))
                director = await reader.read(Repository.DIRECTOR, call.director)
                image = await reader.read(Repository.IMAGE, call.image)
                return MetadataFetched(call.token, (*director, *image))

    async def _count(self, method: str, make: _Method[_Request, _Response], request: _Request) -> _Response:
        """One call on the wire.

        Raises:
            AioRpcError: it failed.
        """
        began_ms = machine_ms()
        self._tally.bytes_sent += request.ByteSize()
        try:
            response = await make(request, timeout=self._timeout_s)
        except grpc.aio.AioRpcError as error:
            self._tally.calls[method, error.code().name] += 1
            raise
        self._tally.answered(method, machine_ms() - began_ms)
        self._tally.bytes_received += response.ByteSize()
        return response

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
