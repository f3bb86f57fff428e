"""Releases, both ways."""

from __future__ import annotations

from collections.abc import Sequence

from outrider.v1 import release_pb2

from orchestrator.model.ids import FleetTime, HardwareId, ReleaseVersion
from orchestrator.model.release import Image, Release
from orchestrator.rpc.convert.wire import timestamp
from orchestrator.service.release_deltas import ReleaseDelta
from orchestrator.service.releases import Said
from orchestrator.service.vouching import ImageEvidence


def release_in(message: release_pb2.Release) -> Release:
    """A release to be registered; output fields are ignored."""
    return Release(
        version=ReleaseVersion(message.version),
        images=tuple(
            Image(
                path=image.path,
                hardware_id=HardwareId(image.hardware_id),
                length_bytes=image.length_bytes,
                sha256=image.sha256,
                release_counter=image.release_counter,
            )
            for image in sorted(message.images, key=lambda image: image.hardware_id)
        ),
        notes=message.notes,
        created_at=FleetTime(0),
        targets_version=0,
        reverts=ReleaseVersion(message.reverts),
    )


NOTHING_SAID = Said()


def release(
    value: Release,
    deltas: Sequence[ReleaseDelta] = (),
    *,
    said: Said = NOTHING_SAID,
    evidence: Sequence[ImageEvidence] = (),
) -> release_pb2.Release:
    """A release as operators see it, with the deltas to its images, and what was signed about it."""
    return release_pb2.Release(
        name=f"releases/{value.version}",
        version=value.version,
        images=[
            release_pb2.Image(
                path=image.path,
                hardware_id=image.hardware_id,
                length_bytes=image.length_bytes,
                sha256=image.sha256,
                release_counter=image.release_counter,
            )
            for image in value.images
        ],
        notes=value.notes,
        create_time=timestamp(value.created_at),
        targets_version=value.targets_version,
        reverts=value.reverts,
        deltas=[
            release_pb2.Delta(
                hardware_id=delta.hardware_id,
                from_release=delta.from_release,
                length_bytes=delta.length_bytes,
                image_length_bytes=delta.image_length_bytes,
                path=delta.path,
                sha256=delta.sha256,
            )
            for delta in deltas
        ],
        requires=said.facts.requires,
        conflicts=said.facts.conflicts,
        rxswin=said.facts.rxswin,
        safety_relevant=said.facts.safety_relevant,
        notes_by_language=said.notes,
        evidence=[_evidence(each) for each in evidence],
    )


def _evidence(value: ImageEvidence) -> release_pb2.Evidence:
    found = value.found
    return release_pb2.Evidence(
        hardware_id=value.hardware_id,
        fault=value.fault,
        builder=found.builder if found else "",
        level=value.level,
        component=found.component if found else "",
        component_count=found.components if found else 0,
        tests_passed=found.tests_passed if found else 0,
        tests_warned=found.tests_warned if found else 0,
        waived=value.waived,
        attested_by=value.attested_by,
        attest_time=timestamp(round(value.attested_at.timestamp() * 1000)) if value.attested_at else None,
        sha256=value.digests,
        missing=value.missing,
    )
