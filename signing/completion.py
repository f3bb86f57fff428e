"""Verification that may ask for what it lacks: a vehicle's poll brings most metadata, a call of its own the rest.

Judging is `verify`'s alone: what was fetched here is given to it as if the poll had brought it. How a file is fetched,
and what a failed call means, is the caller's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from signing.errors import MissingFileError
from signing.verify import Files, InstalledImage, PrimaryVerifier, VerifiedBundle

Fetch = Callable[[str, str], bytes | None]
"""(repository, name) -> that file as it is now, or None when there is no such file. Its exceptions pass through."""

_TIMESTAMP = "timestamp.json"


def verify_completing(
    verifier: PrimaryVerifier, files: Files, *, fetch: Fetch, now: datetime, installed: Mapping[str, InstalledImage]
) -> VerifiedBundle:
    """Verify like `PrimaryVerifier.verify`, and fetch each file that turns out to be needed and absent.

    Every turn adds a file that was not there or ends, and `verify` takes no more than its cap of files.

    Args:
        verifier: Who judges.
        files: What a poll brought, by (repository, name).
        fetch: Gets what it did not bring.
        now: Fleet time, UTC.
        installed: What each control unit runs, by serial.

    Returns:
        The images to install on which control units.

    Raises:
        MissingFileError: A file is needed that is nowhere.
        VerificationError: Something was refused; the code says what it looks like.
        HeldMetadataError: The disk failed.
    """
    have, fetched = dict(files), set[tuple[str, str]]()
    while True:
        try:
            return verifier.verify(have, now=now, installed=installed)
        except MissingFileError as missing:
            wanted = (missing.repository, missing.name)
            content = fetch(*wanted) if wanted not in fetched else None
            if content is None:
                # Signed anew since the poll: what its timestamp led to is gone, and a later one is there.
                wanted = (missing.repository, _TIMESTAMP)
                content = fetch(*wanted) if wanted not in fetched else None
            if content is None or content == have.get(wanted):
                raise
            fetched.add(wanted)
            have[wanted] = content
