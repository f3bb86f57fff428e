"""Who calls: the SPIFFE URI of the client certificate, and what an operator's role may do.

TLS has verified the chain before; here the identity is read, revocation and role are checked, and less than TLS 1.3
is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from orchestrator.model.ids import VEHICLE_ID_PATTERN, VehicleId
from orchestrator.service.errors import ForbiddenError
from signing.errors import SigningError
from signing.pki import Identity, identity_of

RIGHTS = {
    "viewer": frozenset({"viewer"}),
    "operator": frozenset({"viewer", "operator"}),
    "approver": frozenset({"viewer", "approver"}),
    "admin": frozenset({"viewer", "operator", "approver", "admin"}),
}
"""What each role includes. An approver does not operate: who starts a rollout shall not be who approves it."""

AuthContext = Mapping[str, Iterable[bytes]]
CACHED_CERTIFICATES_MAX = 65_536


@dataclass(frozen=True, slots=True)
class Operator:
    """A person or a tool that operates."""

    name: str
    role: str

    def may(self, role: str) -> bool:
        """Whether this operator's role includes `role`."""
        return role in RIGHTS.get(self.role, frozenset())


class IdentityReader:
    """Reads identities out of gRPC's authentication context.

    Args:
        trust_domain: the only one accepted.
        revoked: whether a vehicle's certificates are refused now.
    """

    def __init__(self, trust_domain: str, revoked: Callable[[VehicleId], bool]) -> None:
        self._revoked = revoked
        self._parse = lru_cache(maxsize=CACHED_CERTIFICATES_MAX)(
            lambda certificate: identity_of(certificate, trust_domain=trust_domain)
        )

    def vehicle(self, context: AuthContext) -> VehicleId:
        """The vehicle that calls.

        Raises:
            ForbiddenError: no vehicle's certificate, or a revoked one.
        """
        identity = self._identity(context)
        if identity.kind != "vehicle" or not VEHICLE_ID_PATTERN.fullmatch(identity.name):
            raise ForbiddenError(
                f"the certificate names {identity.kind} {identity.name}, not a vehicle",
                reason="NOT_A_VEHICLE",
                remedy="use the certificate from enrolment",
            )
        vehicle_id = VehicleId(identity.name)
        if self._revoked(vehicle_id):
            raise ForbiddenError(
                "the certificates of this vehicle are revoked",
                reason="VEHICLE_REVOKED",
                remedy="ask the operator: a revocation is for good",
            )
        return vehicle_id

    def operator(self, context: AuthContext, role: str) -> Operator:
        """The operator who calls, if the role suffices.

        Raises:
            ForbiddenError: no operator's certificate, or one whose role does not include `role`.
        """
        identity = self._identity(context)
        if identity.kind != "operator":
            raise ForbiddenError(
                f"the certificate names {identity.kind} {identity.name}, not an operator",
                reason="NOT_AN_OPERATOR",
                remedy="use an operator's certificate: `outrider ca issue-operator`",
            )
        operator = Operator(identity.name, identity.role)
        if not operator.may(role):
            raise ForbiddenError(
                f"{operator.name} has role {operator.role or 'none'}, this needs {role}",
                reason="ROLE_TOO_LOW",
                remedy=f"ask an admin for a certificate with role {role}",
            )
        return operator

    def _identity(self, context: AuthContext) -> Identity:
        certificates = list(context.get("x509_pem_cert", ()))
        if len(certificates) != 1:
            raise ForbiddenError(
                "a client certificate is needed", reason="NO_CERTIFICATE", remedy="connect with mutual TLS"
            )
        try:
            return self._parse(certificates[0])
        except SigningError as error:
            raise ForbiddenError(
                f"the certificate names nobody: {error}",
                reason="IDENTITY_MALFORMED",
                remedy="the certificate needs exactly one SPIFFE URI of this trust domain",
            ) from error
