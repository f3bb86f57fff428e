"""Papers without signatures: what the Director assigns and what a vehicle attests, as plain JSON.

Signatures have tests of their own; here they would cost more time than everything else together. What stays is what
the orchestrator and the vehicle make of the content: versions, counters, digests, which image is for which unit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from agent_sim.ecu import Ecu
from orchestrator.model.ids import FleetTime, HardwareId, ReleaseVersion
from orchestrator.model.release import Image, Release
from signing.director import Assignment, DirectorVersions, Renewal
from signing.errors import AttackCode, VerificationError
from signing.manifest import EcuReport, InventoryEcu, Manifest
from tests.builders import NOW
from tests.sim.scenario import HARDWARE_IDS, IMAGE_BYTES

NOWHERE = Path("no-such-folder")
"""Where the Director's roots and the Image repository's metadata would be."""


def a_signed_release(version: str, number: int) -> Release:
    """A release with an image for every unit; later numbers are later releases."""
    images = tuple(
        Image(
            path=f"{hardware_id}-{version}.img",
            hardware_id=HardwareId(hardware_id),
            length_bytes=IMAGE_BYTES,
            sha256=hashlib.sha256(f"{hardware_id} {version}".encode()).hexdigest(),
            release_counter=1 + number,
        )
        for hardware_id in sorted(HARDWARE_IDS)
    )
    return Release(ReleaseVersion(version), images, "", FleetTime(NOW + number), targets_version=0)


class UnsignedDirector:
    """The signer, without keys: one file that says everything, and a snapshot that says nothing."""

    async def director_files(self, assignment: Assignment, versions: DirectorVersions) -> dict[str, bytes]:
        """See `service.director.Signer`."""
        content = {
            "timestamp_version": versions.timestamp_version,
            "images": [asdict(image) for image in assignment.images],
        }
        timestamp = json.dumps(content, sort_keys=True).encode()
        return {f"{versions.version}.snapshot.json": b"{}", "timestamp.json": timestamp}

    async def director_timestamp(self, renewal: Renewal) -> bytes:
        """See `service.director.Signer`; these vehicles hold no snapshot, so that nobody asks."""
        raise AssertionError(f"a timestamp alone for {renewal.vehicle_id}")


def sign_unsigned(ecus: tuple[Ecu, ...], counter: int, at: int, attack: str) -> bytes:
    """A manifest of what the units run."""
    running = [[ecu.serial, ecu.running.path, ecu.running.length, ecu.running.sha256] for ecu in ecus]
    return json.dumps({"running": running, "counter": counter, "at": at, "attack": attack}).encode()


def verify_unsigned(
    content: bytes, *, vehicle_id: str, ecus: Sequence[InventoryEcu], counter_above: int, now: datetime
) -> Manifest:
    """As `signing.manifest.verify_manifest`, but for keys.

    Raises:
        VerificationError: a replay, or not every unit is in it.
    """
    data = json.loads(content)
    if data["counter"] <= counter_above:
        raise VerificationError(AttackCode.REPLAY, f"counter {data['counter']} is not above {counter_above}")
    reports = tuple(
        EcuReport(serial, path, length, sha256, data["attack"], now, data["counter"])
        for serial, path, length, sha256 in sorted(data["running"])
    )
    assert {report.ecu_serial for report in reports} == {ecu.serial for ecu in ecus}
    return Manifest(vehicle_id, reports, data["counter"], hashlib.sha256(content).hexdigest())
