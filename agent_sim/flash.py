"""What stands in the slots of a fleet's control units, as bytes: each image once, however many vehicles run it.

A slot is a record of the agent's (`ecu`); the bytes that a real unit would read from its flash lie here by digest, so
that deltas can be applied to them. Which of them a vehicle may read is its own slots' business.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from signing.names import SHA256_PATTERN


class Flash:
    """The images that units of a fleet run or ran.

    Args:
        folder: Where they lie; created when the first is kept.
        factory: Files of what the factory wrote, by digest.
    """

    def __init__(self, folder: Path, factory: Mapping[str, Path]) -> None:
        self._folder = folder
        self._factory = dict(factory)

    def file(self, sha256: str) -> Path | None:
        """The file of an image, or None when its bytes are not here."""
        kept = self._folder / sha256 if SHA256_PATTERN.fullmatch(sha256) else None
        files = (kept, self._factory.get(sha256))
        return next((file for file in files if file is not None and file.is_file()), None)

    def keep(self, image: Path, sha256: str) -> None:
        """Keep an image that was verified; it may be installed from now on.

        Raises:
            OSError: This machine's disk failed.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            (self._folder / sha256).hardlink_to(image)
