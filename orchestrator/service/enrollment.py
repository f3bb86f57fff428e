"""Use cases of identity: first certificate for a token, next certificate for the current one."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from orchestrator.clock import MachineClock
from orchestrator.model.ids import VEHICLE_ID_PATTERN, VehicleId
from orchestrator.service.errors import ForbiddenError, InvalidInputError
from orchestrator.store.base import VehicleStore
from signing.errors import CertificateRequestError
from signing.pki import Authority


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A vehicle's certificate and whom it shall trust."""

    chain_pem: bytes
    server_ca_pem: bytes


class EnrollmentDesk:
    """Issues vehicle certificates. Certificates live on machine time, as TLS does.

    Args:
        store: keeps the tokens' hashes.
        authority: signs vehicle certificates.
        server_ca_pem: what vehicles verify the server with.
        trust_domain: of the SPIFFE ids.
        machine: for validity.
        life: of a certificate.
    """

    def __init__(
        self,
        *,
        store: VehicleStore,
        authority: Authority,
        server_ca_pem: bytes,
        trust_domain: str,
        machine: MachineClock,
        life: timedelta,
    ) -> None:
        self._store = store
        self._authority = authority
        self._server_ca_pem = server_ca_pem
        self._trust_domain = trust_domain
        self._machine = machine
        self._life = life

    def adopt(self, authority: Authority, server_ca_pem: bytes) -> None:
        """Issue by these from now on: an authority was renewed."""
        self._authority = authority
        self._server_ca_pem = server_ca_pem

    async def enroll(self, vehicle_id: str, token: str, request_der: bytes) -> IssuedCertificate:
        """Exchange a token for a certificate. The same request with the same token works again, in case the reply was
        lost.

        Raises:
            InvalidInputError: no vehicle id or no usable certificate request; the token is not spent.
            ForbiddenError: token unknown, expired, spent by another request, or for another vehicle.
        """
        if not VEHICLE_ID_PATTERN.fullmatch(vehicle_id):
            raise InvalidInputError("vehicle_id is malformed", reason="VEHICLE_ID_MALFORMED")
        # The certificate is made before the token is spent: a bad request must not cost the vehicle its only token.
        issued = await self.issue(VehicleId(vehicle_id), request_der)
        taken = await self._store.take_token(
            VehicleId(vehicle_id),
            token_sha256=hashlib.sha256(token.encode()).hexdigest(),
            request_sha256=hashlib.sha256(request_der).hexdigest(),
        )
        if not taken:
            raise ForbiddenError(
                "the token is unknown, expired, spent, or for another vehicle",
                reason="TOKEN_REFUSED",
                remedy="ask the operator for a new one: `outrider fleet tokens VEHICLE`",
            )
        return issued

    async def issue(self, vehicle_id: VehicleId, request_der: bytes) -> IssuedCertificate:
        """A certificate for a vehicle whose identity is proven already.

        Raises:
            InvalidInputError: the request is malformed, not self-signed, or not P-256.
        """
        try:
            chain = await asyncio.to_thread(
                self._authority.issue_vehicle,
                request_der,
                trust_domain=self._trust_domain,
                vehicle_id=vehicle_id,
                now=datetime.fromtimestamp(self._machine.wall_ms() // 1000, tz=UTC),
                life=self._life,
            )
        except CertificateRequestError as error:
            raise InvalidInputError(
                f"certificate request refused: {error}",
                reason="CERTIFICATE_REQUEST_REFUSED",
                remedy="send a self-signed PKCS#10 request in DER for a P-256 key",
            ) from error
        return IssuedCertificate(chain_pem=chain, server_ca_pem=self._server_ca_pem)
