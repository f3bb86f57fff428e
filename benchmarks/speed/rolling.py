"""A whole rollout to a simulated fleet, end to end: what an updated vehicle costs in calls and in bytes.

The installation is one that `outrider serve` starts, with two workers; the fleet is `outrider-sim run`, every vehicle
with keys and a certificate of its own, which enrols, proves what the factory installed and goes on calling as agents
do. Then a release goes to all of it in two waves: offered, verified, downloaded by range, permitted, installed, proven
by a signed manifest. Counted is by the simulator's own record, from the operator's start to the moment at which every
vehicle has proven the release and has nothing more to tell. Taken off are the calls that the same fleet makes in the
same time without a rollout, as it made them in the two hours before.

`python -m benchmarks.speed.rolling` measures this alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

from agent_sim.fleet import Fleet, build_fleet
from agent_sim.images import build_image, image_path, release_counter
from agent_sim.scenario import load_scenario
from benchmarks.speed.fleet import Amount
from benchmarks.speed.running import OUTRIDER, TRUST_DOMAIN, running
from benchmarks.speed.serving import now
from signing.ceremony import initialise

VEHICLES = 20_000
SCALE = 12.0
"""Fleet seconds in a second: so many vehicles call so often as two cores can answer, simulator and all."""
IDLE_HOURS = 2.0
"""Of the fleet's time, over which calls without a rollout are counted: each vehicle polls about once in one."""
WORKERS = 2
CONNECTIONS = 4096
"""That the simulator keeps open: those of vehicles at an attempt, as a vehicle would."""
IMAGE_BYTES = 4096
RELEASE = "1.1.0"
LOOK_EVERY_S = 2.0
TIMEOUT_S = 7200.0
ASKED = {
    "calls_per_updated_vehicle": "at most 12",
    "calls_per_vehicle_in_all": "to be told",
    "rollout_seconds": "to be told",
    "bytes_per_updated_vehicle": "to be told",
}
BEFORE = "; measured in an earlier run"
SCENARIO = """\
name = "rolling"
seed = 1
fleet = {{size = {size}, image_bytes = {image_bytes}}}
regions = {{eu = 0.5, us = 0.5}}
cohorts = {{general = 1.0}}

[[hardware]]
name = "gen1"
share = 1.0
ecus = ["acme-gw-1", "acme-brake-1"]

[agent]
first_poll_within = "20m"

[run]
until = "settled"
release = "{release}"
"""
PLAN = """\
release: {release}
waves:
  - {{name: first, share: 5%, soak: 20m}}
  - {{name: all, soak: 20m}}
gate: {{checkpoints: [2h], silence_reference: [10%]}}
limits: {{in_flight: {in_flight}, starts_per_minute: {starts}, blast_budget: {budget}}}
holdout: 0%
"""


@dataclass(frozen=True, slots=True)
class Driven:
    """What a whole fleet did in some time."""

    vehicles: int
    """Of the fleet."""
    seconds: float
    """By the wall."""
    fleet_hours: float
    """The same in the fleet's time."""
    calls: Mapping[str, int]
    """By method, with those that failed."""
    failed: int
    """Of these."""
    idle: int
    """Of these: polls with nothing to tell that were told to do nothing."""
    message_bytes: int
    """Of requests and answers, without TLS and framing."""
    image_bytes: int
    call_ms: Mapping[str, float | None]

    @property
    def calls_each(self) -> float:
        """By vehicle."""
        return sum(self.calls.values()) / self.vehicles

    @property
    def calls_an_hour(self) -> float:
        """Of a vehicle, in the fleet's time."""
        return self.calls_each / self.fleet_hours


@dataclass(frozen=True, slots=True)
class Compared:
    """A rollout, beside the same fleet without one."""

    idle: Driven
    updated: Driven

    @property
    def usual_each(self) -> float:
        """Calls that a vehicle would have made meanwhile without a rollout."""
        return self.idle.calls_an_hour * self.updated.fleet_hours


