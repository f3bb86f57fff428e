"""What travels between the signer process and its clients: length-prefixed JSON over a unix socket, capped both ways.

A request is an assignment and its versions, or a timestamp over a snapshot that was signed before, and nothing else can
be expressed: whoever reaches the socket can have Director files signed, never bytes of their own.
"""

from __future__ import annotations

import asyncio
import struct
from datetime import datetime
from typing import Any

from signing import canonical
from signing.director import AssignedImage, Assignment, DirectorVersions, Renewal, SnapshotPin
from signing.errors import SigningError
from signing.versions import format_time, parse_time

REQUEST_MAX_BYTES = 64 * 1024
REPLY_MAX_BYTES = 512 * 1024

_LENGTH = struct.Struct(">I")


class FrameError(SigningError):
    """A frame that is too long or not in the agreed form."""


async def read_frame(reader: asyncio.StreamReader, max_bytes: int, *, first: bytes = b"") -> bytes:
    """Read one frame.

    Args:
        reader: Where from.
        max_bytes: Cap on its content.
        first: Bytes of its length that were read already.

    Raises:
        FrameError: It is longer than `max_bytes`; the connection cannot be used further.
        asyncio.IncompleteReadError: The other side has left.
    """
    (length,) = _LENGTH.unpack(first + await reader.readexactly(_LENGTH.size - len(first)))
    if length > max_bytes:
        raise FrameError(f"a frame of {length} bytes, at most {max_bytes}")
    return await reader.readexactly(length)


def frame(value: object) -> bytes:
    """One frame with `value` as JSON."""
    data = canonical.encode(value)
    return _LENGTH.pack(len(data)) + data


def request_value(assignment: Assignment, versions: DirectorVersions) -> dict[str, Any]:
    """A request as JSON."""
    return {
        "assignment": {
            "vehicle_id": assignment.vehicle_id,
            "images": [
                {
                    "path": image.path,
                    "length": image.length,
                    "sha256": image.sha256,
                    "hardware_id": image.hardware_id,
                    "release_counter": image.release_counter,
                    "ecu_serials": list(image.ecu_serials),
                }
                for image in assignment.images
            ],
        },
        "versions": {
            "version": versions.version,
            "issued_at": format_time(versions.issued_at),
            "timestamp_version": versions.timestamp_version,
            "timestamp_issued_at": format_time(versions.timestamp_issued_at),
        },
    }


def renewal_value(renewal: Renewal) -> dict[str, Any]:
    """A request for a timestamp alone, as JSON."""
    pin = renewal.snapshot
    return {
        "renewal": {
            "vehicle_id": renewal.vehicle_id,
            "version": renewal.version,
            "issued_at": format_time(renewal.issued_at),
            "snapshot": {"version": pin.version, "length": pin.length, "sha256": pin.sha256},
        }
    }


def read_request(data: bytes) -> tuple[Assignment, DirectorVersions] | Renewal:
    """The inverse of `request_value` and `renewal_value`; contents are judged where they are signed.

    Raises:
        FrameError: Not in either form.
    """
    try:
        value = canonical.decode(data)
    except canonical.JsonFormError as exc:
        raise FrameError(f"the request is malformed: {exc}") from exc
    if isinstance(value, dict) and "renewal" in value:
        return _renewal(_fields(value, "request", renewal=dict)["renewal"])
    assignment = _fields(
        _fields(value, "request", assignment=dict, versions=dict)["assignment"],
        "assignment",
        vehicle_id=str,
        images=list,
    )
    versions = _fields(
        value["versions"], "versions", version=int, issued_at=str, timestamp_version=int, timestamp_issued_at=str
    )
    return (
        Assignment(assignment["vehicle_id"], tuple(_image(image) for image in assignment["images"])),
        DirectorVersions(
            version=versions["version"],
            issued_at=_time(versions["issued_at"]),
            timestamp_version=versions["timestamp_version"],
            timestamp_issued_at=_time(versions["timestamp_issued_at"]),
        ),
    )


def _renewal(value: object) -> Renewal:
    renewal = _fields(value, "renewal", vehicle_id=str, version=int, issued_at=str, snapshot=dict)
    pin = SnapshotPin(**_fields(renewal["snapshot"], "snapshot", version=int, length=int, sha256=str))
    return Renewal(**{**renewal, "issued_at": _time(renewal["issued_at"]), "snapshot": pin})


def _image(value: object) -> AssignedImage:
    image = _fields(
        value, "image", path=str, length=int, sha256=str, hardware_id=str, release_counter=int, ecu_serials=list
    )
    if not all(isinstance(serial, str) for serial in image["ecu_serials"]):
        raise FrameError("a serial in the request is not text")
    return AssignedImage(**{**image, "ecu_serials": tuple(image["ecu_serials"])})


def _fields(value: object, what: str, **kinds: type) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != set(kinds):
        raise FrameError(f"the {what} has the fields {', '.join(sorted(kinds))}")
    for name, kind in kinds.items():
        if type(value[name]) is not kind:
            raise FrameError(f"{name} of the {what} is not {kind.__name__}")
    return value


def _time(text: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError as exc:
        raise FrameError(f"{text[:40]!r} is not a time like 2026-01-31T12:00:00Z") from exc
