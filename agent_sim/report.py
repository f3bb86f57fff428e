"""The simulator's own record of a run: what every vehicle truly is and did, to be compared with what others claim."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent_sim.car import Car
from agent_sim.images import version_of
from agent_sim.tally import Tally
from signing.files import write_atomically

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


def totals(vehicles: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Sums over vehicles, whole and by (region, hardware, cohort)."""
    cells: dict[tuple[str, str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for vehicle in vehicles.values():
        cells[vehicle["region"], vehicle["hardware"], vehicle["cohort"]].append(vehicle)
    names = ("region", "hardware", "cohort")
    rows = [dict(zip(names, cell, strict=True)) | _sum(members) for cell, members in sorted(cells.items())]
    return _sum(list(vehicles.values())) | {"cells": rows}


def _sum(members: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "vehicles": len(members),
        "by_release": dict(sorted(Counter(member["release"] for member in members).items())),
        "bricked": sum(member["bricked"] for member in members),
        "settled": sum(member["settled"] for member in members),
        "attempts": sum(len(member["attempts"]) for member in members),
        "waiting_for": dict(sorted(Counter(m["waiting_for"] for m in members if m["waiting_for"]).items())),
        "owner_answers": dict(sorted(Counter(word["answer"] for m in members for word in m["owner"]).items())),
        "diagnosed": sum(bool(member["diagnostics"]) for member in members),
        "permits": sum(len(member["permits"]) for member in members),
        "installs": sum(len(member["installs"]) for member in members),
        "events_told": sum(member["events_told"] for member in members),
        "events_acknowledged": sum(member["events_acknowledged"] for member in members),
    }


def run_report(
    cars: Sequence[Car], tally: Tally, *, scenario: str, seed: int, now: int, over: str, waiting: int
) -> dict[str, Any]:
    """The whole record.

    Args:
        cars: the fleet.
        tally: what the shell counted.
        scenario: its name.
        seed: its seed.
        now: fleet time.
        over: why the run is over; empty while it runs.
        waiting: errands that wait for a free hand.
    """
    vehicles = {car.spec.vehicle_id: vehicle_report(car, now) for car in cars}
    return {
        "form": FORM,
        "scenario": scenario,
        "seed": seed,
        "fleet_time_ms": now,
        "over": over,
        "totals": totals(vehicles),
        "calls": [
            {"method": method, "status": status, "count": count}
            for (method, status), count in sorted(tally.calls.items())
        ],
        "downloads": dict(sorted(tally.downloads.items())),
        "bytes_downloaded": tally.bytes_downloaded,
        "deltas": dict(sorted(tally.deltas.items())),
        "bytes_saved": tally.bytes_saved,
        "verifications": dict(sorted(tally.verifications.items())),
        "errands_waiting": waiting,
        "vehicles": vehicles,
    }


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Replace the report at `path`; a reader sees the old or the new one.

    Raises:
        OSError: it cannot be written.
    """
    write_atomically(path, json.dumps(report).encode(), durable=False)
