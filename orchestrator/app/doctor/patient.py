"""The installation under examination: its folder, its settings as far as they can be read, and what runs on it.

Owns what several checks need to know, read once each. Leaves every judgement to the checks.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from orchestrator.app.installation import PORT_NAMES, Installation
from orchestrator.clock import MachineClock
from orchestrator.settings import Settings, SettingsError, load

ANSWER_S = 5.0
"""How long a part of the service may take to answer, machine seconds."""


@dataclass(frozen=True, slots=True)
class Served:
    """What `endpoints.json` says."""

    pid: int
    """Of the supervisor that wrote it."""
    addresses: dict[str, str]
    """By the name of the port: `enrollment`, `vehicles`, `operators`, `web`, `images`."""


class Patient:
    """One installation.

    Args:
        data: its folder; need not exist.
        machine: the machine's clocks.
    """

    def __init__(self, data: Path, *, machine: MachineClock) -> None:
        self.installation = Installation(data.absolute())
        self._machine = machine

    @property
    def version(self) -> str:
        """Of the Outrider that examines."""
        return version("outrider")

    @property
    def now(self) -> datetime:
        """Machine time, UTC."""
        return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=self._machine.wall_ms())

    @cached_property
    def settings(self) -> Settings | None:
        """The settings; None when they cannot be used."""
        try:
            return load(self.installation.data)
        except SettingsError:
            return None

    @cached_property
    def served(self) -> Served | None:
        """What the last `outrider serve` told; None when it told nothing that can be read."""
        document = read_json(self.installation.endpoints)
        told = [isinstance(document.get(name), str) for name in PORT_NAMES]
        if not all(told) or not isinstance(document.get("pid"), int):
            return None
        return Served(pid=document["pid"], addresses={name: document[name] for name in PORT_NAMES})

    @cached_property
    def running(self) -> bool:
        """Whether the supervisor that wrote `endpoints.json` lives."""
        return self.served is not None and lives(self.served.pid)

    @cached_property
    def samples(self) -> dict[str, list[tuple[dict[str, str], float]]]:
        """What /metrics shows, by the name of the sample; empty when nothing answers there."""
        if self.served is None or not self.running:
            return {}
        try:
            with urlopen(f"{self.served.addresses['web']}/metrics", timeout=ANSWER_S) as answer:  # noqa: S310 - our own
                text = answer.read().decode()
        except (OSError, URLError, ValueError):
            return {}
        found: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
        return found

    def sample(self, name: str) -> float | None:
        """The only, or the first, value of a sample; None when it is not shown."""
        values = self.samples.get(name, [])
        return values[0][1] if values else None

    @property
    def fleet_now(self) -> datetime | None:
        """Fleet time; None when nobody can tell: the service stands still and its fleet clock does not run with the
        machine's.
        """
        seconds = self.sample("outrider_fleet_time_timestamp_seconds")
        if seconds:
            return datetime.fromtimestamp(seconds, tz=UTC)
        settings = self.settings
        follows = settings is not None and settings.scale == 1.0 and settings.fleet_origin is None
        # A folder that was ever served at another pace keeps that pace, whatever the settings say today.
        return self.now if follows and not self.scaled else None

    @property
    def scaled(self) -> bool:
        """Whether the last run had a fleet clock of its own."""
        settings = read_json(self.installation.run / "orders.json").get("settings")
        if not isinstance(settings, dict):
            return False
        return settings.get("scale", 1.0) != 1.0 or settings.get("fleet_origin") is not None

    @property
    def store_url(self) -> str:
        """Where the store answers: as set, else the private one's socket; empty when none is known."""
        if self.settings is not None and self.settings.store_url:
            return self.settings.store_url
        socket = read_json(self.installation.store / "store.json").get("socket")
        return f"unix://{socket}" if isinstance(socket, str) and socket else ""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty when there is none."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def lives(pid: int) -> bool:
    """Whether a process of that number runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return pid > 0
    return True
