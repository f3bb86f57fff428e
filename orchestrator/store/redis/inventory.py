"""Inventory on its way in and out: what vehicles have in common is kept once, what is a vehicle's own is packed.

A million vehicles come in some hundred *shapes*: model, variant, region, cohort, tags, zone, and which control units.
A shape is kept once a shard, under a number; a vehicle's own record is that number and its units' serials and keys.
Records are `<number>|<units>`, so that a function finds the shape without unpacking the units.
"""

from __future__ import annotations

import base64
import binascii
from functools import lru_cache
from typing import Any

import msgpack  # type: ignore[import-untyped]

from orchestrator.model.fleet import Ecu, Vehicle
from orchestrator.model.ids import HardwareId, VehicleId
from orchestrator.store.redis.packing import SCHEMA, pack, unpack

SHAPE = ("schema", "model", "hardware", "region", "cohort", "tags", "zone", "units")
"""Of a shape; `units` is an array of hardware id and whether it is the Primary."""

_SPKI_PREFIXES = {
    64: bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004"),  # P-256, an uncompressed point
    32: bytes.fromhex("302a300506032b6570032100"),  # Ed25519
}
"""What stands before the key itself in a SubjectPublicKeyInfo, by the length of the key in bytes."""
_PREFIXES_TEXT = {length: base64.b64encode(prefix).decode() for length, prefix in _SPKI_PREFIXES.items()}
"""The same in base64; their lengths are multiples of three, so that what follows is written by itself."""


def encode_shape(vehicle: Vehicle) -> bytes:
    """What a vehicle has in common with others; equal shapes give equal bytes."""
    units = tuple((ecu.hardware_id, ecu.primary) for ecu in vehicle.ecus)
    common = (vehicle.model, vehicle.hardware, vehicle.region, vehicle.cohort, vehicle.tags, vehicle.zone)
    return _packed_shape((SCHEMA, *common, units))


def encode_units(vehicle: Vehicle) -> bytes:
    """What is a vehicle's own: serial and key of each control unit; equal vehicles give equal bytes."""
    return pack([part for ecu in vehicle.ecus for part in (ecu.serial, _short_key(ecu.public_key))])


def decode_vehicle(vehicle_id: bytes, shape: bytes, record: bytes) -> Vehicle:
    """A vehicle from its id, its shape and its own record.

    Raises:
        StoreRefusedError: the shape is of another schema.
    """
    model, hardware, region, cohort, tags, zone, units = read_shape(shape)
    own: list[Any] = msgpack.unpackb(record.partition(b"|")[2])
    return Vehicle(
        vehicle_id=VehicleId(vehicle_id.decode()),
        model=model,
        hardware=hardware,
        region=region,
        cohort=cohort,
        tags=tags,
        ecus=tuple(
            [  # a list: it is read at every call, and a generator takes twice as long
                Ecu(serial, hardware_id, _long_key(key), primary)
                for (hardware_id, primary), serial, key in zip(units, own[::2], own[1::2], strict=True)
            ]
        ),
        zone=zone,
    )


@lru_cache(maxsize=4096)
def _packed_shape(fields: tuple[object, ...]) -> bytes:
    """Shapes are few, and asked for with every vehicle of an import."""
    return pack(fields)


@lru_cache(maxsize=4096)
def read_shape(data: bytes) -> tuple[str, str, str, str, tuple[str, ...], str, tuple[tuple[HardwareId, bool], ...]]:
    """Shapes are few and read at every call."""
    _, model, hardware, region, cohort, tags, zone, units = unpack(data, SHAPE)
    return (
        model,
        hardware,
        region,
        cohort,
        tuple(tags),
        zone,
        tuple((HardwareId(name), bool(first)) for name, first in units),
    )


def _short_key(public_key: str) -> bytes | str:
    """A key without what all of its kind begin with; one that is written in any other way stays as it is."""
    try:
        der = base64.b64decode(public_key, validate=True)
    except ValueError:
        return public_key
    for length, prefix in _SPKI_PREFIXES.items():
        short = der[len(prefix) :]
        if len(short) == length and der.startswith(prefix) and _long_key(short) == public_key:
            return short
    return public_key


def _long_key(key: bytes | str) -> str:
    if isinstance(key, str):
        return key
    return _PREFIXES_TEXT[len(key)] + binascii.b2a_base64(key, newline=False).decode()
