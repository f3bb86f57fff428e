"""Releases: immutable, signed sets of images."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.model.ids import FleetTime, HardwareId, ReleaseVersion


@dataclass(frozen=True, slots=True)
class Image:
    """The bytes for one hardware id, named by digest."""

    path: str
    """Target path in the Image repository."""
    hardware_id: HardwareId
    """Which ECUs it fits."""
    length_bytes: int
    """Exact length."""
    sha256: str
    """Hex digest."""
    release_counter: int
    """Never lower than what an ECU ran before."""


@dataclass(frozen=True, slots=True)
class Release:
    """A release as registered after its images were checked against the Image repository's signed targets."""

    version: ReleaseVersion
    """Semantic version."""
    images: tuple[Image, ...]
    """By hardware id, one each."""
    notes: str
    """What changes, for people."""
    created_at: FleetTime
    """Registration."""
    targets_version: int
    """Version of the Image repository's targets that it was checked against."""
    reverts: ReleaseVersion = ReleaseVersion("")
    """The release that this one undoes: earlier content under higher release counters; empty for others."""

    def image_for(self, hardware_id: HardwareId) -> Image | None:
        """The image that fits `hardware_id`, or None."""
        return next((image for image in self.images if image.hardware_id == hardware_id), None)
