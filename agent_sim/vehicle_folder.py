"""A vehicle's folder: keys, certificate, persisted state, verified metadata, downloads. Owns names and permissions.

State is written so that a reader sees the old or the new one, also after kill -9 of the simulator; it is not synced to
disk, because a simulated vehicle need not survive the machine.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from agent_sim.car import CarState, car_state_from_json
from agent_sim.channels import TlsFiles
from agent_sim.errors import StateError
from agent_sim.vehicle import VehicleSpec
from signing.files import write_atomically
from signing.keys import generate_ecu_key, public_key_base64
from signing.pki import key_pem

_PRIVATE = 0o600


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

    def save_enrolment(self, key: EllipticCurvePrivateKey, chain: bytes, server_ca: bytes) -> None:
        """Keep what enrolment gave; the certificate comes last, because it is what says that all is there."""
        write_atomically(self.tls.key, key_pem(key), mode=_PRIVATE, durable=False)
        write_atomically(self.tls.server_ca, server_ca, durable=False)
        write_atomically(self.tls.chain, chain, durable=False)

    def load_state(self) -> CarState | None:
        """What the vehicle persisted; None when nothing yet.

        Raises:
            StateError: it cannot be read.
        """
        try:
            return car_state_from_json(json.loads(self._state.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, StateError) as error:
            raise StateError(f"{self._state}: {error}; remove the fleet folder and make it again") from error

    def save_state(self, state: CarState) -> None:
        """Persist.

        Raises:
            OSError: this machine's disk failed.
        """
        write_atomically(self._state, json.dumps(state.to_json()).encode(), mode=_PRIVATE, durable=False)

    @property
    def _state(self) -> Path:
        return self.path / "state.json"
