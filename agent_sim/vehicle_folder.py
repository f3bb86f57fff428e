"""A vehicle's folder: keys, certificate, verified metadata, downloads. Owns names and permissions.

Files are written so that a reader sees the old or the new one, also after kill -9 of the simulator; they are not synced
to disk, because a simulated vehicle need not survive the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from agent_sim.channels import TlsFiles
from agent_sim.vehicle import VehicleSpec
from signing.files import write_atomically
from signing.keys import generate_ecu_key, public_key_base64
from signing.pki import certificate_request, key_pem, new_key

_PRIVATE = 0o600
_PUBLIC = 0o644


@dataclass(frozen=True, slots=True)
class VehicleFolder:
    """One vehicle's place on disk."""

    path: Path

    @property
    def metadata(self) -> Path:
        """Where its verifier holds what it verified."""
        return self.path / "metadata"

    @property
    def downloads(self) -> Path:
        """Where images arrive, by digest."""
        return self.path / "downloads"

    @property
    def tls(self) -> TlsFiles:
        """What it proves itself with."""
        return TlsFiles(self.path / "tls.key", self.path / "tls.crt", self.path / "server-ca.pem")

    @property
    def next_tls(self) -> TlsFiles:
        """A renewed certificate that was not proven yet; its chain exists only when all is there."""
        return TlsFiles(self.path / "tls-next.key", self.path / "tls-next.crt", self.path / "server-ca-next.pem")

    @property
    def enrolled(self) -> bool:
        """Whether it has its certificate."""
        return self.tls.chain.exists() and self.tls.server_ca.exists()

    def make_keys(self, spec: VehicleSpec) -> dict[str, str]:
        """Make each unit's key; returns the public halves by serial, as the inventory stores them."""
        self.path.mkdir(parents=True)
        public = {}
        for ecu in spec.ecus:
            signer = generate_ecu_key()
            write_atomically(self.path / f"{ecu.serial}.pem", signer.private_bytes, mode=_PRIVATE, durable=False)
            public[ecu.serial] = public_key_base64(signer)
        return public

    def enrolment_request(self) -> tuple[EllipticCurvePrivateKey, bytes]:
        """The key and the certificate request of the first certificate, made once: only the same bytes are answered
        again after the token is spent, so they are kept before the first try.
        """
        path = self.path / "enrolment.pem"
        if path.exists():
            key = load_pem_private_key(path.read_bytes(), None)
            request = x509.load_pem_x509_csr(path.read_bytes())
            assert isinstance(key, EllipticCurvePrivateKey), "we wrote it"
            return key, request.public_bytes(Encoding.DER)
        key = new_key()
        request = x509.load_der_x509_csr(certificate_request(key))
        write_atomically(path, key_pem(key) + request.public_bytes(Encoding.PEM), mode=_PRIVATE, durable=False)
        return key, request.public_bytes(Encoding.DER)

    def save_enrolment(self, key: EllipticCurvePrivateKey, chain: bytes, server_ca: bytes) -> None:
        """Keep what enrolment gave; the certificate comes last, because it is what says that all is there."""
        write_atomically(self.tls.key, key_pem(key), mode=_PRIVATE, durable=False)
        write_atomically(self.tls.server_ca, server_ca, durable=False)
        write_atomically(self.tls.chain, chain, durable=False)

    def renewal_key(self) -> EllipticCurvePrivateKey:
        """The key of the renewal under way, made and kept before anyone hears of it."""
        path = self.next_tls.key
        if path.exists():
            kept = load_pem_private_key(path.read_bytes(), None)
            assert isinstance(kept, EllipticCurvePrivateKey), "this folder wrote it"
            return kept
        key = new_key()
        write_atomically(path, key_pem(key), mode=_PRIVATE, durable=False)
        return key

    def save_renewal(self, chain: bytes, server_ca: bytes) -> None:
        """Keep what a renewal gave, beside what is in use."""
        write_atomically(self.next_tls.server_ca, server_ca, durable=False)
        write_atomically(self.next_tls.chain, chain, durable=False)

    def take_renewal(self) -> None:
        """Let the new certificate take the old one's place. Killed in the middle, the new one is still whole, and it is
        taken again.
        """
        old, new = self.tls, self.next_tls
        for source, target, mode in (
            (new.key, old.key, _PRIVATE),
            (new.server_ca, old.server_ca, _PUBLIC),
            (new.chain, old.chain, _PUBLIC),
        ):
            write_atomically(target, source.read_bytes(), mode=mode, durable=False)
        self.drop_renewal()

    def drop_renewal(self) -> None:
        """Forget the new certificate; the chain goes first, because it is what says that all is there."""
        for path in (self.next_tls.chain, self.next_tls.server_ca, self.next_tls.key):
            path.unlink(missing_ok=True)
