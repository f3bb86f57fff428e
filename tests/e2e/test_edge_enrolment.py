"""First contact against the running service: tokens, certificate requests, renewal."""

from __future__ import annotations

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from outrider.v1 import enrollment_pb2, enrollment_pb2_grpc, vehicle_pb2

from signing.pki import certificate_request, identity_of, new_key
from tests.processes import CALL_TIMEOUT_S, TRUST_DOMAIN, Installation
from tests.vehicles import AVehicle, Refusal, enrolled, import_fleet, refusal, tokens

TOKEN_REFUSED = (grpc.StatusCode.PERMISSION_DENIED, "TOKEN_REFUSED", "outrider")
REQUEST_REFUSED = (grpc.StatusCode.INVALID_ARGUMENT, "CERTIFICATE_REQUEST_REFUSED", "outrider")


def enrol(installation: Installation, vehicle_id: str, token: str, csr: bytes) -> enrollment_pb2.EnrollResponse:
    """One call, as a vehicle makes it."""
    stub = enrollment_pb2_grpc.EnrollmentServiceStub(installation.channel("enrollment"))
    request = enrollment_pb2.EnrollRequest(vehicle_id=vehicle_id, token=token, csr=csr)
    return stub.Enroll(request, timeout=CALL_TIMEOUT_S)


def refused(installation: Installation, vehicle_id: str, token: str, csr: bytes) -> Refusal:
    """What a call that must fail said."""
    with pytest.raises(grpc.RpcError) as error:
        enrol(installation, vehicle_id, token, csr)
    return refusal(error.value)


def said(answer: Refusal) -> tuple[grpc.StatusCode, str, str]:
    """What a machine reads of a refusal."""
    return answer.code, answer.reason, answer.domain


def test_certificate_names_the_vehicle_of_the_token_whatever_the_request_says(installation: Installation) -> None:
    """Whose certificate it becomes is the operator's decision, never the caller's."""
    vehicle = AVehicle("enrol-named")
    import_fleet(installation, [vehicle])
    token = tokens(installation, vehicle.vehicle_id)[vehicle.vehicle_id]
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "admin")])
    claim = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{TRUST_DOMAIN}/operator/admin")])
    request = x509.CertificateSigningRequestBuilder(name).add_extension(claim, critical=False)
    csr = request.sign(vehicle.tls_key, hashes.SHA256()).public_bytes(Encoding.DER)
    answer = enrol(installation, vehicle.vehicle_id, token, csr)
    identity = identity_of(answer.certificate_chain, trust_domain=TRUST_DOMAIN)
    assert (identity.kind, identity.name) == ("vehicle", vehicle.vehicle_id)
    assert answer.server_ca == installation.server_ca


def test_token_is_good_for_one_vehicle_and_one_request(installation: Installation) -> None:
    """A token that somebody photographed must not make a second vehicle; a lost reply must not lose the first."""
    vehicle, other = AVehicle("enrol-once"), AVehicle("enrol-other")
    import_fleet(installation, [vehicle, other])
    token = tokens(installation, vehicle.vehicle_id)[vehicle.vehicle_id]
    csr = certificate_request(vehicle.tls_key)
    before = installation.metric("outrider_refused_requests_total", reason="token_refused")
    assert said(refused(installation, vehicle.vehicle_id, "never-made", csr)) == TOKEN_REFUSED
    assert said(refused(installation, other.vehicle_id, token, csr)) == TOKEN_REFUSED
    assert said(refused(installation, "enrol-nobody", token, csr)) == TOKEN_REFUSED
    first = enrol(installation, vehicle.vehicle_id, token, csr)
    again = enrol(installation, vehicle.vehicle_id, token, csr)
    assert identity_of(first.certificate_chain, trust_domain=TRUST_DOMAIN) == identity_of(
        again.certificate_chain, trust_domain=TRUST_DOMAIN
    )
    stolen = certificate_request(new_key())
    assert said(refused(installation, vehicle.vehicle_id, token, stolen)) == TOKEN_REFUSED, "spent"
    assert installation.metric("outrider_refused_requests_total", reason="token_refused") == before + 4


def test_newer_token_replaces_the_older(installation: Installation) -> None:
    """An operator who makes a new token means that the old one went astray."""
    vehicle = AVehicle("enrol-newer")
    import_fleet(installation, [vehicle])
    old = tokens(installation, vehicle.vehicle_id)[vehicle.vehicle_id]
    new = tokens(installation, vehicle.vehicle_id)[vehicle.vehicle_id]
    csr = certificate_request(vehicle.tls_key)
    assert said(refused(installation, vehicle.vehicle_id, old, csr)) == TOKEN_REFUSED
    assert enrol(installation, vehicle.vehicle_id, new, csr).certificate_chain


def test_bad_certificate_request_does_not_spend_the_token(installation: Installation) -> None:
    """A bug in an agent must not cost a visit to the workshop."""
    vehicle = AVehicle("enrol-bad")
    import_fleet(installation, [vehicle])
    token = tokens(installation, vehicle.vehicle_id)[vehicle.vehicle_id]
    good = certificate_request(vehicle.tls_key)
    tampered = good[:-4] + bytes(byte ^ 0xFF for byte in good[-4:])
    other_curve = (
        x509.CertificateSigningRequestBuilder(x509.Name([]))
        .sign(ec.generate_private_key(ec.SECP384R1()), hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
    for csr in (b"nonsense", tampered, other_curve, good + b"x" * 9000):
        assert said(refused(installation, vehicle.vehicle_id, token, csr)) == REQUEST_REFUSED
    for csr in (b"", b"x" * 20_000):
        assert refused(installation, vehicle.vehicle_id, token, csr).reason == "OVERSIZED"
    assert refused(installation, "no vehicle id", token, good).reason == "VEHICLE_ID_MALFORMED"
    assert refused(installation, vehicle.vehicle_id, token, b"x" * 70_000).code is grpc.StatusCode.RESOURCE_EXHAUSTED
    vehicle.enrol(installation, token)
    assert vehicle.check_in().manifest_wanted


def test_certificate_is_renewed_for_the_same_vehicle_with_a_new_key(installation: Installation) -> None:
    """Certificates live 90 days; a fleet must not have to visit the factory four times a year."""
    (vehicle,) = enrolled(installation, AVehicle("enrol-renew"))
    fresh = new_key()
    request = vehicle_pb2.RenewCertificateRequest(csr=certificate_request(fresh))
    answer = vehicle.stub.RenewCertificate(request, timeout=CALL_TIMEOUT_S)
    assert identity_of(answer.certificate_chain, trust_domain=TRUST_DOMAIN).name == vehicle.vehicle_id
    vehicle.tls_key, vehicle.certificate_chain = fresh, answer.certificate_chain
    vehicle.connect(installation)
    assert vehicle.check_in().HasField("fleet_time")
    with pytest.raises(grpc.RpcError) as error:
        vehicle.stub.RenewCertificate(vehicle_pb2.RenewCertificateRequest(csr=b"nonsense"), timeout=CALL_TIMEOUT_S)
    assert said(refusal(error.value)) == REQUEST_REFUSED


def test_tokens_for_a_vehicle_that_nobody_knows_are_refused(installation: Installation) -> None:
    """A typing error in a list of ids must not end in a token that works for nobody."""
    with pytest.raises(grpc.RpcError) as error:
        tokens(installation, "enrol-never-imported")
    assert refusal(error.value).code is grpc.StatusCode.NOT_FOUND
