"""Certificates: issued to whoever proved a key, naming exactly one identity, and nothing that a request asks for."""

from __future__ import annotations

import ipaddress
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from signing.errors import CertificateRequestError, KeyFileError, SigningError
from signing.pki import BACKDATE, ROLES, Authority, Identity, certificate_request, identity_of, new_key
from tests.signing.uptane_simulator import NOW

TRUST_DOMAIN = "fleet.example"
LIFE = timedelta(days=30)


@pytest.fixture
def authority() -> Authority:
    return Authority.create("Test authority", NOW, timedelta(days=365))


def leaf(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def a_vehicle_certificate(authority: Authority, vehicle_id: str = "veh-1") -> bytes:
    request = certificate_request(new_key())
    return authority.issue_vehicle(request, trust_domain=TRUST_DOMAIN, vehicle_id=vehicle_id, now=NOW, life=LIFE)


def test_a_vehicle_gets_a_certificate_for_the_key_it_proved(authority: Authority):
    """Proof of possession in, one identity out."""
    key = new_key()
    pem = authority.issue_vehicle(
        certificate_request(key), trust_domain=TRUST_DOMAIN, vehicle_id="veh-1", now=NOW, life=LIFE
    )
    certificate = leaf(pem)
    assert certificate.public_key() == key.public_key()
    certificate.verify_directly_issued_by(leaf(authority.certificate_pem))
    assert (certificate.not_valid_before_utc, certificate.not_valid_after_utc) == (NOW - BACKDATE, NOW + LIFE)
    assert identity_of(pem, trust_domain=TRUST_DOMAIN) == Identity("vehicle", "veh-1", "")


def test_a_leaf_can_neither_issue_nor_serve(authority: Authority):
    """A stolen vehicle key must not become an authority or a server."""
    certificate = leaf(a_vehicle_certificate(authority))
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert constraints.critical
    assert not constraints.value.ca
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert leaf(authority.certificate_pem).extensions.get_extension_for_class(x509.BasicConstraints).value.ca


@pytest.mark.parametrize("role", ROLES)
def test_an_operator_gets_a_role(authority: Authority, role: str):
    """The role is signed with the identity; no server-side list can drift from it."""
    pem, key = authority.issue_operator(trust_domain=TRUST_DOMAIN, name="kim", role=role, now=NOW, life=LIFE)
    assert identity_of(pem, trust_domain=TRUST_DOMAIN) == Identity("operator", "kim", role)
    assert load_pem_private_key(key, None).public_key() == leaf(pem).public_key()


def test_a_server_gets_the_names_that_clients_use(authority: Authority):
    """Clients connect to an address or a name, and check it."""
    pem, _ = authority.issue_server(names=["localhost", "127.0.0.1", "::1"], now=NOW, life=LIFE)
    names = leaf(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    addresses = names.get_values_for_type(x509.IPAddress)
    assert addresses == [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")]
    usage = leaf(pem).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


@pytest.mark.parametrize("names", [[], ["é"]])
def test_a_server_without_a_proper_name_gets_nothing(authority: Authority, names: list[str]):
    """No client could check it."""
    with pytest.raises(SigningError):
        authority.issue_server(names=names, now=NOW, life=LIFE)


def signed_by_another_key() -> bytes:
    request = bytearray(certificate_request(new_key()))
    request[-1] ^= 1
    return bytes(request)


def request_with(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    builder = x509.CertificateSigningRequestBuilder(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def ed25519_request() -> bytes:
    builder = x509.CertificateSigningRequestBuilder(x509.Name([]))
    return builder.sign(ed25519.Ed25519PrivateKey.generate(), None).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    ("request_der", "fact"),
    [
        (b"", "not a certificate request"),
        (b"\x30\x82", "not a certificate request"),
        (b"x" * 9000, "9000 bytes"),
        (certificate_request(new_key()) + b"more", "not a certificate request"),
        (signed_by_another_key(), "own key"),
        (request_with(ec.generate_private_key(ec.SECP384R1())), "P-256"),
        (request_with(rsa.generate_private_key(65537, 2048)), "P-256"),
        (ed25519_request(), "P-256"),
    ],
    ids=["empty", "cut short", "huge", "trailing", "forged", "P-384", "RSA", "Ed25519"],
)
def test_a_bad_request_gets_no_certificate(authority: Authority, request_der: bytes, fact: str):
    """Enrolment is open to whoever reaches the port: everything is checked."""
    with pytest.raises(CertificateRequestError, match=fact):
        authority.issue_vehicle(request_der, trust_domain=TRUST_DOMAIN, vehicle_id="veh-1", now=NOW, life=LIFE)


def test_a_request_cannot_choose_its_identity(authority: Authority):
    """Names and extensions of the request are ignored: whose certificate it is, the token decides."""
    key = new_key()
    wish = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{TRUST_DOMAIN}/operator/admin")])
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "admin")]))
        .add_extension(wish, critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    der = request.public_bytes(Encoding.DER)
    pem = authority.issue_vehicle(der, trust_domain=TRUST_DOMAIN, vehicle_id="veh-1", now=NOW, life=LIFE)
    assert identity_of(pem, trust_domain=TRUST_DOMAIN) == Identity("vehicle", "veh-1", "")
    assert not leaf(pem).extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not leaf(pem).subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)