def rolled_out(folder: Path, *, vehicles: int = VEHICLES, scale: float = SCALE) -> Compared:
    """Roll out once.

    Args:
        folder: of everything; new.
        vehicles: of the fleet.
        scale: fleet seconds in a second.
    """
    folder.mkdir()
    data, scenario = folder / "data", folder / "scenario.toml"
    scenario.write_text(SCENARIO.format(size=vehicles, image_bytes=IMAGE_BYTES, release=RELEASE))
    initialise(data, trust_domain=TRUST_DOMAIN, now=now())
    fleet = build_fleet(load_scenario(scenario), folder / "fleet")
    with running(data, "--workers", str(WORKERS), "--scale", f"{scale:g}"):
        command(data, "fleet", "import", fleet.csv)
        command(data, "fleet", "tokens", "--out", folder / "tokens.jsonl")
        _publish(data, fleet)
        with _driving(folder, scenario, scale) as report:
            driven = _awaited(report, settled=vehicles)
            sleep(IDLE_HOURS * 3600.0 / scale)
            before = _record(report)
            began = perf_counter()
            command(data, "rollout", "start", _plan(folder, vehicles), "--id", "rolling", "--yes")
            after = _awaited(report, settled=vehicles, release=RELEASE)
            seconds = perf_counter() - began
    idle = _difference(driven, before, vehicles, IDLE_HOURS * 3600.0 / scale)
    return Compared(idle, _difference(before, after, vehicles, seconds))


def amounts(compared: Compared) -> list[Amount]:
    """As the table has them."""
    rolled = compared.updated
    by_method = ", ".join(f"{count / rolled.vehicles:.1f} {method}" for method, count in rolled.calls.items())
    what = f"a rollout to {rolled.vehicles:,} vehicles over mutual TLS, {rolled.fleet_hours:.1f} h of fleet time"
    usual = (
        f"beyond the {compared.usual_each:.1f} that the fleet makes in as long without a rollout, as measured before"
    )
    messages = (
        f"requests and answers, {rolled.idle / rolled.vehicles:.1f} polls each that brought nothing among them; "
        f"{rolled.failed:,} calls failed"
    )
    found = (
        ("calls_per_updated_vehicle", rolled.calls_each - compared.usual_each, "calls", usual),
        ("calls_per_vehicle_in_all", rolled.calls_each, "calls", by_method),
        ("rollout_seconds", rolled.seconds, "s", what),
        ("bytes_per_updated_vehicle", rolled.message_bytes / rolled.vehicles, "bytes", messages),
    )
    return [Amount(*each, ASKED[each[0]]) for each in found]


def of_before(results: Sequence[Mapping[str, Any]]) -> list[Amount]:
    """The same out of the results of an earlier run, and said to be so."""
    return [
        Amount(each["name"], each["value"], each["unit"], each["baseline"].removesuffix(BEFORE) + BEFORE, ASKED[name])
        for each in results
        if (name := each["name"]) in ASKED
    ]


