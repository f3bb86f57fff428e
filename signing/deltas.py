"""Deltas: how an image is made from one that a control unit has, in fewer bytes than the image itself.

A delta is only a way to fetch an image: what is installed is the image that both repositories signed, judged by its
own length and digest after the delta was applied. So a wrong delta, or a hostile one, wastes time and nothing else.
Owns the name of a delta, what is signed with it, its making and its bounded application. Leaves signing to
`image_repo`, which deltas are worth it to `delta_offers`, and the choice among them to the agent. Format: zstd's
patch-from, one frame, so that `zstd -d --patch-from=OLD` applies it. Source: RFC 8878; docs/decisions/0028.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tuf.api.metadata import TargetFile

from signing.errors import DeltaError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ALGORITHM = "zstd-patch-from"
IMAGE_BYTES_MAX = 512 * 1024 * 1024
"""Longer images have no deltas: whoever makes one holds both images in memory, whoever applies it nearly as much."""
_LEVEL = 12
"""Measured on 27 MB with a small change: 54 kB in 0.6 s; level 3 takes 94 kB, level 19 saves 0.4 % more in 10 s."""
_OVERHEAD_BYTES = 1024 * 1024
_PIECE_BYTES = 256 * 1024
_PREFIX_BYTES_MIN = 8
"""Shorter ones zstd does not take as a dictionary; then the frame stands alone."""
_WINDOW_LOG_MIN = 10
_NAME = re.compile(r"deltas/([0-9a-f]{64})/([0-9a-f]{64})\.zst")


@dataclass(frozen=True, slots=True)
class Delta:
    """A delta as the Image repository's targets list it."""

    path: str
    """Target path; `delta_path` of the two digests."""
    length: int
    """Bytes of the delta itself."""
    sha256: str
    """Of the delta itself, hex."""
    from_sha256: str
    """Of the image that has to be at hand."""
    to_sha256: str
    """Of the image that comes out."""
    memory_bytes: int
    """What applying it takes; see `memory_bytes`."""


def delta_path(from_sha256: str, to_sha256: str) -> str:
    """The target path of the delta from one image to another: who knows both digests need not search."""
    return f"deltas/{to_sha256}/{from_sha256}.zst"


def is_delta(path: str) -> bool:
    """Whether a target path is that of a delta, which is no image and has no hardware id."""
    return path.startswith("deltas/")


def memory_bytes(from_length: int, to_length: int) -> int:
    """What applying a delta takes, in bytes.

    The old image, and beside it first a second copy that is hashed, later a window as long as the new one.
    """
    return from_length + max(from_length, to_length) + _OVERHEAD_BYTES


def delta_fields(*, from_sha256: str, to_sha256: str, from_length: int, to_length: int) -> Mapping[str, Any]:
    """What is signed with a delta beside its length and hash.

    There is no `shallMatch` section, on purpose: a Director that assigned the delta itself to a control unit would be
    refused, because what it says cannot match.
    """
    return {
        "delta": {
            "algorithm": ALGORITHM,
            "from": from_sha256,
            "to": to_sha256,
            "memoryBytes": memory_bytes(from_length, to_length),
        }
    }


def read_delta(path: str, target: TargetFile) -> Delta | None:
    """A delta as listed; None when it is none that we can apply, which is no reason to refuse the image."""
    name, custom = _NAME.fullmatch(path), target.custom
    fields = custom.get("delta") if isinstance(custom, dict) else None
    if name is None or not isinstance(fields, dict) or fields.get("algorithm") != ALGORITHM:
        return None
    needed, sha256 = fields.get("memoryBytes"), target.hashes.get("sha256")
    if (fields.get("to"), fields.get("from")) != name.groups() or type(needed) is not int or not sha256:
        return None
    return Delta(path, target.length, sha256, from_sha256=name[2], to_sha256=name[1], memory_bytes=needed)


