"""Use case of the signed vehicle version manifest: verify, record, settle.

Truth is what the vehicle attests after reboot: this alone settles an attempt as succeeded.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import NoReturn

from orchestrator.clock import FleetClock
from orchestrator.model.attempt import AttemptEvent
from orchestrator.model.decision import Refusal
from orchestrator.model.ids import FleetTime, ReleaseVersion, VehicleId
from orchestrator.model.release import Release
from orchestrator.model.vehicle import VehicleRecord
from orchestrator.service.director import to_datetime
from orchestrator.service.errors import InvalidInputError, TryLaterError
from orchestrator.service.records import record_of, still_known
from orchestrator.service.snapshot import SnapshotKeeper
from orchestrator.store.base import Attestation, JournalEntry, Store
from orchestrator.telemetry import Metrics
from signing.errors import AttackCode, VerificationError
from signing.manifest import InventoryEcu, Manifest, verify_manifest

RECORD_AGAIN_MS = 3_600_000
"""Fleet time before the same fault of the same vehicle is recorded again; every one is counted."""
RECORDED_MAX = 10_000


class ManifestDesk:
    """Takes manifests.

    Args:
        store: committed to.
        snapshots: releases, to say which one a manifest proves.
        clock: fleet time.
        metrics: counted into.
        verify: checks a manifest as `signing.manifest.verify_manifest` does; a simulation has vehicles without keys.
    """

    def __init__(
        self,
        *,
        store: Store,
        snapshots: SnapshotKeeper,
        clock: FleetClock,
        metrics: Metrics,
        verify: Callable[..., Manifest] = verify_manifest,
    ) -> None:
        self._store = store
        self._snapshots = snapshots
        self._clock = clock
        self._metrics = metrics
        self._verify_manifest = verify
        self._recorded: OrderedDict[tuple[VehicleId, AttackCode], FleetTime] = OrderedDict()

    async def submit(self, vehicle_id: VehicleId, content: bytes) -> tuple[str, VehicleRecord]:
        """Verify and record a vehicle version manifest; this alone settles an attempt as succeeded.

        Returns:
            The manifest's SHA-256 in hex and the vehicle's record afterwards.

        Raises:
            NotFoundError: the vehicle is not in the inventory.
            TryLaterError: this worker does not know the attempt's release yet.
            InvalidInputError: forged, replayed, incomplete or foreign: dropped and recorded.
        """
        now = FleetTime(self._clock.now())
        record = await record_of(self._store, vehicle_id)
        digest = hashlib.sha256(content).hexdigest()
        if digest == record.manifest_sha256:
            return digest, record
        try:
            manifest = await asyncio.to_thread(self._verify, record, content, now)
        except VerificationError as error:
            await self._refuse(vehicle_id, error.code, str(error), now)
        with still_known(vehicle_id):
            answer = await self._store.attest(vehicle_id, self._attestation(record, manifest, content), now=now)
        if isinstance(answer, Refusal):
            await self._refuse(vehicle_id, AttackCode.REPLAY, answer.message, now)
        self._metrics.manifests.labels(outcome="accepted").inc()
        return manifest.sha256, answer.record

    def _verify(self, record: VehicleRecord, content: bytes, now: FleetTime) -> Manifest:
        ecus = [
            InventoryEcu(serial=ecu.serial, public_key=ecu.public_key, primary=ecu.primary)
            for ecu in record.vehicle.ecus
        ]
        return self._verify_manifest(
            content,
            vehicle_id=record.vehicle.vehicle_id,
            ecus=ecus,
            counter_above=record.manifest_counter,
            now=to_datetime(now),
        )

    async def _refuse(self, vehicle_id: VehicleId, code: AttackCode, message: str, now: FleetTime) -> NoReturn:
        self._metrics.manifests.labels(outcome="refused").inc()
        if self._worth_recording(vehicle_id, code, now):
            await self._store.record(
                JournalEntry(
                    stream="fleet",
                    entry_id="",
                    kind="manifest_refused",
                    at=now,
                    data={"vehicle_id": vehicle_id, "code": code.value, "message": message},
                )
            )
        raise InvalidInputError(
            f"manifest refused: {message}",
            reason=code.value.upper(),
            remedy="sign a fresh manifest with every ECU's own key",
        )

    def _worth_recording(self, vehicle_id: VehicleId, code: AttackCode, now: FleetTime) -> bool:
        """Once an hour for a vehicle and kind of fault: a hostile vehicle must not be able to fill the ledger."""
        key = (vehicle_id, code)
        last = self._recorded.get(key)
        if last is not None and now - last < RECORD_AGAIN_MS:
            return False
        self._recorded[key] = now
        self._recorded.move_to_end(key)
        while len(self._recorded) > RECORDED_MAX:
            self._recorded.popitem(last=False)
        return True

    def _attestation(self, record: VehicleRecord, manifest: Manifest, content: bytes) -> Attestation:
        releases = self._snapshots.current.releases
        installed = {report.ecu_serial: (report.path, report.sha256) for report in manifest.reports}
        proven = [release for release in releases.values() if runs(record, release, installed)]
        newest = max(proven, key=lambda release: release.created_at, default=None)
        event = None
        if record.attempt is not None:
            wanted = releases.get(record.attempt.release)
            if wanted is None:
                raise TryLaterError(
                    f"release {record.attempt.release} is not known here yet",
                    reason="RELEASE_NOT_YET_KNOWN",
                    remedy="hand the manifest in again",
                )
            if runs(record, wanted, installed):
                event = AttemptEvent.ATTESTED_RELEASE
            elif newest is None or newest.created_at < wanted.created_at:
                # A newer release than the attempt's is no way back: a workshop was faster.
                event = AttemptEvent.ATTESTED_OTHER
        return Attestation(
            sha256=manifest.sha256,
            counter=manifest.counter,
            content=content,
            installed=newest.version if newest else ReleaseVersion(""),
            attempt_id=record.attempt.attempt_id if record.attempt else None,
            event=event,
        )


def runs(record: VehicleRecord, release: Release, installed: Mapping[str, tuple[str, str]]) -> bool:
    """Whether every ECU that the release has an image for runs that image, and there is at least one."""
    wanted = [(ecu.serial, release.image_for(ecu.hardware_id)) for ecu in record.vehicle.ecus]
    pairs = [(serial, image) for serial, image in wanted if image is not None]
    return bool(pairs) and all(installed.get(serial) == (image.path, image.sha256) for serial, image in pairs)
