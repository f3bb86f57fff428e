"""Control units with two slots each: one runs, the other is written.

Owns which image stands in which slot. A unit never runs what is not completely written, and what ran before stays in
the other slot until the next write.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from signing.deltas import Delta


@dataclass(frozen=True, slots=True)
class InstalledImage:
    """What stands in a slot."""

    path: str
    """Target path in the Image repository."""
    length: int
    """Bytes."""
    sha256: str
    """Hex."""
    release_counter: int


@dataclass(frozen=True, slots=True)
class Ecu:
    """One control unit."""

    serial: str
    hardware_id: str
    primary: bool
    slots: tuple[InstalledImage | None, InstalledImage | None]
    """A and B; None: empty or half written."""
    active: int = 0
    """Index of the slot that runs."""

    @property
    def running(self) -> InstalledImage:
        """What the active slot holds."""
        image = self.slots[self.active]
        assert image is not None, "the active slot is never written"
        return image

    @property
    def spare(self) -> InstalledImage | None:
        """What the inactive slot holds."""
        return self.slots[1 - self.active]

    def with_spare(self, image: InstalledImage | None) -> Ecu:
        """The unit with `image` in its inactive slot; None while it is being written."""
        slots = (self.slots[0], image) if self.active == 0 else (image, self.slots[1])
        return replace(self, slots=slots)

    def swapped(self) -> Ecu:
        """The unit booted from its other slot."""
        assert self.spare is not None, "a half written slot is never booted"
        return replace(self, active=1 - self.active)


@dataclass(frozen=True, slots=True)
class WantedImage:
    """A verified image and the units it is for."""

    path: str
    length: int
    sha256: str
    hardware_id: str
    release_counter: int
    ecu_serials: tuple[str, ...]
    deltas: tuple[Delta, ...] = ()
    """Signed ways to it from what stands in the slots, the smallest first; where one fails it is fetched whole."""

    @property
    def installed(self) -> InstalledImage:
        """The same as it stands in a slot."""
        return InstalledImage(self.path, self.length, self.sha256, self.release_counter)


def erased(ecus: tuple[Ecu, ...], images: tuple[WantedImage, ...]) -> tuple[Ecu, ...]:
    """The units with the inactive slots that `images` go to erased."""
    serials = {serial for image in images for serial in image.ecu_serials}
    return tuple(ecu.with_spare(None) if ecu.serial in serials else ecu for ecu in ecus)


def written(ecus: tuple[Ecu, ...], images: tuple[WantedImage, ...]) -> tuple[Ecu, ...]:
    """The units with `images` in their inactive slots."""
    by_serial = {serial: image.installed for image in images for serial in image.ecu_serials}
    return tuple(ecu.with_spare(by_serial[ecu.serial]) if ecu.serial in by_serial else ecu for ecu in ecus)


def swapped(ecus: tuple[Ecu, ...], images: tuple[WantedImage, ...]) -> tuple[Ecu, ...]:
    """The units that `images` are for, booted from their other slots; the same call again brings them back."""
    serials = {serial for image in images for serial in image.ecu_serials}
    return tuple(ecu.swapped() if ecu.serial in serials else ecu for ecu in ecus)


def run_already(ecus: tuple[Ecu, ...], images: tuple[WantedImage, ...]) -> bool:
    """Whether every image runs already on every unit it is for."""
    by_serial = {ecu.serial: ecu.running.sha256 for ecu in ecus}
    return all(by_serial.get(serial) == image.sha256 for image in images for serial in image.ecu_serials)
