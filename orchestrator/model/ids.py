"""Ids and fleet time: the words that every other value is built from."""

from __future__ import annotations

import re
from typing import NewType

VehicleId = NewType("VehicleId", str)
"""Opaque name of a vehicle, `[A-Za-z0-9][A-Za-z0-9_-]{0,63}`. Never the VIN."""

EcuSerial = NewType("EcuSerial", str)
"""Serial of a control unit, unique in the fleet."""

HardwareId = NewType("HardwareId", str)
"""What an image is built for, for example `acme-gw-2`."""

RolloutId = NewType("RolloutId", str)
"""`[a-z0-9][a-z0-9-]{0,62}`, chosen by the operator or the server."""

AttemptId = NewType("AttemptId", str)
"""`<rollout id>.<vehicle id>.<number>`: says where an attempt belongs, so that nothing needs an index."""

ReleaseVersion = NewType("ReleaseVersion", str)
"""Semantic version of a release."""

FleetTime = NewType("FleetTime", int)
"""Milliseconds since the Unix epoch on the fleet clock, which may run fast in a simulation."""

VEHICLE_ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
ROLLOUT_ID_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
"""Regions, cohorts, models, hardware variants and tags: short, so that they can be labels."""

ATTEMPT_NUMBER_PATTERN = re.compile(r"[0-9]{1,9}")
"""Ids come from outside: int() refuses thousands of digits with an error of its own."""


def attempt_id(rollout_id: RolloutId, vehicle_id: VehicleId, number: int) -> AttemptId:
    """The id of the `number`th try (from 1) of a vehicle at a rollout."""
    return AttemptId(f"{rollout_id}.{vehicle_id}.{number}")


def split_attempt_id(value: str) -> tuple[RolloutId, VehicleId, int] | None:
    """Take an attempt id apart; None when `value` is not one."""
    parts = value.split(".")
    if len(parts) != 3 or not ATTEMPT_NUMBER_PATTERN.fullmatch(parts[2]):
        return None
    if not ROLLOUT_ID_PATTERN.fullmatch(parts[0]) or not VEHICLE_ID_PATTERN.fullmatch(parts[1]):
        return None
    return RolloutId(parts[0]), VehicleId(parts[1]), int(parts[2])
