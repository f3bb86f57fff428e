"""How many bytes a vehicle fetches: a delta against the whole image. The same bytes at each run, on any machine."""

from __future__ import annotations

import random
from dataclasses import dataclass

from signing.deltas import make_delta

IMAGE_BYTES = 27_000_000
_BLOCK_BYTES = 4096
_PATCHES = 40
_INSERTED_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes of ours as a share of the baseline's."""

    key: str
    """Name of the ratio in `build/bench.json`."""
    value: float
    baseline: str
    """What has all of the bytes."""
    at_most: float
    """What the ratio was asked to be."""

    def as_json(self, command: str) -> dict[str, object]:
        """For `build/bench.json`.

        Args:
            command: That measured it.
        """
        return {"name": self.key, "value": self.value, "unit": "ratio", "baseline": self.baseline, "command": command}


def delta_bytes_ratio(image_bytes: int = IMAGE_BYTES) -> Size:
    """A delta for an image with a small change: 40 places of up to 1 kB, 8 kB inserted, and what lies behind moved.

    Args:
        image_bytes: Of the old image; half of it does not compress, as packed resources do not.
    """
    old = old_image(image_bytes)
    new = small_change(old)
    delta = make_delta(old, new)
    return Size("delta_bytes_ratio", len(delta) / len(new), f"the whole image, {len(new):,} bytes", at_most=0.01)


def old_image(size_bytes: int) -> bytes:
    """Blocks of noise and blocks of few words, in turns."""
    rng = random.Random(1)  # noqa: S311 - filler, not secrets
    words = [rng.randbytes(8) for _ in range(512)]
    blocks = []
    for number in range(size_bytes // _BLOCK_BYTES + 1):
        noise = number % 2
        blocks.append(rng.randbytes(_BLOCK_BYTES) if noise else b"".join(rng.choices(words, k=_BLOCK_BYTES // 8)))
    return b"".join(blocks)[:size_bytes]


def small_change(old: bytes) -> bytes:
    """The next version of an image."""
    rng = random.Random(2)  # noqa: S311 - filler, not secrets
    new = bytearray(old)
    for _ in range(_PATCHES):
        at, length = rng.randrange(len(new) - 1024), rng.randint(16, 1024)
        new[at : at + length] = rng.randbytes(length)
    middle = len(new) // 2
    new[middle:middle] = rng.randbytes(_INSERTED_BYTES)
    return bytes(new)
