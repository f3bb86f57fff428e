"""What all vehicles persisted, as one append-only file: the last line of a vehicle counts.

One write a change, no rename: a fleet persists hundreds of times a second, and the event loop waits for each. A line
that kill -9 cut short is the one that was being written; the vehicle then has its state from before, as after a loss
of power. The file is compacted when it is opened.

Where several processes drive a fleet, one of them holds the journal and each of the others appends to a part of its
own, which the next that opens the journal takes in.
"""

from __future__ import annotations

import fcntl
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from agent_sim.car_state import CarState, car_state_from_json
from agent_sim.errors import StateError
from signing.files import write_pieces_atomically

_PRIVATE = 0o600


def read_states(path: Path) -> dict[str, CarState]:
    """The last state of every vehicle that persisted any, by id; a last line without its end does not count.

    Raises:
        StateError: another line cannot be read.
    """
    latest: dict[str, tuple[int, Any]] = {}
    try:
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        for number, line in enumerate(lines, start=1):
            row = _row(line, f"{path}:{number}")
            latest[row["vehicle_id"]] = (number, row["state"])
    except OSError as error:
        raise StateError(f"cannot read {path}: {error.strerror}") from error
    return {vehicle_id: _state(state, f"{path}:{number}") for vehicle_id, (number, state) in latest.items()}


def _row(line: bytes, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
        return {"vehicle_id": str(row["vehicle_id"]), "state": row["state"]}
    except (ValueError, KeyError, TypeError) as error:
        raise StateError(f"{place}: {error!r}; remove the fleet folder and make it again") from error


def _state(data: Any, place: str) -> CarState:
    try:
        return car_state_from_json(data)
    except StateError as error:
        raise StateError(f"{place}: {error}; remove the fleet folder and make it again") from error


class StateJournal:
    """The file, open for appending.

    Args:
        path: where; made if need be.
        part: number of this process among several; None: it drives the whole fleet, or holds the journal for those.

    Raises:
        StateError: it cannot be read, or another simulator writes it.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, *, part: int | None = None) -> None:
        with ExitStack() as opened:
            if part is None:
                self.lock = opened.enter_context(_lock(path)).fileno()
                """Descriptor that keeps other simulators out for as long as any process has it."""
                self.found = _compacted(path)
                """What was persisted before."""
            else:
                self.found = read_states(path)
                path = _part(path, str(part))
            self._file = opened.enter_context(path.open("ab", buffering=0))
            self._opened = opened.pop_all()

    def save(self, vehicle_id: str, state: CarState) -> None:
        """Persist; survives the simulator, not the machine.

        Raises:
            OSError: this machine's disk failed.
        """
        self._file.write(_line(vehicle_id, state))

    def close(self) -> None:
        """Close the file and let others write it."""
        self._opened.close()


def _part(path: Path, number: str) -> Path:
    return path.with_name(f"{path.stem}-{number}{path.suffix}")


def _compacted(path: Path) -> dict[str, CarState]:
    """One line a vehicle at `path`, and no parts; a vehicle is in one part at most, and there its state is newer."""
    found = read_states(path)
    parts = sorted(path.parent.glob(_part(path, "*").name))
    for part in parts:
        found |= read_states(part)
    lines = (_line(vehicle_id, state) for vehicle_id, state in found.items())
    write_pieces_atomically(path, lines, mode=_PRIVATE, durable=False)
    for part in parts:
        part.unlink()
    return found


def _lock(path: Path) -> BinaryIO:
    """Hold the journal at `path` for one process; closing lets go."""
    lock = path.with_suffix(".lock").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise StateError(f"another simulator drives the fleet at {path.parent}; end it first") from error
    return lock


def _line(vehicle_id: str, state: CarState) -> bytes:
    return json.dumps({"vehicle_id": vehicle_id, "state": state.to_json()}).encode() + b"\n"
