"""Packed records: msgpack arrays by position, each with the schema version in front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack  # type: ignore[import-untyped]

from orchestrator.store.base import StoreRefusedError

SCHEMA = 4
"""Version of every record but a vehicle's hot one that keeps ended attempts; an unknown one is refused."""
SCHEMA_ENDED = 5
"""Version of such a one, and of the data set: earlier builds would overlook what they cannot read."""


def pack(values: Sequence[Any]) -> bytes:
    """One msgpack array."""
    packed: bytes = msgpack.packb(list(values))
    return packed


def unpack(data: bytes, fields: Sequence[str]) -> list[Any]:
    """The values of a record of this schema.

    Raises:
        StoreRefusedError: it is of another one.
    """
    values: list[Any] = msgpack.unpackb(data)
    if values[0] != SCHEMA or len(values) != len(fields):
        raise StoreRefusedError(
            f"a record has schema {values[0]} with {len(values)} fields, this build reads schema {SCHEMA} with "
            f"{len(fields)}: start the build that wrote it"
        )
    return values