def command(data: Path, *arguments: str | Path) -> None:
    """`outrider` as an operator runs it.

    Raises:
        RuntimeError: it failed.
    """
    done = subprocess.run(
        [OUTRIDER, *map(str, arguments), "--data", str(data), "--timeout", "300"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"outrider {' '.join(map(str, arguments))}: {done.stderr.strip()}")


def _publish(data: Path, fleet: Fleet) -> None:
    images = []
    for hardware_id in sorted(fleet.factory):
        file = data.parent / f"{hardware_id}.img"
        file.write_bytes(build_image(hardware_id, RELEASE, IMAGE_BYTES, 1))
        image = {"file": str(file), "hardware_id": hardware_id, "path": image_path(hardware_id, RELEASE)}
        images.append({**image, "release_counter": release_counter(RELEASE)})
    description = data.parent / "release.yaml"
    # JSON is YAML.
    description.write_text(json.dumps({"version": RELEASE, "notes": "", "images": images}))
    command(data, "release", "publish", description, "--without-evidence", "bench")


def _plan(folder: Path, vehicles: int) -> Path:
    plan = folder / "plan.yaml"
    # Slots for a tenth: more at once are more than two cores can answer, and are then silent for want of an answer.
    limits = {"in_flight": max(20, vehicles // 10), "starts": max(10, vehicles // 20), "budget": max(20, vehicles // 2)}
    plan.write_text(PLAN.format(release=RELEASE, **limits))
    return plan


@contextmanager
def _driving(folder: Path, scenario: Path, scale: float) -> Iterator[Path]:
    """The fleet, on the road; yields its record's file."""
    data, report = folder / "data", folder / "record.json"
    files = {
        "endpoints": data / "endpoints.json",
        "provisioning": data / "provisioning",
        "fleet": folder / "fleet",
        "tokens": folder / "tokens.jsonl",
        "report": report,
    }
    options = [word for name, path in files.items() for word in (f"--{name}", str(path))]
    program = str(Path(sys.executable).with_name("outrider-sim"))
    with (folder / "drive.log").open("wb") as log:
        fleet = subprocess.Popen(
            [program, "run", str(scenario), *options, "--scale", f"{scale:g}", "--connections", str(CONNECTIONS)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield report
    finally:
        fleet.terminate()
        fleet.wait()


def _record(report: Path) -> Mapping[str, Any]:
    record: Mapping[str, Any] = json.loads(report.read_bytes())
    return record


def _awaited(report: Path, *, settled: int, release: str = "") -> Mapping[str, Any]:
    """The record, once so many vehicles have nothing more to tell, and run the release.

    Raises:
        RuntimeError: it did not come to that.
    """
    ends_at = perf_counter() + TIMEOUT_S
    while perf_counter() < ends_at:
        if report.exists():
            record = _record(report)
            totals = record["totals"]
            if totals["settled"] == settled and (not release or totals["by_release"].get(release) == settled):
                return record
        sleep(LOOK_EVERY_S)
    raise RuntimeError(
        f"the fleet did not get there within {TIMEOUT_S:g} s: {report.with_name('drive.log').read_text()}"
    )


def _difference(before: Mapping[str, Any], after: Mapping[str, Any], vehicles: int, seconds: float) -> Driven:
    def calls(record: Mapping[str, Any]) -> dict[tuple[str, str], int]:
        return {(row["method"], row["status"]): row["count"] for row in record["calls"]}

    earlier, by_method, failed = calls(before), dict[str, int](), 0
    for (method, status), count in calls(after).items():
        more = count - earlier.get((method, status), 0)
        by_method[method] = by_method.get(method, 0) + more
        failed += more if status != "OK" else 0
    messages = [record["bytes_sent"] + record["bytes_received"] for record in (before, after)]
    return Driven(
        vehicles=vehicles,
        seconds=seconds,
        fleet_hours=(after["fleet_time_ms"] - before["fleet_time_ms"]) / 3_600_000,
        calls={method: count for method, count in sorted(by_method.items()) if count},
        failed=failed,
        idle=after["polls_idle"] - before["polls_idle"],
        message_bytes=messages[1] - messages[0],
        image_bytes=after["bytes_downloaded"] - before["bytes_downloaded"],
        call_ms=after["call_ms"],
    )


def main(arguments: Sequence[str]) -> int:
    """Measure once."""
    parser = argparse.ArgumentParser(prog="rolling", description="What a rollout to a whole fleet takes.")
    parser.add_argument("--vehicles", type=int, default=VEHICLES)
    parser.add_argument("--scale", type=float, default=SCALE, help="fleet seconds in a second")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="outrider-rolling-") as folder:
        compared = rolled_out(Path(folder) / "rolling", vehicles=options.vehicles, scale=options.scale)
    told = {each.key: each.value for each in amounts(compared)}
    sys.stdout.write(json.dumps(asdict(compared) | told, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
