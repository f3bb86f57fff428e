"""Vehicles as the inventory knows them, and profiles: what vehicles with equal matching fields have in common."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from orchestrator.model.ids import EcuSerial, HardwareId, ReleaseVersion, VehicleId
from orchestrator.model.value import value


@value(frozen=True, slots=True)
class Ecu:
    """One control unit as provisioned."""

    serial: EcuSerial
    """Unique in the fleet."""
    hardware_id: HardwareId
    """Which images fit."""
    public_key: str
    """SubjectPublicKeyInfo, DER in base64, P-256 or Ed25519; signs this unit's version reports."""
    primary: bool
    """True for the one that runs the agent."""


@value(frozen=True, slots=True)
class Vehicle:
    """One vehicle by inventory."""

    vehicle_id: VehicleId
    """Opaque id."""
    model: str
    """For example `S`."""
    hardware: str
    """Hardware variant; with the region it makes the stratum."""
    region: str
    """Operator-assigned area."""
    cohort: str
    """Ring."""
    tags: tuple[str, ...]
    """Sorted, without repetition."""
    ecus: tuple[Ecu, ...]
    """By serial; exactly one is the Primary."""
    zone: str = ""
    """IANA time zone; empty means that of its region in a plan."""

    def profile(self, installed: ReleaseVersion) -> Profile:
        """The fields a target can match, with the release that is installed now."""
        return Profile(
            model=self.model,
            hardware=self.hardware,
            region=self.region,
            cohort=self.cohort,
            tags=self.tags,
            installed=installed,
            zone=self.zone,
        )


@value(frozen=True, slots=True, order=True)
class Profile:
    """What vehicles with equal fields share. A profile is matched once per plan, not once per poll."""

    model: str
    hardware: str
    region: str
    cohort: str
    tags: tuple[str, ...]
    installed: ReleaseVersion
    """Release proven by the last manifest; empty when none."""
    zone: str = ""
    """IANA time zone; empty means that of its region in a plan. No target matches it; windows are in it."""


@value(frozen=True, slots=True, order=True)
class Cell:
    """What is counted apart: recorded on an attempt at its grant and never changed."""

    region: str
    hardware: str
    cohort: str

    @property
    def stratum(self) -> Stratum:
        """The stratum that this cell is a part of."""
        return Stratum(region=self.region, hardware=self.hardware)


class Habit(StrEnum):
    """How often a vehicle usually calls, from its own past gaps (engine/habits)."""

    OFTEN = "often"
    """Several times a day."""
    DAILY = "daily"
    """About once a day."""
    SELDOM = "seldom"
    """Less often."""
    UNKNOWN = "unknown"
    """Too few gaps were heard."""


@dataclass(frozen=True, slots=True, order=True)
class HabitAge:
    """An age at which silence is judged among vehicles of one habit, earlier than at the plan's checkpoints."""

    habit: Habit
    age_ms: int
    """After the exposure, or the enrolment of a control."""


@dataclass(frozen=True, slots=True, order=True)
class Stratum:
    """Region x hardware variant: judged on its own."""

    region: str
    hardware: str
    """Empty: the whole region, where a signal from outside is about one."""

    def __str__(self) -> str:
        return f"{self.region}/{self.hardware}" if self.hardware else self.region


OTHER = Stratum(region="_other", hardware="")
"""All strata together that are too many to be judged each on its own. No region can have that name."""
