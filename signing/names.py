"""Names that reach file systems, URLs and certificates: what they may look like, and which file they become.

Everything here is pure. Callers decide which error a refused name becomes.
"""

from __future__ import annotations

import re
from typing import Literal

RepositoryName = Literal["director", "image"]

VEHICLE_ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""Safe in a SPIFFE path, in a file name and in canonical JSON."""
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""ECU serials, hardware ids, operators."""
SUPPLIER_PATTERN = re.compile(r"(?!(?:root|targets|snapshot|timestamp|attest)$)[a-z][a-z0-9_-]{0,63}")
"""Delegated roles: part of a file's name, also where upper and lower case are one."""
TRUST_DOMAIN_PATTERN = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,252}[a-z0-9])?")
"""Source: SPIFFE-ID, Trust Domain."""
SHA256_PATTERN = re.compile(r"[0-9a-f]{64}")
METADATA_NAME_PATTERN = re.compile(r"(?:[1-9][0-9]{0,9}\.)?[A-Za-z0-9][A-Za-z0-9_-]{0,63}\.json")
"""What a TUF repository with consistent snapshots serves."""

_SEGMENT_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
_PATH_PATTERN = re.compile(rf"{_SEGMENT_PATTERN.pattern}(?:/{_SEGMENT_PATTERN.pattern})*")
_TARGET_PATH_MAX = 255
VERSION_MAX = 2**31 - 1
"""Metadata versions and release counters stay below: some clients read a 32-bit integer."""


def target_path_fault(path: str) -> str | None:
    """Why `path` is no target path, or None when it is one.

    A target path is relative, has plain segments joined by `/`, and is at most 255 characters long, so that it names
    one file below a folder on every file system.
    """
    if not path or len(path) > _TARGET_PATH_MAX:
        return f"its length {len(path)} is not between 1 and {_TARGET_PATH_MAX}"
    if _PATH_PATTERN.fullmatch(path):
        return None
    odd = next(segment for segment in path.split("/") if not _SEGMENT_PATTERN.fullmatch(segment))
    return f"its part {odd!r} is not [A-Za-z0-9][A-Za-z0-9._+-]*"


def image_file_name(path: str, sha256: str) -> str:
    """The name under which an image is stored and fetched: `<sha256>.<last part of path>`."""
    return f"{sha256}.{path.rpartition('/')[2]}"


def tuf_file_name(path: str, sha256: str) -> str:
    """The name under which a TUF client fetches it: the same, in the folders of its path."""
    folder, slash, _ = path.rpartition("/")
    return f"{folder}{slash}{image_file_name(path, sha256)}"
