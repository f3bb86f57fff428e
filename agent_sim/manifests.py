"""Vehicle version manifests: every unit's own key at work, as the agent calls it."""

from __future__ import annotations

from pathlib import Path

from agent_sim.ecu import Ecu
from agent_sim.errors import FleetFolderError
from agent_sim.vehicle import VehicleSpec
from agent_sim.verification import fleet_datetime
from signing.errors import SigningError
from signing.keys import load_signer
from signing.manifest import EcuReport, sign_manifest, sign_report


class ManifestSigner:
    """Every unit's key at work, as the agent calls it.

    Args:
        folder: where the keys are.
        spec: the vehicle.

    Raises:
        FleetFolderError: a key is missing or unusable.
    """

    def __init__(self, folder: Path, spec: VehicleSpec) -> None:
        self._spec = spec
        try:
            self._signers = {ecu.serial: load_signer(folder, ecu.serial) for ecu in spec.ecus}
        except SigningError as error:
            raise FleetFolderError(f"vehicle {spec.vehicle_id}: {error}; make the fleet again") from error

    def __call__(self, ecus: tuple[Ecu, ...], counter: int, at: int, attack: str) -> bytes:
        """Sign what `ecus` run; the Primary reports the attack."""
        primary = self._spec.primary.serial
        reports = [
            sign_report(
                EcuReport(
                    ecu_serial=ecu.serial,
                    path=ecu.running.path,
                    length=ecu.running.length,
                    sha256=ecu.running.sha256,
                    attack=attack if ecu.primary else "",
                    time=fleet_datetime(at),
                    counter=counter,
                ),
                self._signers[ecu.serial],
            )
            for ecu in ecus
        ]
        return sign_manifest(self._spec.vehicle_id, primary, reports, self._signers[primary])
