"""Where the orchestrator listens, as `outrider serve` wrote it to endpoints.json; read again when it changed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from agent_sim.errors import InputFileError


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Addresses, each `host:port`."""

    enrollment: str
    vehicles: str
    scale: float = 1.0
    """Seconds of fleet time in a second of machine time."""


def read_endpoints(path: Path) -> Endpoints:
    """Read an endpoints.json.

    Raises:
        InputFileError: it cannot be read or lacks an address.
    """
    try:
        data = json.loads(path.read_bytes())
        return Endpoints(str(data["enrollment"]), str(data["vehicles"]), scale=float(data.get("scale", 1.0)))
    except OSError as error:
        raise InputFileError(f"cannot read endpoints: {error}; is `outrider serve` running?") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputFileError(f"{path} is not an endpoints.json: {error!r}") from error


class EndpointsFile:
    """The vehicle port by the newest readable endpoints.json: a restarted orchestrator may listen elsewhere.

    Args:
        path: the file.

    Raises:
        InputFileError: it cannot be read now.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed_ns = 0
        self.current = read_endpoints(path)

    def vehicles(self) -> str:
        """`host:port` of the vehicle port; the last one known while the file cannot be read."""
        try:
            changed_ns = self._path.stat().st_mtime_ns
            if changed_ns != self._changed_ns:
                self.current = read_endpoints(self._path)
                self._changed_ns = changed_ns
        except (OSError, InputFileError):
            return self.current.vehicles
        return self.current.vehicles