def make_delta(base: bytes, image: bytes) -> bytes:
    """What turns `base` into `image`.

    Raises:
        DeltaError: One of them is too long.
    """
    if max(len(base), len(image)) > IMAGE_BYTES_MAX:
        raise DeltaError(f"an image of {max(len(base), len(image))} bytes is longer than {IMAGE_BYTES_MAX}: no delta")
    parameter = zstd.CompressionParameter
    options: dict[int, int] = {
        parameter.compression_level: _LEVEL,
        # The window has to reach from the end of the new image back to the begin of the old one.
        parameter.window_log: _window_log(len(base), len(image)),
        parameter.enable_long_distance_matching: 1,
        parameter.content_size_flag: 1,
        parameter.checksum_flag: 0,  # the image's digest is checked
    }
    encoder = zstd.ZstdCompressor(options=options, zstd_dict=_prefix(base))
    encoder.set_pledged_input_size(len(image))
    return encoder.compress(image, zstd.ZstdCompressor.FLUSH_FRAME)


def apply_delta(
    delta: Path,
    base: Path,
    into: Path,
    *,
    from_sha256: str,
    length: int,
    sha256: str,
    memory_bytes_max: int,
    meanwhile: Callable[[], bool] = lambda: True,
) -> None:
    """Make an image from one that is at hand, and check that it is the one that was signed.

    Never writes more than `length` bytes, never holds more than `memory_bytes_max`, whatever the delta says.

    Args:
        delta: Its file; checked by its own length and digest before.
        base: The image that is at hand.
        into: Where the new image goes; replaced. Only a file of the right length and digest stays.
        from_sha256: Of the image that has to be at hand, hex.
        length: Signed length of the image that is wanted.
        sha256: Its signed digest, hex.
        memory_bytes_max: What may be held in memory.
        meanwhile: Called after each piece; False gives up.

    Raises:
        DeltaError: It does not lead to that image, for whatever reason; `into` is gone. Fetch the whole image.
    """
    try:
        needed = memory_bytes(base.stat().st_size, length)
        if needed > memory_bytes_max:
            raise DeltaError(f"it takes {needed} bytes of memory > {memory_bytes_max}")
        decoder = _decoder(base, from_sha256, length)
        with delta.open("rb") as source, into.open("wb") as target:
            found = _expand(decoder, source, target, length, meanwhile)
        if found != sha256:
            raise DeltaError(f"what it leads to is not the image {sha256}")
    except (OSError, zstd.ZstdError, MemoryError) as exc:
        into.unlink(missing_ok=True)
        raise DeltaError(f"it cannot be applied: {exc}") from exc
    except DeltaError:
        into.unlink(missing_ok=True)
        raise


def _decoder(base: Path, from_sha256: str, length: int) -> zstd.ZstdDecompressor:
    """What expands a delta of that base, which it holds a copy of; ours is gone on return."""
    old = base.read_bytes()
    if hashlib.sha256(old).hexdigest() != from_sha256:
        raise DeltaError(f"what is at hand is not the image {from_sha256}")
    # A frame that asks for a larger window is refused before any of it is allocated.
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _window_log(len(old), length)}
    return zstd.ZstdDecompressor(_prefix(old), options=options)


def _expand(
    decoder: zstd.ZstdDecompressor, source: IO[bytes], into: IO[bytes], length: int, meanwhile: Callable[[], bool]
) -> str:
    """Write what a delta leads to, `length` bytes exactly; returns its digest."""
    written, digest = 0, hashlib.sha256()
    while not decoder.eof:
        piece = source.read(_PIECE_BYTES) if decoder.needs_input else b""
        if decoder.needs_input and not piece:
            raise DeltaError("it ends early")
        content = decoder.decompress(piece, max_length=min(_PIECE_BYTES, length + 1 - written))
        written += len(content)
        if written > length:
            raise DeltaError(f"it expands beyond the {length} bytes of the image")
        digest.update(content)
        into.write(content)
        if not meanwhile():
            raise DeltaError("it was given up")
    if written < length:
        raise DeltaError(f"it leads to {written} bytes, the image has {length}")
    return digest.hexdigest()


def _prefix(base: bytes) -> Any:
    """`base` as zstd refers to it: raw content before the image, never parsed as a dictionary."""
    return zstd.ZstdDict(base, is_raw=True).as_prefix if len(base) >= _PREFIX_BYTES_MIN else None


def _window_log(from_length: int, to_length: int) -> int:
    """As `zstd --patch-from` chooses it: the power of two above the longer of both."""
    return max(_WINDOW_LOG_MIN, max(from_length, to_length).bit_length())
