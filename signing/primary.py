"""A vehicle's Primary as a factory leaves it: what it verifies, fetches and signs with, from its provisioning folder.

Binds the parts of a vehicle's side (`verify`, `completion`, `retrieval`, `manifest`) to one vehicle's keys, roots and
control units. Holds no state but verified metadata and downloads: what its control units run is the agent's to
remember, and handed in. docs/conform.md describes the folder.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from outrider.v1 import vehicle_pb2

from signing.completion import Fetch, verify_completing
from signing.errors import AttackCode, KeyFileError
from signing.keys import load_signer
from signing.manifest import EcuReport, sign_manifest, sign_report
from signing.partial import SecondaryUnit
from signing.retrieval import Retrieval, retrieve
from signing.secondary import SecondaryVerifier
from signing.verify import InstalledImage, PrimaryVerifier

REPOSITORIES = {"director": vehicle_pb2.REPOSITORY_DIRECTOR, "image": vehicle_pb2.REPOSITORY_IMAGE}
"""On the wire, by the names that verification has for them."""


@dataclass(frozen=True, slots=True)
class Software:
    """What a control unit runs, or shall run, as the Director's targets name it."""

    path: str
    length: int
    """Bytes."""
    sha256: str
    """Hex digest."""
    release_counter: int


def to_json(wanted: Mapping[str, Software]) -> dict[str, dict[str, Any]]:
    """What control units shall run, in a form that JSON can hold."""
    return {serial: asdict(software) for serial, software in wanted.items()}


def from_json(kept: Mapping[str, Mapping[str, Any]]) -> dict[str, Software]:
    """The inverse of `to_json`."""
    return {serial: Software(**software) for serial, software in kept.items()}


@dataclass(frozen=True, slots=True)
class SignedManifest:
    """A manifest, to be kept and sent as it is."""

    content: str
    """Its very bytes, which are UTF-8."""
    sha256: str
    """Of these, hex."""
    counter: int


