"""The folder that a factory hands to the agent of one vehicle: everything that it needs to begin.

Owns the form, written and read; docs/conform.md describes it for authors of other agents. Leaves what an agent keeps
in its `state` folder to the agent. Whole fleets in one process live in `fleet` instead.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_sim.ecu import InstalledImage
from agent_sim.errors import InputFileError
from agent_sim.messages import Conditions, Link
from signing.files import write_atomically

_PRIVATE = 0o600
AGREED = "agreed"
DECLINED = "declined"


@dataclass(frozen=True, slots=True)
class ProvisionedEcu:
    """One control unit as the factory delivers it."""

    serial: str
    hardware_id: str
    primary: bool
    installed: InstalledImage
    """What it runs."""


@dataclass(frozen=True, slots=True)
class ProvisionedVehicle:
    """`vehicle.json`."""

    vehicle_id: str
    token: str
    """Single-use, for enrolment."""
    ecus: tuple[ProvisionedEcu, ...]
    """The Primary first."""

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "vehicle_id": self.vehicle_id,
            "token": self.token,
            "ecus": [
                {
                    "serial": ecu.serial,
                    "hardware_id": ecu.hardware_id,
                    "primary": ecu.primary,
                    "installed": {
                        "path": ecu.installed.path,
                        "length": ecu.installed.length,
                        "sha256": ecu.installed.sha256,
                        "release_counter": ecu.installed.release_counter,
                    },
                }
                for ecu in self.ecus
            ],
        }


@dataclass(frozen=True, slots=True)
class ProvisionedFolder:
    """Where things are."""

    path: Path

    @property
    def vehicle_file(self) -> Path:
        """Id, token and control units."""
        return self.path / "vehicle.json"

    @property
    def endpoints(self) -> Path:
        """Where the server listens, and how fast fleet time runs; may change while the agent runs."""
        return self.path / "endpoints.json"

    @property
    def provisioning(self) -> Path:
        """Roots of trust and the enrolment authority, as `outrider keys init` writes them."""
        return self.path / "provisioning"

    @property
    def keys(self) -> Path:
        """`<serial>.pem`, the private key of each control unit."""
        return self.path / "keys"

    @property
    def state(self) -> Path:
        """The agent's own; empty when it leaves the factory."""
        return self.path / "state"

    def provision(self, vehicle: ProvisionedVehicle, keys: Mapping[str, bytes], roots: Mapping[str, bytes]) -> None:
        """Write everything but the endpoints.

        Args:
            vehicle: ids and units.
            keys: private keys by serial, PKCS#8 PEM.
            roots: `director-root.json`, `image-root.json`, `enrolment-ca.pem`.

        Raises:
            OSError: it cannot be written.
        """
        for folder in (self.path, self.provisioning, self.keys, self.state, self.path / "consent"):
            folder.mkdir(parents=True, exist_ok=True)
        for serial, pem in keys.items():
            write_atomically(self.keys / f"{serial}.pem", pem, mode=_PRIVATE, durable=False)
        for name, content in roots.items():
            write_atomically(self.provisioning / name, content, durable=False)
        write_atomically(self.vehicle_file, json.dumps(vehicle.to_json(), indent=2).encode(), durable=False)

    def connect(self, *, enrollment: str, vehicles: str, scale: float) -> None:
        """Write the endpoints, each `host:port`."""
        document = {"enrollment": enrollment, "vehicles": vehicles, "scale": scale}
        write_atomically(self.endpoints, json.dumps(document).encode(), durable=False)

    def vehicle(self) -> ProvisionedVehicle:
        """Read `vehicle.json`.

        Raises:
            InputFileError: it is missing or something else.
        """
        data = _read(self.vehicle_file)
        try:
            ecus = tuple(
                ProvisionedEcu(ecu["serial"], ecu["hardware_id"], ecu["primary"], InstalledImage(**ecu["installed"]))
                for ecu in data["ecus"]
            )
            return ProvisionedVehicle(str(data["vehicle_id"]), str(data["token"]), ecus)
        except (KeyError, TypeError) as error:
            raise InputFileError(f"{self.vehicle_file}: {error!r} is missing or odd; see docs/conform.md") from error

    def set_conditions(self, conditions: Conditions) -> None:
        """Stand in for the vehicle's sensors."""
        document = {
            "link_type": conditions.link.value,
            "metered": conditions.metered,
            "battery_percent": conditions.battery_percent,
            "parked": conditions.parked,
        }
        write_atomically(self.path / "conditions.json", json.dumps(document).encode(), durable=False)

    def conditions(self) -> Conditions:
        """What the stand-in sensors say; without a file everything is favourable.

        Raises:
            InputFileError: the file is something else.
        """
        path = self.path / "conditions.json"
        if not path.exists():
            return Conditions()
        data = _read(path)
        try:
            return Conditions(
                link=Link(data.get("link_type", Link.CELLULAR)),
                metered=bool(data.get("metered", False)),
                battery_percent=int(data.get("battery_percent", 80)),
                parked=bool(data.get("parked", True)),
            )
        except (AttributeError, TypeError, ValueError) as error:
            raise InputFileError(f"{path}: {error}; see docs/conform.md") from error

    def answer_consent(self, attempt_id: str, answer: str) -> None:
        """Stand in for the owner: `agreed` or `declined`."""
        write_atomically(self.path / "consent" / attempt_id, answer.encode(), durable=False)

    def consent(self, attempt_id: str) -> str:
        """What the owner said: AGREED, DECLINED, or empty when nothing yet."""
        path = self.path / "consent" / attempt_id
        return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputFileError(f"cannot read {path}: {error.strerror}; is this a provisioned folder?") from error
    except ValueError as error:
        raise InputFileError(f"{path} is not JSON: {error}") from error
