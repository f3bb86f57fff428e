"""One scenario's server on real sockets: enrolment and vehicle ports with TLS 1.3, and images by range over HTTPS.

Owns sockets and certificates, and carries out what `mischief` ordered; answers come from `desk`. It can go down and
come up again on the same ports, as a server that dies does.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any, NoReturn

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from outrider.v1 import enrollment_pb2, vehicle_pb2
from outrider.v1.enrollment_pb2_grpc import EnrollmentServiceServicer, add_EnrollmentServiceServicer_to_server
from outrider.v1.vehicle_pb2_grpc import VehicleServiceServicer, add_VehicleServiceServicer_to_server

from agent_sim.clock import machine_date, machine_ms
from agent_sim.conform.desk import Desk, ManifestRefusedError
from agent_sim.conform.images import ImageServer
from agent_sim.conform.mischief import Fault, Mischief
from agent_sim.conform.tape import AUTHORIZE, CHECK_IN, ENROLL, FETCH, RENEW, SUBMIT, SeenCall, Tape
from agent_sim.conform.world import TRUST_DOMAIN, VEHICLE_LIFE, ConformVehicle, World
from signing.errors import CertificateRequestError, SigningError
from signing.pki import Authority, identity_of

_HANG_S = 300.0
FLEET_TIME_KEY = "outrider-fleet-time-ms"


class ScenarioServer(VehicleServiceServicer, EnrollmentServiceServicer):
    """Serves one vehicle.

    Args:
        world: authorities and images.
        vehicle: whom.
        desk: answers.
        mischief: what goes wrong.
        tape: where everything is recorded.
    """

    def __init__(self, world: World, vehicle: ConformVehicle, desk: Desk, mischief: Mischief, tape: Tape) -> None:
        self._world = world
        self._vehicle = vehicle
        self._desk = desk
        self._mischief = mischief
        self._tape = tape
        self.images = ImageServer(world, tape)
        self.life = VEHICLE_LIFE
        """Of certificates that are issued from now on."""
        self.stranger = False
        """Show a certificate of an authority that nobody was told of, from the next start on."""
        self._enrolled: tuple[str, bytes, bytes] | None = None
        """Token, request, chain of the first enrolment."""
        self._ports = [0, 0]
        self._up: AsyncExitStack | None = None

    @property
    def endpoints(self) -> tuple[str, str]:
        """`host:port` of the enrolment port and the vehicle port."""
        return f"127.0.0.1:{self._ports[0]}", f"127.0.0.1:{self._ports[1]}"

    async def start(self) -> None:
        """Come up; on the same ports as before.

        Raises:
            OSError: a port cannot be had.
        """
        self._up = AsyncExitStack()
        chain, key = self._certificate()
        enrollment = grpc.ssl_server_credentials([(key, chain)])
        client_ca = self._world.vehicle_authority.certificate_pem
        vehicles = grpc.ssl_server_credentials([(key, chain)], client_ca, require_client_auth=True)
        for number, credentials in enumerate((enrollment, vehicles)):
            server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
            if number == 0:
                add_EnrollmentServiceServicer_to_server(self, server)
            else:
                add_VehicleServiceServicer_to_server(self, server)
            self._ports[number] = server.add_secure_port(f"127.0.0.1:{self._ports[number]}", credentials)
            await server.start()
            self._up.push_async_callback(server.stop, None)
        await self.images.start()
        self._up.push_async_callback(self.images.stop)
        self._desk.base_urls = [self.images.base_url]
        self._tape.mark("server up")

    async def stop(self) -> None:
        """Go down like a process that is killed: connections break."""
        up, self._up = self._up, None
        if up is not None:
            await up.aclose()
            self._tape.mark("server down")

    def _certificate(self) -> tuple[bytes, bytes]:
        if not self.stranger:
            return self._world.server_chain, self._world.server_key
        authority = Authority.create("a stranger", machine_date(), VEHICLE_LIFE)
        return authority.issue_server(names=["localhost", "127.0.0.1"], now=machine_date(), life=VEHICLE_LIFE)

    # Calls

    async def CheckIn(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        """Answer a poll."""
        return await self._call(CHECK_IN, request, context)

    async def SubmitManifest(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        """Verify and keep a manifest."""
        return await self._call(SUBMIT, request, context)

    async def AuthorizeInstall(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        """Permit or refuse."""
        return await self._call(AUTHORIZE, request, context)

    async def FetchMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        """Exact bytes of metadata."""
        return await self._call(FETCH, request, context)

    async def RenewCertificate(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        """A new certificate."""
        return await self._call(RENEW, request, context)

    async def Enroll(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        """The first certificate."""
        return await self._call(ENROLL, request, context)

    async def _call(self, method: str, request: Any, context: Any) -> Any:
        seen = self._see(method, request, context)
        fault = self._mischief.strike(method, request)
        try:
            if fault is not None:
                await self._before(fault, seen, context)
            reply = await self._answer(method, request, context, seen)
            if fault is not None and fault.change is not None:
                reply = fault.change(reply)
            if fault is not None and fault.lose_reply:
                await self._refuse(seen, context, grpc.StatusCode.UNAVAILABLE, lost=True)
        except asyncio.CancelledError:
            seen.status, seen.ended_ms = seen.status or "CANCELLED", machine_ms()
            self._tape.touch()
            raise
        context.set_trailing_metadata(((FLEET_TIME_KEY, str(self._desk.fleet_ms())),))
        seen.reply, seen.ended_ms = reply, machine_ms()
        self._tape.touch()
        return reply

    def _see(self, method: str, request: Any, context: Any) -> SeenCall:
        auth = context.auth_context()
        certificate = b"".join(auth.get("x509_pem_cert", ())[:1])
        tls = b"".join(auth.get("ssl_tls_version", ())[:1]).decode()
        seen = SeenCall(method, machine_ms(), request, self._tape.boot, certificate, tls)
        self._tape.add(seen)
        return seen

    async def _before(self, fault: Fault, seen: SeenCall, context: Any) -> None:
        if fault.hang or fault.delay_s:
            await asyncio.sleep(_HANG_S if fault.hang else fault.delay_s)
        if fault.status is not None:
            await self._refuse(seen, context, fault.status, reason=fault.reason, retry_s=fault.retry_s)

    async def _refuse(
        self,
        seen: SeenCall,
        context: Any,
        code: grpc.StatusCode,
        *,
        reason: str = "",
        retry_s: float | None = None,
        message: str = "",
        lost: bool = False,
    ) -> NoReturn:
        seen.status, seen.ended_ms = "LOST" if lost else code.name, machine_ms()
        self._tape.touch()
        details = []
        if reason:
            details.append(_packed(error_details_pb2.ErrorInfo(reason=reason, domain="outrider")))
        if retry_s is not None:
            nanos = round(retry_s % 1 * 1e9)
            delay = duration_pb2.Duration(seconds=int(retry_s), nanos=nanos)
            details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
        status = status_pb2.Status(
            code=code.value[0], message=message or f"the server says {code.name}", details=details
        )
        await context.abort_with_status(rpc_status.to_status(status))
        raise AssertionError("abort_with_status raises")

    async def _answer(self, method: str, request: Any, context: Any, seen: SeenCall) -> Any:
        if method == ENROLL:
            return await self._enroll(request, context, seen)
        try:
            caller = identity_of(seen.certificate, trust_domain=TRUST_DOMAIN).name
        except SigningError as error:
            await self._refuse(seen, context, grpc.StatusCode.PERMISSION_DENIED, message=str(error))
        if caller != self._vehicle.vehicle_id:
            await self._refuse(seen, context, grpc.StatusCode.PERMISSION_DENIED, reason="IDENTITY_MISMATCH")
        match method:
            case "CheckIn":
                return self._desk.check_in(request)
            case "AuthorizeInstall":
                return self._desk.authorize(request)
            case "SubmitManifest":
                return await self._submit(request, context, seen)
            case "FetchMetadata":
                files = self._desk.fetch(request)
                if files is None:
                    await self._refuse(seen, context, grpc.StatusCode.NOT_FOUND, reason="METADATA_UNKNOWN")
                return files
            case _:
                chain = await self._issue(request.csr, context, seen)
                return vehicle_pb2.RenewCertificateResponse(certificate_chain=chain, server_ca=self._server_ca)

    async def _submit(self, request: Any, context: Any, seen: SeenCall) -> Any:
        try:
            return self._desk.submit(request)
        except ManifestRefusedError as error:
            await self._refuse(
                seen, context, grpc.StatusCode.INVALID_ARGUMENT, reason="MANIFEST_REFUSED", message=str(error)
            )

    async def _enroll(self, request: Any, context: Any, seen: SeenCall) -> Any:
        known = self._vehicle.vehicle
        again = self._enrolled is not None and self._enrolled[:2] == (request.token, request.csr)
        spent = self._enrolled is not None and not again
        if request.vehicle_id != known.vehicle_id or request.token != known.token or spent:
            await self._refuse(seen, context, grpc.StatusCode.PERMISSION_DENIED, reason="TOKEN_REFUSED")
        if self._enrolled is not None and again:
            chain = self._enrolled[2]
        else:
            chain = await self._issue(request.csr, context, seen)
            self._enrolled = (request.token, request.csr, chain)
        return enrollment_pb2.EnrollResponse(certificate_chain=chain, server_ca=self._server_ca)

    async def _issue(self, csr: bytes, context: Any, seen: SeenCall) -> bytes:
        try:
            return self._world.vehicle_authority.issue_vehicle(
                csr,
                trust_domain=TRUST_DOMAIN,
                vehicle_id=self._vehicle.vehicle_id,
                now=machine_date(),
                life=self.life,
            )
        except CertificateRequestError as error:
            await self._refuse(
                seen, context, grpc.StatusCode.INVALID_ARGUMENT, reason="CSR_REFUSED", message=str(error)
            )

    @property
    def _server_ca(self) -> bytes:
        return self._world.server_authority.certificate_pem


def _packed(message: Any) -> any_pb2.Any:
    wrapped = any_pb2.Any()
    wrapped.Pack(message)
    return wrapped


def first_certificate(chain: bytes) -> bytes:
    """The leaf of a chain, as the auth context gives it."""
    return x509.load_pem_x509_certificates(chain)[0].public_bytes(Encoding.PEM)