class Primary:
    """One vehicle's Primary, which holds the keys of its Secondaries as well.

    Args:
        folder: The provisioning folder.
        state: Where verified metadata and downloads are kept; created if need be.
        now_s: The machine's monotonic clock, seconds, to give up mirrors that are too slow; None: they are not.

    Raises:
        KeyFileError: The folder lacks something, or holds something unusable.
        HeldMetadataError: What was verified earlier cannot be read.
        VerificationError: A provisioned root would let one key count twice.
    """

    def __init__(self, folder: Path, state: Path, now_s: Callable[[], float] | None = None) -> None:
        self._now_s, self._slow = now_s, False
        self._folder = folder
        vehicle, roots = _vehicle(folder / "vehicle.json"), folder / "provisioning"
        self.vehicle_id: str = vehicle["vehicle_id"]
        self.factory: Mapping[str, Software] = {ecu["serial"]: Software(**ecu["installed"]) for ecu in vehicle["ecus"]}
        """What each control unit ran when it left the factory, by serial, the Primary's first."""
        self._serial = next(ecu["serial"] for ecu in vehicle["ecus"] if ecu["primary"])
        self._keys = {serial: load_signer(folder / "keys", serial) for serial in self.factory}
        self._tls = ssl.create_default_context(cadata=_provisioned(roots / "enrolment-ca.pem").decode())
        self._whole: set[str] = set()
        self._downloads = state / "downloads"
        self._downloads.mkdir(parents=True, exist_ok=True)
        self._verifier = PrimaryVerifier(
            state,
            vehicle_id=self.vehicle_id,
            ecus={ecu["serial"]: ecu["hardware_id"] for ecu in vehicle["ecus"]},
            director_root=_provisioned(roots / "director-root.json"),
            image_root=_provisioned(roots / "image-root.json"),
        )
        self._secondaries = {
            ecu["serial"]: SecondaryVerifier(
                state / "secondaries" / f"{ecu['serial']}.json",
                unit=SecondaryUnit(self.vehicle_id, ecu["serial"], ecu["hardware_id"]),
                director_root=_provisioned(roots / "director-root.json"),
            )
            for ecu in vehicle["ecus"]
            if not ecu["primary"]
        }

    def versions(self) -> dict[str, Any]:
        """The versions held, as the fields of a poll that tell them."""
        director, image = (vehicle_pb2.MetadataVersions(**asdict(held)) for held in self._verifier.versions())
        return {"director_versions": director, "image_versions": image}

    def verify(
        self, answer: vehicle_pb2.CheckInResponse, *, fetch: Fetch, running: Mapping[str, Software]
    ) -> dict[str, Software]:
        """Verify what a poll brought of both repositories, by the fleet time that it told.

        The Primary verifies in full; then every Secondary verifies in part what it is passed on.

        Args:
            answer: The answer to the poll.
            fetch: Gets files that it did not bring.
            running: What each control unit runs, by serial.

        Returns:
            What which control unit shall run, by serial.

        Raises:
            VerificationError: Something was refused; the code says what it looks like.
            HeldMetadataError: The disk failed.
        """
        names, now = {number: name for name, number in REPOSITORIES.items()}, answer.fleet_time.ToDatetime(UTC)
        files = {(names[f.repository], f.name): f.content for f in answer.metadata if f.repository in names}
        installed = {serial: InstalledImage(each.path, each.release_counter) for serial, each in running.items()}
        bundle = verify_completing(self._verifier, files, fetch=fetch, now=now, installed=installed)
        passed_on = self._verifier.for_secondaries()
        for serial, secondary in self._secondaries.items():
            secondary.verify(passed_on, now=now, installed=installed.get(serial))
        return {
            serial: Software(image.path, image.length, image.sha256, image.release_counter)
            for image in bundle.images
            for serial in image.ecu_serials
        }

    def downloaded(self, software: Software) -> Path:
        """The file that `retrieve` brings; whole and verified once it said so."""
        return self._downloads / software.sha256

    def retrieve(self, wanted: Iterable[Software], bases: Sequence[str], meanwhile: Callable[[], bool]) -> Retrieval:
        """Go on with the download of all images; see `retrieval.retrieve`.

        Returns:
            What came of it, all together. It ends with the first that is incomplete.

        Raises:
            VerificationError: ENDLESS_DATA or ARBITRARY; that file is gone.
            OSError: The disk failed.
        """
        received_bytes = 0
        for each in wanted:
            if each.sha256 in self._whole:
                continue  # found whole before: to hash it at each try would take ever longer
            got = retrieve(
                path=each.path,
                length=each.length,
                sha256=each.sha256,
                bases=bases,
                file=self.downloaded(each),
                tls=self._tls,
                meanwhile=meanwhile,
                now_s=self._now_s,
            )
            self._slow = self._slow or got.slow
            received_bytes += got.received_bytes
            if not got.complete:
                return Retrieval(False, received_bytes)
            self._whole.add(each.sha256)
        return Retrieval(True, received_bytes)

    def discard(self) -> None:
        """Remove every download: the attempt that they were for is over."""
        self._whole.clear()
        for file in self._downloads.iterdir():
            file.unlink()

    def manifest(
        self, running: Mapping[str, Software], *, fleet_ms: int, last_counter: int, attack: str = ""
    ) -> SignedManifest:
        """Sign what every control unit runs, each report with that unit's own key.

        Args:
            running: What each control unit runs, by serial.
            fleet_ms: The latest fleet time that is known, milliseconds since 1970.
            last_counter: Of the manifest before; 0 without one.
            attack: What the Primary detected; empty when nothing. A mirror that was too slow is reported by itself.

        Returns:
            The manifest. Its counter rises even where the last one was forgotten.

        Raises:
            SigningError: A field cannot be signed as it is.
        """
        attack = attack or (AttackCode.SLOW_RETRIEVAL.value if self._slow else "")
        self._slow = False
        counter = max(last_counter + 1, fleet_ms // 1000)
        time = datetime.fromtimestamp(fleet_ms // 1000, UTC)
        reports = [
            sign_report(
                EcuReport(
                    ecu_serial=serial,
                    path=software.path,
                    length=software.length,
                    sha256=software.sha256,
                    attack=attack if serial == self._serial else "",
                    time=time,
                    counter=counter,
                ),
                self._keys[serial],
            )
            for serial, software in running.items()
        ]
        content = sign_manifest(self.vehicle_id, self._serial, reports, self._keys[self._serial])
        return SignedManifest(content.decode(), hashlib.sha256(content).hexdigest(), counter)

    def conditions(self) -> vehicle_pb2.Conditions:
        """What the sensors say now: `conditions.json` stands in for them."""
        path = self._folder / "conditions.json"
        said = json.loads(path.read_bytes()) if path.exists() else {}
        free = shutil.disk_usage(self._folder).free
        now = {"link_type": "unspecified", "battery_percent": 80, "parked": True, "storage_free_bytes": free} | said
        return vehicle_pb2.Conditions(**now | {"link_type": f"LINK_TYPE_{now['link_type'].upper()}"})

    def consent(self, attempt_id: str) -> str:
        """What the owner answered: `agreed`, `declined`, or nothing yet; a file stands in for the screen."""
        path = self._folder / "consent" / attempt_id
        return path.read_text().strip() if path.exists() else ""


def _vehicle(path: Path) -> dict[str, Any]:
    try:
        vehicle: dict[str, Any] = json.loads(_provisioned(path))
        if sum(bool(ecu["primary"]) for ecu in vehicle["ecus"]) != 1:
            raise KeyFileError(f"{path} does not name exactly one control unit as primary")
        _ = vehicle["vehicle_id"], [(ecu["serial"], ecu["hardware_id"], ecu["installed"]) for ecu in vehicle["ecus"]]
    except (ValueError, KeyError, TypeError) as exc:
        raise KeyFileError(f"{path} is not what docs/conform.md describes: {exc!r}") from exc
    return vehicle


def _provisioned(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise KeyFileError(f"cannot read {path}: {exc.strerror}; a factory puts it there") from exc
