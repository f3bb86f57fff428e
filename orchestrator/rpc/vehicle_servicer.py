"""The vehicle port and the enrolment port: identity in, use case, conversion out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import grpc
from outrider.v1 import enrollment_pb2, enrollment_pb2_grpc, vehicle_pb2, vehicle_pb2_grpc

from orchestrator.model.ids import AttemptId, VehicleId, split_attempt_id
from orchestrator.rpc import convert
from orchestrator.rpc.identity import IdentityReader
from orchestrator.service.call_rates import CallRates
from orchestrator.service.enrollment import EnrollmentDesk
from orchestrator.service.errors import ForbiddenError, InvalidInputError, NotFoundError, Violation
from orchestrator.service.manifests import ManifestDesk
from orchestrator.service.permits import PermitDesk
from orchestrator.service.vehicles import VehicleDesk

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

MANIFEST_BYTES_MAX = 65_536
NAMES_MAX = 16
REQUEST_BYTES_MAX = 16_384


class VehicleServicer(vehicle_pb2_grpc.VehicleServiceServicer):
    """What a vehicle's Primary calls."""

    def __init__(
        self,
        *,
        desk: VehicleDesk,
        permits: PermitDesk,
        manifests: ManifestDesk,
        enrollment: EnrollmentDesk,
        identities: IdentityReader,
        rates: CallRates,
        events_max: int,
        image_base_urls: Sequence[str],
    ) -> None:
        self._desk = desk
        self._permits = permits
        self._manifests = manifests
        self._enrollment = enrollment
        self._identities = identities
        self._events_max = events_max
        self._image_base_urls = tuple(image_base_urls)
        self._rates = rates

    def _caller(self, context: Context) -> VehicleId:
        vehicle_id = self._identities.vehicle(context.auth_context())
        self._rates.take(vehicle_id)
        return vehicle_id

    async def CheckIn(  # noqa: N802 - gRPC's name
        self, request: vehicle_pb2.CheckInRequest, context: Context
    ) -> vehicle_pb2.CheckInResponse:
        """Answer a poll."""
        vehicle_id = self._caller(context)
        poll = convert.check_in(request, events_max=self._events_max)
        for event in poll.events:
            about = split_attempt_id(event.attempt_id)
            if about is None or about[1] != vehicle_id:
                raise ForbiddenError(
                    f"event {event.number} is about an attempt of another vehicle",
                    reason="IDENTITY_MISMATCH",
                    remedy="a vehicle speaks for itself only",
                )
        # A poll without events has nothing to leave out; one that says otherwise may be written down as a gap.
        self._rates.hear(vehicle_id, len(poll.events) or min(poll.oldest_number, 1))
        reply = await self._desk.check_in(vehicle_id, poll)
        return convert.check_in_response(reply, image_base_urls=self._image_base_urls)

    async def SubmitManifest(  # noqa: N802 - gRPC's name
        self, request: vehicle_pb2.SubmitManifestRequest, context: Context
    ) -> vehicle_pb2.SubmitManifestResponse:
        """Record a signed manifest."""
        vehicle_id = self._caller(context)
        if not 0 < len(request.manifest) <= MANIFEST_BYTES_MAX:
            raise InvalidInputError(
                f"manifest of {len(request.manifest)} bytes, 1 to {MANIFEST_BYTES_MAX} are possible",
                reason="OVERSIZED",
            )
        self._rates.receive(vehicle_id, len(request.manifest))
        digest, record = await self._manifests.submit(vehicle_id, request.manifest)
        response = vehicle_pb2.SubmitManifestResponse(manifest_sha256=digest, installed_release=record.installed)
        if record.attempt is not None:
            response.attempt_state = convert.ATTEMPT_STATES[record.attempt.state]
        return response

    async def AuthorizeInstall(  # noqa: N802 - gRPC's name
        self, request: vehicle_pb2.AuthorizeInstallRequest, context: Context
    ) -> vehicle_pb2.AuthorizeInstallResponse:
        """Permit or refuse."""
        vehicle_id = self._caller(context)
        about = split_attempt_id(request.attempt_id)
        if about is None:
            raise convert.malformed([Violation("attempt_id", "is no attempt id")])
        if about[1] != vehicle_id:
            raise ForbiddenError("an attempt of another vehicle", reason="IDENTITY_MISMATCH")
        conditions = convert.conditions(request)
        if faults := convert.condition_faults(conditions):
            raise convert.malformed(faults)
        # A refusal may change what the attempt waits for, and a permit that is told again is consent given again.
        self._rates.hear(vehicle_id, 1)
        return convert.authorize_response(
            await self._permits.authorize(
                vehicle_id,
                AttemptId(request.attempt_id),
                conditions=conditions,
                consented=request.consented,
                offline=request.offline,
            )
        )

    async def FetchMetadata(  # noqa: N802 - gRPC's name
        self, request: vehicle_pb2.FetchMetadataRequest, context: Context
    ) -> vehicle_pb2.FetchMetadataResponse:
        """Metadata files, exact bytes."""
        vehicle_id = self._caller(context)
        if not 1 <= len(request.names) <= NAMES_MAX:
            raise convert.malformed([Violation("names", f"{len(request.names)} names, 1 to {NAMES_MAX} are possible")])
        if request.repository == vehicle_pb2.REPOSITORY_DIRECTOR:
            files = await self._desk.director_metadata(vehicle_id, request.names)
        elif request.repository == vehicle_pb2.REPOSITORY_IMAGE:
            files = self._desk.image_metadata(request.names)
        else:
            raise convert.malformed([Violation("repository", f"{request.repository} is no repository")])
        missing = [name for name in request.names if name not in files]
        if missing:
            raise NotFoundError(f"no such file: {', '.join(missing)}", reason="METADATA_UNKNOWN")
        return vehicle_pb2.FetchMetadataResponse(files=convert.metadata_files(request.repository, files))

    async def RenewCertificate(  # noqa: N802 - gRPC's name
        self, request: vehicle_pb2.RenewCertificateRequest, context: Context
    ) -> vehicle_pb2.RenewCertificateResponse:
        """A new certificate for the same identity."""
        vehicle_id = self._caller(context)
        check_request_size(request.csr)
        issued = await self._enrollment.issue(vehicle_id, request.csr)
        return vehicle_pb2.RenewCertificateResponse(certificate_chain=issued.chain_pem, server_ca=issued.server_ca_pem)


class EnrollmentServicer(enrollment_pb2_grpc.EnrollmentServiceServicer):
    """First contact."""

    def __init__(self, desk: EnrollmentDesk) -> None:
        self._desk = desk

    async def Enroll(  # noqa: N802 - gRPC's name
        self, request: enrollment_pb2.EnrollRequest, context: Context
    ) -> enrollment_pb2.EnrollResponse:
        """A certificate for a token."""
        del context
        check_request_size(request.csr)
        issued = await self._desk.enroll(request.vehicle_id, request.token, request.csr)
        return enrollment_pb2.EnrollResponse(certificate_chain=issued.chain_pem, server_ca=issued.server_ca_pem)


def check_request_size(csr: bytes) -> None:
    """Refuse what no certificate request needs.

    Raises:
        InvalidInputError: empty or too large.
    """
    if not 0 < len(csr) <= REQUEST_BYTES_MAX:
        raise InvalidInputError(
            f"certificate request of {len(csr)} bytes, 1 to {REQUEST_BYTES_MAX} are possible", reason="OVERSIZED"
        )
