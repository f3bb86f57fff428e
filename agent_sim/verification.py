"""Verification of metadata as each vehicle does it, off the event loop and bounded: the Primary in full, then every
Secondary in part what its Primary passes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from agent_sim.actions import Input, VerificationFailed, Verified, Verify
from agent_sim.ecu import Ecu, WantedImage
from agent_sim.errors import InputFileError
from agent_sim.messages import MetadataVersions
from agent_sim.tally import Tally
from agent_sim.vehicle import VehicleSpec
from signing import versions as signed
from signing.deltas import Delta
from signing.errors import VerificationError
from signing.partial import SecondaryUnit
from signing.secondary import SecondaryVerifier
from signing.verify import InstalledImage, PrimaryVerifier, VerifiedImage


@dataclass(frozen=True, slots=True)
class Provisioning:
    """What the factory puts into every vehicle."""

    director_root: bytes
    image_root: bytes
    enrolment_ca: str
    """Authorities for the server's certificates, PEM."""


def read_provisioning(folder: Path) -> Provisioning:
    """Read what `outrider keys init` wrote.

    Raises:
        InputFileError: a file is missing or unreadable.
    """
    try:
        return Provisioning(
            director_root=(folder / "director-root.json").read_bytes(),
            image_root=(folder / "image-root.json").read_bytes(),
            enrolment_ca=(folder / "enrolment-ca.pem").read_text(),
        )
    except OSError as error:
        raise InputFileError(
            f"provisioning: cannot read {error.filename}: {error.strerror}; give --provisioning DATA/provisioning"
        ) from error


def fleet_datetime(at: int) -> datetime:
    """Fleet time as `signing` takes it: UTC, whole seconds."""
    return datetime.fromtimestamp(at // 1000, tz=UTC)


class Verifications:
    """Verifies for any vehicle.

    Args:
        provisioning: the roots of trust.
        executor: where it is done.
        tally: counted into.
    """

    def __init__(self, provisioning: Provisioning, executor: Executor, tally: Tally) -> None:
        self._provisioning = provisioning
        self._executor = executor
        self._tally = tally
        self._provisioned: tuple[signed.MetadataVersions, signed.MetadataVersions] | None = None

    def verifier(self, folder: Path, spec: VehicleSpec) -> PrimaryVerifier:
        """A vehicle's verifier, with what it holds in `folder`."""
        return PrimaryVerifier(
            folder,
            vehicle_id=spec.vehicle_id,
            ecus={ecu.serial: ecu.hardware_id for ecu in spec.ecus},
            director_root=self._provisioning.director_root,
            image_root=self._provisioning.image_root,
            durable=False,
        )

    def held(self, folder: Path, spec: VehicleSpec) -> tuple[signed.MetadataVersions, signed.MetadataVersions]:
        """The versions that a vehicle holds: Director, Image. One that never verified anything holds what all do."""
        if folder.exists():
            return self.verifier(folder, spec).versions()
        if self._provisioned is None:
            self._provisioned = self.verifier(folder, spec).versions()
        return self._provisioned

    async def verify(self, folder: Path, spec: VehicleSpec, verify: Verify, ecus: tuple[Ecu, ...], now: int) -> Input:
        """Verify the files of one reply.

        Raises:
            HeldMetadataError: this machine's disk failed.
        """
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(self._executor, self._verify, folder, spec, verify, ecus, now)
        self._tally.verifications["good" if isinstance(answer, Verified) else answer.attack] += 1
        return answer

    def _verify(
        self, folder: Path, spec: VehicleSpec, verify: Verify, ecus: tuple[Ecu, ...], now: int
    ) -> Verified | VerificationFailed:
        installed = {
            ecu.serial: InstalledImage(path=ecu.running.path, release_counter=ecu.running.release_counter)
            for ecu in ecus
        }
        try:
            verifier = self.verifier(folder, spec)
            bundle = verifier.verify(
                {(file.repository.value, file.name): file.content for file in verify.files},
                now=fleet_datetime(now),
                installed=installed,
            )
            self._pass_on(folder, spec, verifier.for_secondaries(), installed, fleet_datetime(now))
        except VerificationError as error:
            return VerificationFailed(verify.token, error.code.value)
        director, image = verifier.versions()
        at_hand = {slot.sha256 for ecu in ecus for slot in ecu.slots if slot is not None}
        images = tuple(_wanted(image, verifier.deltas(image, at_hand)) for image in bundle.images)
        return Verified(verify.token, images, held_versions(director), held_versions(image))

    def _pass_on(
        self,
        folder: Path,
        spec: VehicleSpec,
        files: Mapping[str, bytes],
        installed: Mapping[str, InstalledImage],
        now: datetime,
    ) -> None:
        """Every Secondary verifies for itself, with a memory of its own; the first that refuses ends the attempt."""
        for ecu in spec.ecus:
            if not ecu.primary:
                SecondaryVerifier(
                    folder / "secondaries" / f"{ecu.serial}.json",
                    unit=SecondaryUnit(spec.vehicle_id, ecu.serial, ecu.hardware_id),
                    director_root=self._provisioning.director_root,
                    durable=False,
                ).verify(files, now=now, installed=installed.get(ecu.serial))


def held_versions(versions: signed.MetadataVersions) -> MetadataVersions:
    """A verifier's versions as the agent says them."""
    return MetadataVersions(versions.root, versions.timestamp, versions.snapshot, versions.targets)


def _wanted(image: VerifiedImage, deltas: tuple[Delta, ...]) -> WantedImage:
    return WantedImage(
        path=image.path,
        length=image.length,
        sha256=image.sha256,
        hardware_id=image.hardware_id,
        release_counter=image.release_counter,
        ecu_serials=tuple(image.ecu_serials),
        deltas=deltas,
    )
