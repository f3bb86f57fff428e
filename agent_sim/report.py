"""The simulator's own record of a run: what every vehicle truly is and did, to be compared with what others claim."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from agent_sim.car import Car
from agent_sim.images import version_of
from agent_sim.tally import Tally, percentile_ms
from signing.files import write_pieces_atomically

FORM = 1


def running_release(car: Car) -> str:
    """The version that every unit runs; `mixed` when they differ."""
    versions = {version_of(ecu.running.path) for ecu in car.state.agent.ecus}
    return versions.pop() if len(versions) == 1 else "mixed"


def vehicle_report(car: Car, now: int) -> dict[str, Any]:
    """The truth about one vehicle at fleet time `now`."""
    spec, state = car.spec, car.state
    outbox, progress = state.agent.outbox, state.agent.progress
    told = outbox.next_number - 1
    return {
        "region": spec.region,
        "hardware": spec.hardware,
        "cohort": spec.cohort,
        "model": spec.model,
        "release": running_release(car),
        "ecus": {
            ecu.serial: {
                "hardware_id": ecu.hardware_id,
                "path": ecu.running.path,
                "sha256": ecu.running.sha256,
                "release_counter": ecu.running.release_counter,
            }
            for ecu in state.agent.ecus
        },
        "bricked": car.bricked,
        "bricked_by": state.bricked_by,
        "settled": car.settled,
        "online": spec.connectivity.online_from(now) == now,
        "boots": state.boots,
        "attempts": [{"attempt_id": attempt_id, "release": release} for attempt_id, release in state.attempts],
        "attempt_phase": progress.phase.value if progress else "",
        "waiting_for": progress.waiting_for if progress else "",
        "owner": [{"attempt_id": attempt_id, "answer": answer} for attempt_id, answer in state.answers],
        "conditions": asdict(car.conditions(now)),
        "diagnostics": [asdict(diagnostic) for diagnostic in car.diagnostics(now)],
        "permits": list(state.permits),
        "installs": list(state.installs),
        "outbox_id": outbox.outbox_id,
        "events_told": told,
        "events_acknowledged": told - len(outbox.events),
        "manifest_sha256": state.agent.manifest.sha256 if state.agent.manifest else "",
        "manifest_submitted": bool(state.agent.manifest and state.agent.manifest.submitted),
    }


@dataclass(slots=True)
class Sums:
    """Sums over vehicles, taken in one by one: a large fleet's records are never all at hand at once."""

    counts: Counter[str] = field(default_factory=Counter)
    by_release: Counter[str] = field(default_factory=Counter)
    waiting_for: Counter[str] = field(default_factory=Counter)
    owner_answers: Counter[str] = field(default_factory=Counter)

    def take(self, vehicle: Mapping[str, Any]) -> None:
        """Count a vehicle's record."""
        self.by_release[vehicle["release"]] += 1
        if vehicle["waiting_for"]:
            self.waiting_for[vehicle["waiting_for"]] += 1
        self.owner_answers.update(word["answer"] for word in vehicle["owner"])
        counts = self.counts
        counts["vehicles"] += 1
        counts["bricked"] += vehicle["bricked"]
        counts["settled"] += vehicle["settled"]
        counts["diagnosed"] += bool(vehicle["diagnostics"])
        for name in ("attempts", "permits", "installs"):
            counts[name] += len(vehicle[name])
        for name in ("events_told", "events_acknowledged"):
            counts[name] += vehicle[name]

    def as_json(self) -> dict[str, Any]:
        """As the record has them."""
        names = ("bricked", "settled", "attempts", "diagnosed", "permits", "installs")
        return {
            "vehicles": self.counts["vehicles"],
            "by_release": dict(sorted(self.by_release.items())),
            **{name: self.counts[name] for name in names},
            "waiting_for": dict(sorted(self.waiting_for.items())),
            "owner_answers": dict(sorted(self.owner_answers.items())),
            **{name: self.counts[name] for name in ("events_told", "events_acknowledged")},
        }


@dataclass(frozen=True, slots=True)
class Run:
    """What is known of a run as a whole."""

    scenario: str
    """Its name."""
    seed: int
    fleet_time_ms: int
    over: str
    """Why the run is over; empty while it runs."""
    errands_waiting: int
    """Errands that wait for a free hand."""