@pytest.mark.uptane("A27")
@pytest.mark.parametrize("vehicle_id", ["", "a/b", "..", "a b", "x" * 65])
def test_an_odd_vehicle_id_gets_no_certificate(authority: Authority, vehicle_id: str):
    """A27: it becomes a part of a URI."""
    with pytest.raises(SigningError, match="vehicle id"):
        a_vehicle_certificate(authority, vehicle_id)


def certificate_with(names: list[x509.GeneralName] | None, units: tuple[str, ...] = ()) -> bytes:
    """What another tool might issue under the right authority."""
    key = new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit) for unit in units])
    builder = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(NOW)
        .not_valid_after(NOW + LIFE)
    )
    if names is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


@pytest.mark.parametrize(
    ("names", "units"),
    [
        (None, ()),
        ([x509.DNSName("veh-1")], ()),
        ([uri("spiffe://fleet.example/vehicle/a"), uri("spiffe://fleet.example/vehicle/b")], ()),
        ([uri("spiffe://fleet.example/vehicle/a"), uri("https://x")], ()),
        ([uri("spiffe://other.example/vehicle/a")], ()),
        ([uri("spiffe://fleet.example.evil/vehicle/a")], ()),
        ([uri("https://fleet.example/vehicle/a")], ()),
        ([uri("vehicle/a")], ()),
        ([uri("spiffe://fleet.example/vehicle/")], ()),
        ([uri("spiffe://fleet.example/vehicle/a/b")], ()),
        ([uri("spiffe://fleet.example/vehicle/a?x")], ()),
        ([uri("spiffe://fleet.example/vehicle/%61")], ()),
        ([uri("spiffe://fleet.example/robot/a")], ()),
        ([uri("spiffe://fleet.example")], ()),
        ([uri("SPIFFE://fleet.example/vehicle/a")], ()),
        ([uri("spiffe://fleet.example/operator/kim")], ()),
        ([uri("spiffe://fleet.example/operator/kim")], ("root",)),
        ([uri("spiffe://fleet.example/operator/kim")], ("viewer", "admin")),
    ],
)
def test_an_ambiguous_certificate_names_nobody(names: list[x509.GeneralName] | None, units: tuple[str, ...]):
    """Exactly one identity, in our trust domain, of a kind and role that we know."""
    with pytest.raises(SigningError):
        identity_of(certificate_with(names, units), trust_domain=TRUST_DOMAIN)


def test_a_proper_certificate_of_another_tool_is_read():
    """The cases above fail for what they say, not for how they were made."""
    names: list[x509.GeneralName] = [x509.DNSName("x"), uri("spiffe://fleet.example/operator/kim")]
    identity = identity_of(certificate_with(names, ("viewer",)), trust_domain=TRUST_DOMAIN)
    assert identity == Identity("operator", "kim", "viewer")


@pytest.mark.parametrize("pem", [b"", b"text", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_names_nobody(pem: bytes):
    """Whatever the transport hands over gets a clear answer."""
    with pytest.raises(SigningError):
        identity_of(pem, trust_domain=TRUST_DOMAIN)


def test_an_authority_is_kept_in_two_files(authority: Authority, tmp_path: Path):
    """The key for its owner only, the certificate for everybody, and both belong together."""
    authority.save(tmp_path / "a", "vehicle")
    assert stat.S_IMODE((tmp_path / "a" / "vehicle.key").stat().st_mode) == 0o600
    loaded = Authority.load(tmp_path / "a", "vehicle")
    assert loaded.certificate_pem == authority.certificate_pem
    leaf(a_vehicle_certificate(loaded)).verify_directly_issued_by(leaf(authority.certificate_pem))
    with pytest.raises(KeyFileError, match="never overwritten"):
        authority.save(tmp_path / "a", "vehicle")
    Authority.create("Other", NOW, LIFE).save(tmp_path / "b", "vehicle")
    (tmp_path / "a" / "vehicle.crt").write_bytes((tmp_path / "b" / "vehicle.crt").read_bytes())
    with pytest.raises(KeyFileError, match="does not belong"):
        Authority.load(tmp_path / "a", "vehicle")


def test_a_missing_or_damaged_authority_is_said(tmp_path: Path):
    """One line with the remedy."""
    with pytest.raises(KeyFileError, match="outrider keys init"):
        Authority.load(tmp_path, "vehicle")
    (tmp_path / "vehicle.crt").write_bytes(b"x")
    (tmp_path / "vehicle.key").write_bytes(b"x")
    with pytest.raises(KeyFileError, match="damaged"):
        Authority.load(tmp_path, "vehicle")
