"""A Secondary's verifier with a memory: partial verification, and what it holds in one file of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from signing.errors import HeldMetadataError
from signing.files import write_atomically
from signing.match import InstalledImage, VerifiedImage
from signing.partial import PartialError, SecondaryHeld, SecondaryUnit, verify_partially
from signing.time_floor import CLOCK_SLACK
from signing.versions import format_time, parse_time

_FORM = 1


class SecondaryVerifier:
    """Verifies for one Secondary, and holds what it verified across restarts.

    Args:
        file: Where to hold it; its folder is created if need be. No other verifier may use it.
        unit: The control unit.
        director_root: The provisioned Director root.
        durable: False saves the wait for the disk; what is held then survives the process, not the machine.

    Raises:
        HeldMetadataError: What is held cannot be read.
    """

    def __init__(self, file: Path, *, unit: SecondaryUnit, director_root: bytes, durable: bool = True) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        self._unit = unit
        self._durable = durable
        self._held = _load(file, director_root)

    @property
    def held(self) -> SecondaryHeld:
        """What is held."""
        return self._held

    def verify(
        self, files: Mapping[str, bytes], *, now: datetime, installed: InstalledImage | None
    ) -> VerifiedImage | None:
        """Verify what the Primary passed on; see `verify_partially`.

        Returns:
            What to install; None when nothing is assigned to this unit.

        Raises:
            VerificationError: Something was refused; the code says what it looks like.
            HeldMetadataError: The disk failed.
        """
        try:
            verdict = verify_partially(files, unit=self._unit, held=self._held, now=now, installed=installed)
        except PartialError as exc:
            self._keep(exc.held)
            raise
        self._keep(verdict.held)
        return verdict.image

    def _keep(self, held: SecondaryHeld) -> None:
        """Keep it, on disk where it says more than that some time went by."""
        before = self._held
        changed = (held.root, held.targets) != (before.root, before.targets)
        if not changed and held.time_floor - before.time_floor < CLOCK_SLACK:
            return  # the floor in memory is that of the file, so that small steps add up
        value = {
            "form": _FORM,
            "root": held.root.decode(),
            "targets": held.targets.decode() if held.targets is not None else None,
            "time_floor": format_time(held.time_floor),
        }
        try:
            write_atomically(self._file, json.dumps(value).encode(), mode=0o600, durable=self._durable)
        except OSError as exc:
            raise HeldMetadataError(f"cannot keep verified metadata in {self._file}: {exc.strerror}") from exc
        self._held = held


def _load(file: Path, director_root: bytes) -> SecondaryHeld:
    try:
        value = json.loads(file.read_bytes())
        if value["form"] != _FORM:
            raise HeldMetadataError(f"{file} has form {value['form']}, this version reads form {_FORM}")
        targets = value["targets"]
        return SecondaryHeld(
            root=value["root"].encode(),
            targets=targets.encode() if targets is not None else None,
            time_floor=parse_time(value["time_floor"]),
        )
    except FileNotFoundError:
        return SecondaryHeld(root=director_root)
    except OSError as exc:
        raise HeldMetadataError(f"cannot read {file}: {exc.strerror}") from exc
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        remedy = "remove it to start again from the provisioned root, without rollback protection for what it held"
        raise HeldMetadataError(f"{file} is damaged ({exc}); {remedy}") from exc