class Record:
    """A record that is made vehicle by vehicle: those of a large fleet are never all at hand as values at once."""

    def __init__(self) -> None:
        self._whole = Sums()
        self._cells: dict[tuple[str, str, str], Sums] = {}
        self._vehicles: dict[str, bytes] = {}

    def take(self, vehicle_id: str, vehicle: Mapping[str, Any]) -> None:
        """Take in what is true of a vehicle, as `vehicle_report` says it."""
        cell = (vehicle["region"], vehicle["hardware"], vehicle["cohort"])
        self._whole.take(vehicle)
        self._cells.setdefault(cell, Sums()).take(vehicle)
        self._vehicles[vehicle_id] = json.dumps(vehicle).encode()

    def write(self, path: Path, tally: Tally, run: Run) -> None:
        """Replace the file at `path`; a reader sees the old or the new one.

        Raises:
            OSError: it cannot be written.
        """
        write_pieces_atomically(path, self._pieces(tally, run), durable=False)

    def figures(self, tally: Tally) -> dict[str, Any]:
        """What the run came to, in some numbers."""
        counts, calls = self._whole.counts, sum(tally.calls.values())
        vehicles = max(1, counts["vehicles"])
        return {
            "vehicles": counts["vehicles"],
            "by_release": dict(sorted(self._whole.by_release.items())),
            "bricked": counts["bricked"],
            "calls": calls,
            "calls_failed": sum(count for (_, status), count in tally.calls.items() if status != "OK"),
            "polls_idle": tally.polls_idle,
            "calls_repeated": tally.calls_repeated,
            "calls_per_vehicle": round(calls / vehicles, 2),
            "call_ms": call_ms(tally),
            "connections": tally.connections,
            "message_bytes_per_vehicle": round((tally.bytes_sent + tally.bytes_received) / vehicles),
            "image_bytes_per_vehicle": round(tally.bytes_downloaded / vehicles),
        }

    def _pieces(self, tally: Tally, run: Run) -> Iterator[bytes]:
        yield json.dumps(self._summary(tally, run)).encode()[:-1] + b', "vehicles": {'
        between = b""
        for vehicle_id, vehicle in self._vehicles.items():
            yield between + json.dumps(vehicle_id).encode() + b": " + vehicle
            between = b", "
        yield b"}}"

    def _summary(self, tally: Tally, run: Run) -> dict[str, Any]:
        names = ("region", "hardware", "cohort")
        rows = [dict(zip(names, cell, strict=True)) | sums.as_json() for cell, sums in sorted(self._cells.items())]
        return {
            "form": FORM,
            "scenario": run.scenario,
            "seed": run.seed,
            "fleet_time_ms": run.fleet_time_ms,
            "over": run.over,
            "totals": self._whole.as_json() | {"cells": rows},
            **_counts(tally),
            "errands_waiting": run.errands_waiting,
        }


def call_ms(tally: Tally) -> dict[str, float | None]:
    """How long answered calls took, machine time."""
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    return {name: percentile_ms(tally.call_steps, share) for name, share in shares.items()}


def _counts(tally: Tally) -> dict[str, Any]:
    steps = tally.call_steps
    return {
        "calls": [
            {"method": method, "status": status, "count": count}
            for (method, status), count in sorted(tally.calls.items())
        ],
        "polls_idle": tally.polls_idle,
        "calls_repeated": tally.calls_repeated,
        "call_ms": call_ms(tally),
        "call_steps": {str(step): count for step, count in sorted(steps.items())},
        "connections": tally.connections,
        "bytes_sent": tally.bytes_sent,
        "bytes_received": tally.bytes_received,
        "downloads": dict(sorted(tally.downloads.items())),
        "bytes_downloaded": tally.bytes_downloaded,
        "deltas": dict(sorted(tally.deltas.items())),
        "bytes_saved": tally.bytes_saved,
        "verifications": dict(sorted(tally.verifications.items())),
    }


def tally_of(report: Mapping[str, Any]) -> Tally:
    """The counts that a record was written from."""
    return Tally(
        calls=Counter({(row["method"], row["status"]): row["count"] for row in report["calls"]}),
        call_steps=Counter({int(step): count for step, count in report["call_steps"].items()}),
        polls_idle=report["polls_idle"],
        calls_repeated=report["calls_repeated"],
        bytes_sent=report["bytes_sent"],
        bytes_received=report["bytes_received"],
        connections=report["connections"],
        downloads=Counter(report["downloads"]),
        bytes_downloaded=report["bytes_downloaded"],
        deltas=Counter(report["deltas"]),
        bytes_saved=report["bytes_saved"],
        verifications=Counter(report["verifications"]),
    )


def merged(reports: Sequence[Path]) -> tuple[Record, Tally, Run]:
    """The record of a fleet that several processes drive, from theirs.

    Raises:
        OSError: one cannot be read.
    """
    record, tally, runs = Record(), Tally(), []
    for path in reports:
        report = json.loads(path.read_bytes())
        for vehicle_id, vehicle in report["vehicles"].items():
            record.take(vehicle_id, vehicle)
        tally.add(tally_of(report))
        runs.append(Run(**{each.name: report[each.name] for each in fields(Run)}))
    at, waiting = max(run.fleet_time_ms for run in runs), sum(run.errands_waiting for run in runs)
    return record, tally, replace(runs[0], fleet_time_ms=at, errands_waiting=waiting)
