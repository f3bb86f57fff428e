"""The world of one run: authorities, both repositories' keys, released images, and vehicles as a factory makes them.

Everything is made on the spot with `signing`, so that no agent can tell it from an installation. Owns keys and bytes;
what is signed for whom is `metadata`'s business.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from agent_sim.clock import machine_date
from agent_sim.ecu import InstalledImage
from agent_sim.images import build_image, image_path, release_counter
from agent_sim.provisioned import ProvisionedEcu, ProvisionedFolder, ProvisionedVehicle
from signing.ceremony import DataFolder, initialise
from signing.director import AssignedImage
from signing.image_repo import ImageRepository, NewImage
from signing.keys import generate_ecu_key, public_key_base64
from signing.manifest import InventoryEcu
from signing.pki import Authority

TRUST_DOMAIN = "conform.invalid"
ORIGIN = datetime(2030, 1, 1, tzinfo=UTC)
"""Fleet time at the begin of each scenario: years from the machine's date on purpose."""
OLDER, FACTORY, RELEASE, NEWER = "0.9.0", "1.0.0", "1.1.0", "1.2.0"
"""Releases: older than the factory's, the factory's, the one that is offered, and a later one."""
HARDWARE = ("acme-gw-1", "acme-brake-1")
"""Of the Primary and of the Secondary."""
IMAGE_BYTES = {"acme-gw-1": 768 * 1024, "acme-brake-1": 64 * 1024}
SERVER_LIFE = timedelta(days=1)
VEHICLE_LIFE = timedelta(days=90)
_SEED = 1


@dataclass(frozen=True, slots=True)
class ConformVehicle:
    """One vehicle: what its folder holds, and what the server knows of it."""

    folder: ProvisionedFolder
    vehicle: ProvisionedVehicle
    inventory: tuple[InventoryEcu, ...]

    @property
    def vehicle_id(self) -> str:
        """Its id."""
        return self.vehicle.vehicle_id


class World:
    """Keys, authorities, repositories and images of a run.

    Args:
        folder: where it may make files.

    Raises:
        OSError: it cannot.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.data: DataFolder = initialise(
            folder / "server", trust_domain=TRUST_DOMAIN, now=machine_date(), fleet_now=ORIGIN - timedelta(hours=1)
        )
        self.repository = ImageRepository(self.data.image_repo)
        self.images: dict[str, bytes] = {}
        """Bytes by file name in the Image repository."""
        self._released: dict[tuple[str, str], AssignedImage] = {}
        for version in (OLDER, FACTORY, RELEASE, NEWER):
            self._publish(version)
        self.server_authority = Authority.load(self.data.authorities, "server")
        self.vehicle_authority = Authority.load(self.data.authorities, "vehicle")
        self.server_chain, self.server_key = self.server_authority.issue_server(
            names=["localhost", "127.0.0.1"], now=machine_date(), life=SERVER_LIFE
        )

    def _publish(self, version: str) -> None:
        new = []
        for hardware_id in HARDWARE:
            content = build_image(hardware_id, version, IMAGE_BYTES[hardware_id], _SEED)
            path = image_path(hardware_id, version)
            file = self._folder / f"{hardware_id}-{version}.img"
            file.write_bytes(content)
            digest, counter = sha256(content).hexdigest(), release_counter(version)
            self.images[f"{digest}.{path.rpartition('/')[2]}"] = content
            self._released[version, hardware_id] = AssignedImage(
                path, len(content), digest, hardware_id, counter, ("nobody",)
            )
            new.append(NewImage(path, file, hardware_id, counter, version))
        self.repository.publish(new, self.data.image_keys, ORIGIN - timedelta(minutes=30))

    def released(self, version: str, vehicle: ConformVehicle) -> tuple[AssignedImage, ...]:
        """What a release means for a vehicle: one image for each unit."""
        images = []
        for ecu in vehicle.vehicle.ecus:
            image = self._released[version, ecu.hardware_id]
            images.append(
                AssignedImage(
                    image.path, image.length, image.sha256, image.hardware_id, image.release_counter, (ecu.serial,)
                )
            )
        return tuple(images)

    def make_vehicle(self, vehicle_id: str) -> ConformVehicle:
        """A vehicle fresh from the factory, in a folder of its own."""
        signers = {f"{vehicle_id}-e{number}": generate_ecu_key() for number in range(len(HARDWARE))}
        ecus = []
        for number, (serial, hardware_id) in enumerate(zip(signers, HARDWARE, strict=True)):
            image = self._released[FACTORY, hardware_id]
            runs = InstalledImage(image.path, image.length, image.sha256, image.release_counter)
            ecus.append(ProvisionedEcu(serial, hardware_id, primary=number == 0, installed=runs))
        vehicle = ProvisionedVehicle(vehicle_id, secrets.token_hex(16), tuple(ecus))
        folder = ProvisionedFolder(self._folder / "vehicles" / vehicle_id)
        names = ("director-root.json", "image-root.json", "enrolment-ca.pem")
        folder.provision(
            vehicle,
            {serial: signer.private_bytes for serial, signer in signers.items()},
            {name: (self.data.provisioning / name).read_bytes() for name in names},
        )
        inventory = tuple(InventoryEcu(ecu.serial, public_key_base64(signers[ecu.serial]), ecu.primary) for ecu in ecus)
        return ConformVehicle(folder, vehicle, inventory)
