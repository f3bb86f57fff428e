"""A vehicle's control units as files of a folder, two slots each, of which one is active: for examples and benches.

Which slot is active, and what each holds, lives in a dictionary of the agent's own memory, so that it is saved in one
step with the attempt that changes it; saving is the agent's business. A real control unit has its boot loader here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from signing import files
from signing.primary import Software

_OTHER = {"a": "b", "b": "a"}


class Slots:
    """The control units of one vehicle.

    Args:
        folder: Where the slots are: `<serial>.a` and `<serial>.b`; created if need be.
        memory: What is remembered of them, in a form that JSON can hold; an empty one becomes `factory`.
        factory: What each control unit ran when it left the factory, by serial: in slot a, whose file may be absent.
    """

    def __init__(self, folder: Path, memory: dict[str, Any], factory: Mapping[str, Software]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._memory = memory
        if not memory:
            memory |= {serial: {"active": "a", "a": asdict(software)} for serial, software in factory.items()}

    def running(self) -> dict[str, Software]:
        """What each control unit runs, by serial."""
        return {serial: Software(**slots[slots["active"]]) for serial, slots in self._memory.items()}

    def run(self, wanted: Mapping[str, Software]) -> bool:
        """Whether these control units run that software already."""
        running = self.running()
        return all(running[serial].sha256 == software.sha256 for serial, software in wanted.items())

    def write(self, wanted: Mapping[str, Software], image: Callable[[Software], Path]) -> None:
        """Write images into the slots that are not active, durably; each of them whole or not at all.

        Raises:
            OSError: One could not be written; what is active is as before.
        """
        for serial, software in wanted.items():
            slot = _OTHER[self._memory[serial]["active"]]
            files.copy_atomically(image(software), self._folder / f"{serial}.{slot}")

    def switch(self, wanted: Mapping[str, Software]) -> None:
        """Make the other slots of these control units the active ones, all together once the memory is saved."""
        for serial, software in wanted.items():
            other = _OTHER[self._memory[serial]["active"]]
            self._memory[serial] |= {"active": other, other: asdict(software)}

    def switch_back(self, wanted: Mapping[str, Software]) -> None:
        """Undo `switch`."""
        for serial in wanted:
            self._memory[serial]["active"] = _OTHER[self._memory[serial]["active"]]

    def hold(self, wanted: Mapping[str, Software]) -> bool:
        """Whether the active slots of these control units hold that software, whole."""
        return all(self._digest(serial) == software.sha256 for serial, software in wanted.items())

    def _digest(self, serial: str) -> str:
        with (self._folder / f"{serial}.{self._memory[serial]['active']}").open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
