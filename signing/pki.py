"""X.509 for mutual TLS: three authorities, what they issue, and who a certificate says its holder is.

P-256 throughout. An identity is one SPIFFE URI; an operator's role is the certificate's organisational unit. Judging
validity and chains is TLS's business: `identity_of` is only for certificates that a handshake has accepted.
All times are machine time.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from signing.errors import CertificateRequestError, KeyFileError, SigningError
from signing.files import write_atomically
from signing.keys import write_private
from signing.names import NAME_PATTERN, TRUST_DOMAIN_PATTERN, VEHICLE_ID_PATTERN

ROLES = ("viewer", "operator", "approver", "admin")
"""Roles of operators, from the least to the most."""
CSR_MAX_BYTES = 8 * 1024
BACKDATE = timedelta(minutes=15)
"""Certificates are valid from a little earlier, for clocks that lag: ten minutes must not shut anybody out."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who holds a certificate."""

    kind: Literal["vehicle", "operator"]
    name: str
    """Vehicle id, or the operator's name."""
    role: str
    """One of ROLES for operators, empty for vehicles."""


class Authority:
    """A self-signed certificate authority and its key.

    Args:
        certificate: The authority's own certificate.
        key: Its private key.
    """

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @property
    def certificate_pem(self) -> bytes:
        """What others have to trust."""
        return self._certificate.public_bytes(Encoding.PEM)

    @property
    def expires(self) -> datetime:
        """When the authority's own certificate ends, and with it all that it issued."""
        return self._certificate.not_valid_after_utc

    @classmethod
    def create(cls, common_name: str, now: datetime, life: timedelta) -> Authority:
        """A new authority that may issue leaf certificates only."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        return cls(_self_signed(name, key, now, life), key)

    def renewed(self, now: datetime, life: timedelta) -> Authority:
        """The same authority, same name and key, with a certificate of its own that lasts longer.

        What it issued stays valid for those who trust the new certificate, and what it issues from now on for those
        who still trust the old one, until that ends.
        """
        return Authority(_self_signed(self._certificate.subject, self._key, now, life), self._key)

    @classmethod
    def load(cls, folder: Path, name: str) -> Authority:
        """Read `<folder>/<name>.crt` and `.key`.

        Raises:
            KeyFileError: Missing, unreadable, or the two do not belong together.
        """
        try:
            certificate = x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())
            key = load_pem_private_key((folder / f"{name}.key").read_bytes(), None)
        except OSError as exc:
            raise KeyFileError(
                f"cannot read the {name} authority in {folder}: {exc.strerror}; `outrider keys init` makes it"
            ) from exc
        except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
            raise KeyFileError(f"the {name} authority in {folder} is damaged: {exc}") from exc
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise KeyFileError(f"{name}.key does not belong to {name}.crt in {folder}")
        return cls(certificate, key)

    def save(self, folder: Path, name: str) -> None:
        """Write `<folder>/<name>.crt` and `.key`, the key with mode 0600.

        Raises:
            KeyFileError: A key stands there already.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(folder / f"{name}.key", _key_pem(self._key))
        write_atomically(folder / f"{name}.crt", self.certificate_pem)

    def issue_server(self, *, names: Sequence[str], now: datetime, life: timedelta) -> tuple[bytes, bytes]:
        """A server certificate and its new key.

        Args:
            names: DNS names and IP addresses that clients may use; at least one.
            now: Machine time, UTC.
            life: How long it is valid.

        Returns:
            Chain and key, PEM.

        Raises:
            SigningError: No name, or one that is neither a DNS name nor an address.
        """
        if not names:
            raise SigningError("a server certificate needs at least one name")
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _subject([(NameOID.COMMON_NAME, names[0][:64])])
        alternative = [_general_name(name) for name in names]
        usage = ExtendedKeyUsageOID.SERVER_AUTH
        return self._issue(subject, key.public_key(), alternative, usage, now, life), _key_pem(key)

    def issue_operator(
        self, *, trust_domain: str, name: str, role: str, now: datetime, life: timedelta
    ) -> tuple[bytes, bytes]:
        """A client certificate for an operator, and its new key.

        Returns:
            Chain and key, PEM.

        Raises:
            SigningError: The trust domain, name or role is malformed.
        """
        if not NAME_PATTERN.fullmatch(name):
            raise SigningError(f"{name[:80]!r} is not an operator's name")
        if role not in ROLES:
            raise SigningError(f"{role[:80]!r} is not a role; roles are {', '.join(ROLES)}")
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _subject([(NameOID.ORGANIZATIONAL_UNIT_NAME, role), (NameOID.COMMON_NAME, name)])
        uri = _spiffe_uri(trust_domain, "operator", name)
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        return self._issue(subject, key.public_key(), [uri], usage, now, life), _key_pem(key)

    def issue_vehicle(
        self, csr_der: bytes, *, trust_domain: str, vehicle_id: str, now: datetime, life: timedelta
    ) -> bytes:
        """A client certificate for the key in a certificate request.

        Nothing of the request but its key is used: whose certificate it becomes is the caller's decision.

        Args:
            csr_der: PKCS#10, DER, P-256, self-signed as proof of possession.
            trust_domain: SPIFFE trust domain.
            vehicle_id: Whom the certificate names.
            now: Machine time, UTC.
            life: How long it is valid.

        Returns:
            Chain, PEM, leaf first.

        Raises:
            CertificateRequestError: The request is malformed, its key is of another kind, or its signature is wrong.
            SigningError: The trust domain or vehicle id is malformed.
        """
        if not VEHICLE_ID_PATTERN.fullmatch(vehicle_id):
            raise SigningError(f"{vehicle_id[:80]!r} is not a vehicle id")
        uri = _spiffe_uri(trust_domain, "vehicle", vehicle_id)
        public_key = _requested_key(csr_der)
        subject = _subject([(NameOID.COMMON_NAME, vehicle_id)])
        return self._issue(subject, public_key, [uri], ExtendedKeyUsageOID.CLIENT_AUTH, now, life)

    def _issue(
        self,
        subject: x509.Name,
        public_key: ec.EllipticCurvePublicKey,
        names: Sequence[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        now: datetime,
        life: timedelta,
    ) -> bytes:
        builder = _builder(subject, self._certificate.subject, public_key, now, life)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(authority=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(issuer_key, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)


def new_key() -> ec.EllipticCurvePrivateKey:
    """A new P-256 key for TLS."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A TLS key as PKCS#8 PEM, unencrypted."""
    return _key_pem(key)


def certificate_request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate request for `key`, DER: proof of possession, without a subject."""
    builder = x509.CertificateSigningRequestBuilder(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


@functools.lru_cache(maxsize=4096)
def identity_of(certificate_pem: bytes, *, trust_domain: str) -> Identity:
    """Who a certificate names; every call of a connection asks, so the last answers are remembered.

    Args:
        certificate_pem: As gRPC's auth context gives it under `x509_pem_cert`.
        trust_domain: The only one that is accepted.

    Raises:
        SigningError: Not exactly one URI, another trust domain, or an odd identity.
    """
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as exc:
        raise SigningError(f"the certificate names nobody ({exc})") from exc
    uris = extension.value.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise SigningError(f"the certificate has {len(uris)} URIs, an identity is exactly one")
    prefix = f"spiffe://{trust_domain}/"
    kind, _, name = uris[0].removeprefix(prefix).partition("/")
    if not uris[0].startswith(prefix):
        raise SigningError(f"{uris[0][:200]!r} is not in the trust domain {trust_domain!r}")
    if kind == "vehicle" and VEHICLE_ID_PATTERN.fullmatch(name):
        return Identity("vehicle", name, "")
    if kind == "operator" and NAME_PATTERN.fullmatch(name):
        return Identity("operator", name, _role(certificate))
    raise SigningError(f"{uris[0][:200]!r} names neither a vehicle nor an operator")


def _role(certificate: x509.Certificate) -> str:
    units = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    roles = [unit.value for unit in units if isinstance(unit.value, str)]
    if len(roles) != 1 or roles[0] not in ROLES:
        raise SigningError(f"the certificate's organisational units {roles!r} are not one role of {', '.join(ROLES)}")
    return roles[0]


def _requested_key(csr_der: bytes) -> ec.EllipticCurvePublicKey:
    if len(csr_der) > CSR_MAX_BYTES:
        raise CertificateRequestError(f"the certificate request has {len(csr_der)} bytes, at most {CSR_MAX_BYTES}")
    try:
        request = x509.load_der_x509_csr(csr_der)
        public_key = request.public_key()
        proven = isinstance(public_key, ec.EllipticCurvePublicKey) and request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise CertificateRequestError(f"not a certificate request in DER ({exc})") from exc
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(public_key.curve, ec.SECP256R1):
        raise CertificateRequestError("the certificate request's key is not on P-256")
    if not proven:
        raise CertificateRequestError("the certificate request is not signed by its own key")
    return public_key


def _spiffe_uri(trust_domain: str, kind: str, name: str) -> x509.UniformResourceIdentifier:
    if not TRUST_DOMAIN_PATTERN.fullmatch(trust_domain):
        raise SigningError(f"{trust_domain[:80]!r} is not a trust domain: lower-case letters, digits, dots, dashes")
    return x509.UniformResourceIdentifier(f"spiffe://{trust_domain}/{kind}/{name}")


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError as exc:
        raise SigningError(f"{name[:80]!r} is neither a DNS name nor an address") from exc


def _subject(attributes: Sequence[tuple[x509.ObjectIdentifier, str]]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _self_signed(name: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, life: timedelta) -> x509.Certificate:
    builder = _builder(name, name, key.public_key(), now, life)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(authority=True), critical=True)
    return builder.sign(key, hashes.SHA256())


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
