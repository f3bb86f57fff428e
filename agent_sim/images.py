"""Images for simulated control units: real bytes with a header that says what they are, the same for the same seed."""

from __future__ import annotations

import json
import random
import re

from agent_sim.errors import SimulationError

_VERSION = re.compile(r"-(\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?)\.img$")
_BLOCK_BYTES = 4096


class ImageError(SimulationError):
    """No such image can be made."""


def build_image(hardware_id: str, version: str, size_bytes: int, seed: int) -> bytes:
    """An image of exactly `size_bytes`: a JSON line, then a body that compresses to about half.

    Raises:
        ImageError: `size_bytes` has no room for the header.
    """
    header = json.dumps({"hardware_id": hardware_id, "version": version, "seed": seed}, sort_keys=True).encode() + b"\n"
    if size_bytes < len(header):
        raise ImageError(f"size_bytes ({size_bytes}) has no room for the header ({len(header)} bytes)")
    rng = random.Random(f"{hardware_id}/{version}/{seed}")  # noqa: S311 - filler, not secrets
    body = bytearray(header)
    while len(body) < size_bytes:
        body += rng.randbytes(_BLOCK_BYTES // 2) + bytes(_BLOCK_BYTES // 2)
    return bytes(body[:size_bytes])


def image_path(hardware_id: str, version: str) -> str:
    """Target path of an image: `acme-gw-1` at 1.1.0 is `acme/gw-1-1.1.0.img`."""
    maker, dash, unit = hardware_id.partition("-")
    return f"{maker}/{unit}-{version}.img" if dash else f"{hardware_id}/{hardware_id}-{version}.img"


def version_of(path: str) -> str:
    """The version in a target path that `image_path` made; the path itself when it is another one."""
    match = _VERSION.search(path)
    return match[1] if match else path


def release_counter(version: str) -> int:
    """Release counter of a version `major.minor.patch`, each below 1000: 1.2.3 is 1002003.

    Raises:
        ImageError: `version` is something else.
    """
    parts = version.split(".")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and int(part) < 1000 for part in parts):
        raise ImageError(f"version {version!r} is not major.minor.patch with each below 1000")
    major, minor, patch = (int(part) for part in parts)
    return (major * 1000 + minor) * 1000 + patch
