"""Vehicle version manifests: every unit's own key at work, as the agent calls it."""

from __future__ import annotations

from pathlib import Path

from securesystemslib.signer import CryptoSigner

from agent_sim.ecu import Ecu
from agent_sim.errors import FleetFolderError
from agent_sim.vehicle import VehicleSpec
from agent_sim.verification import fleet_datetime
from signing.errors import SigningError
from signing.keys import load_signer
from signing.manifest import EcuReport, sign_manifest, sign_report


class ManifestSigner:
    """Every unit's key at work, as the agent calls it; read when there is something to sign, which is seldom, and
    forgotten: those of a large fleet would take more memory than all else of it.

    Args:
        folder: where the keys are.
        spec: the vehicle.
    """

    def __init__(self, folder: Path, spec: VehicleSpec) -> None:
        self._folder = folder
        self._spec = spec

    def __call__(self, ecus: tuple[Ecu, ...], counter: int, at: int, attack: str) -> bytes:
        """Sign what `ecus` run; the Primary reports the attack.

        Raises:
            FleetFolderError: a key is missing or unusable.
        """
        primary, signers = self._spec.primary.serial, self._signers()
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
                signers[ecu.serial],
            )
            for ecu in ecus
        ]
        return sign_manifest(self._spec.vehicle_id, primary, reports, signers[primary])

    def _signers(self) -> dict[str, CryptoSigner]:
        try:
            return {ecu.serial: load_signer(self._folder, ecu.serial) for ecu in self._spec.ecus}
        except SigningError as error:
            raise FleetFolderError(f"vehicle {self._spec.vehicle_id}: {error}; make the fleet again") from error
