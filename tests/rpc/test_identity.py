"""Who calls: one SPIFFE URI of our trust domain, a role that suffices, and no revoked vehicle."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.rpc.identity import IdentityReader
from orchestrator.service.errors import ForbiddenError
from tests.rpc.contexts import TRUST_DOMAIN, AContext, operator_certificate, vehicle_certificate


def reader(*revoked: str) -> IdentityReader:
    """A reader for the trust domain of these tests."""
    return IdentityReader(TRUST_DOMAIN, lambda vehicle_id: vehicle_id in revoked)


def context(certificate: bytes) -> dict[str, list[bytes]]:
    """GRPC's authentication context."""
    return dict(AContext(certificate=certificate).auth_context())


def refused(call: Callable[[], object]) -> str:
    """Reason of a refusal, which has to say a remedy."""
    with pytest.raises(ForbiddenError) as error:
        call()
    assert error.value.remedy
    return error.value.reason


def test_vehicle_is_who_its_certificate_says() -> None:
    """Never a field."""
    assert reader().vehicle(context(vehicle_certificate("v-1"))) == "v-1"


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        (b"", "NO_CERTIFICATE"),
        (b"not a certificate", "IDENTITY_MALFORMED"),
        (vehicle_certificate("v-1", trust_domain="elsewhere.example"), "IDENTITY_MALFORMED"),
        (operator_certificate("alice", "admin"), "NOT_A_VEHICLE"),
    ],
)
def test_no_vehicle_is_refused_with_its_own_reason(certificate: bytes, reason: str) -> None:
    """An admin is not a vehicle either."""
    assert refused(lambda: reader().vehicle(context(certificate))) == reason


def test_two_certificates_are_no_identity() -> None:
    """Nobody may choose which of two names counts."""
    both = {"x509_pem_cert": [vehicle_certificate("v-1"), vehicle_certificate("v-2")]}
    assert refused(lambda: reader().vehicle(both)) == "NO_CERTIFICATE"


def test_revocation_counts_from_the_next_call_on_an_open_connection() -> None:
    """The certificate is parsed once, revocation is asked each time."""
    revoked: set[str] = set()
    identities = IdentityReader(TRUST_DOMAIN, lambda vehicle_id: vehicle_id in revoked)
    certificate = context(vehicle_certificate("v-1"))
    assert identities.vehicle(certificate) == "v-1"
    revoked.add("v-1")
    assert refused(lambda: identities.vehicle(certificate)) == "VEHICLE_REVOKED"


@pytest.mark.parametrize(
    ("role", "may"),
    [
        ("viewer", {"viewer"}),
        ("operator", {"viewer", "operator"}),
        ("approver", {"viewer", "approver"}),
        ("admin", {"viewer", "operator", "approver", "admin"}),
    ],
)
def test_role_may_what_it_includes_and_no_more(role: str, may: set[str]) -> None:
    """Who starts a rollout shall not be who approves it, and who watches shall do neither."""
    certificate = context(operator_certificate("alice", role))
    for wanted in ("viewer", "operator", "approver", "admin"):
        if wanted in may:
            assert reader().operator(certificate, wanted).name == "alice"
        else:
            assert refused(lambda wanted=wanted: reader().operator(certificate, wanted)) == "ROLE_TOO_LOW"


def test_vehicle_is_no_operator() -> None:
    """Even if somebody gave both ports one authority."""
    assert refused(lambda: reader().operator(context(vehicle_certificate("v-1")), "viewer")) == "NOT_AN_OPERATOR"
