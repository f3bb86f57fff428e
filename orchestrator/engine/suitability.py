"""Suitability: whether a rollout's release suits a vehicle, by what that runs and what the release has images for.

Owns these reasons and their words, and what sending it costs. Their place among all other reasons is the matter of
`admission`.
"""

from __future__ import annotations

from math import ceil

from orchestrator.engine import pins
from orchestrator.engine.targets import CompiledTarget, lacks_intermediate
from orchestrator.model.decision import Refusal, RefusalReason
from orchestrator.model.fleet import Vehicle
from orchestrator.model.release import Release
from orchestrator.model.rollout import Rollout
from orchestrator.model.vehicle import VehicleRecord


def installed(record: VehicleRecord, rollout: Rollout, target: CompiledTarget) -> Refusal | None:
    """Why a vehicle needs no update by what it runs: the release, or one that the release cannot follow."""
    release = rollout.plan.release
    facts = {"installed": record.installed, "release": release}
    if record.installed == release:
        return Refusal(RefusalReason.ALREADY_INSTALLED, f"release {release} is installed already", facts)
    if record.installed not in target.newer:
        return None
    return Refusal(
        RefusalReason.NEWER_INSTALLED,
        f"release {record.installed} is installed, which is newer than {release} by its release counters",
        facts,
    )


def image(record: VehicleRecord, rollout: Rollout, release: Release | None) -> Refusal | None:
    """Why there is nothing to send: no such release, another one than was reviewed, or no image for any ECU."""
    version = rollout.plan.release
    wanted = sorted({ecu.hardware_id for ecu in record.vehicle.ecus})
    facts = {"release": version, "hardware_ids": ", ".join(wanted)}
    if release is None:
        return Refusal(RefusalReason.NO_IMAGE_FOR_HARDWARE, f"release {version} is not registered", facts)
    swapped = pins.changed(rollout, release)
    if swapped:
        return Refusal(RefusalReason.RELEASE_CHANGED, swapped, facts)
    if any(release.image_for(hardware_id) is not None for hardware_id in wanted):
        return None
    held = ", ".join(image.hardware_id for image in release.images) or "nothing"
    return Refusal(
        RefusalReason.NO_IMAGE_FOR_HARDWARE,
        f"release {version} has images for {held}, the vehicle has ECUs {', '.join(wanted) or 'of no kind'}",
        {**facts, "images_for": held},
    )


def transfer_ms(vehicle: Vehicle, release: Release | None, bandwidth_bytes_per_s: int) -> int:
    """Fleet time for which a vehicle's images fill the bandwidth of its region; 0 when there is no budget.

    Counted is what it would fetch in full: whatever it holds already, or fetches from elsewhere, only leaves room.

    Args:
        vehicle: With its ECUs.
        release: That it would be sent; None when it is not registered.
        bandwidth_bytes_per_s: Of the region; 0: no limit.
    """
    if release is None or not bandwidth_bytes_per_s:
        return 0
    hardware = {ecu.hardware_id for ecu in vehicle.ecus}
    size = sum(image.length_bytes for image in release.images if image.hardware_id in hardware)
    return ceil(size * 1000 / bandwidth_bytes_per_s)


def intermediate(record: VehicleRecord, rollout: Rollout, target: CompiledTarget) -> Refusal | None:
    """That another rollout has to bring the vehicle the required intermediate release first."""
    if not lacks_intermediate(target, record.installed):
        return None
    wanted = rollout.plan.requires
    return Refusal(
        RefusalReason.INTERMEDIATE_MISSING,
        f"the plan requires {wanted} to be installed before, the vehicle has {record.installed or 'proven nothing'}",
        {"requires": wanted, "installed": record.installed or "unknown"},
    )
