"""`make soak`: an hour of mixed load, and whether memory, open files and latency stay flat.

Writes benchmarks/soak.md and build/soak.json. Ends with a failure when something rises.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.e2e.preparing import prepare
from tests.e2e.rolling import a_fleet_on_the_road
from tests.faults.slopes import Trend, trend
from tests.faults.soak import STEADY, Sample, Soak
from tests.uptane.citations import ROOT

TABLE = ROOT / "benchmarks" / "soak.md"
FIGURES = ROOT / "build" / "soak.json"
MEMORY_SHARE = 0.05
"""Of its median that memory may rise in an hour."""
FILES_SHARE = 0.05
FILES_LEAST = 2.0
"""A signer holds a dozen, and one more when two workers first ask at once. A leak is one with each call."""
LATENCY_SHARE = 0.25
"""A machine that does other things as well is not even; a leak that shows doubles it."""
HEAD = """\
# Soak

Written by `make soak`. {minutes:g} minutes, {vehicles} simulated vehicles over gRPC and mutual TLS at {scale} times
the speed of life, {workers} workers; {rollouts} rollouts begun, {completed} completed; {changes} changes of the fleet;
{watched} answers to operators who watch. {samples} samples; load average at the end {load:.1f} on {cores} cores.

A slope is the median of the slopes of all pairs of samples (Theil-Sen), after the first fifth. The store is not judged:
it keeps what happened to each vehicle in each rollout.

| what | median | slope an hour | allowed | flat |
|---|---|---|---|---|
"""


def trends(samples: Sequence[Sample]) -> list[Trend]:
    """Every judged series."""
    found = []
    for kind in ("supervisor", "worker", "signer"):
        memory = [(each.at_s, each.rss_mib[kind]) for each in samples if kind in each.rss_mib]
        found.append(trend(f"memory of the {kind}", "MiB", memory, allowed_share=MEMORY_SHARE))
        files = [(each.at_s, float(each.files[kind])) for each in samples if kind in each.files]
        found.append(
            trend(f"open files of the {kind}", "", files, allowed_share=FILES_SHARE, allowed_least=FILES_LEAST)
        )
    latency = [(each.at_s, each.checkin_ms) for each in samples]
    found.append(trend("check-in, median of nine", "ms", latency, allowed_share=LATENCY_SHARE))
    return found


def table(soak: Soak, found: Sequence[Trend], *, minutes: float) -> str:
    """The page."""
    load = soak.road.load
    head = HEAD.format(
        minutes=minutes,
        vehicles=load.size,
        scale=load.scale,
        rollouts=len(soak.rollouts),
        completed=soak.completed,
        changes=soak.fleet_changes,
        watched=soak.updates_watched,
        workers=load.workers,
        samples=len(soak.samples),
        load=os.getloadavg()[0],
        cores=os.cpu_count(),
    )
    rows = [
        f"| {each.name} | {each.middle:.1f} {each.unit} | {each.per_hour:+.2f} {each.unit} | "
        f"{each.allowed_per_hour:+.2f} | {'yes' if each.flat else '**no**'} |"
        for each in found
    ]
    stored = [(each.at_s, each.store_mib) for each in soak.samples]
    kept = trend("memory that the store says it uses", "MiB", stored, allowed_share=0.0)
    rows.append(f"| {kept.name} | {kept.middle:.1f} MiB | {kept.per_hour:+.2f} MiB | | |")
    return head + "\n".join(rows) + "\n"


def main() -> int:
    """Run; 0 when everything is flat."""
    parser = argparse.ArgumentParser(prog="make soak")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--table", type=Path, default=TABLE)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="outrider-soak-") as name:
        folder = Path(name)
        prepare(folder / "fleet", STEADY)
        with a_fleet_on_the_road(folder / "fleet", folder, STEADY) as road:
            soak = Soak(road, told=lambda text: print(text, flush=True))
            with road.driving():
                soak.run(asked.minutes * 60)
            found = trends(soak.samples)
            page = table(soak, found, minutes=asked.minutes)
    asked.table.write_text(page)
    FIGURES.parent.mkdir(exist_ok=True)
    figures = {"minutes": asked.minutes, "trends": [asdict(each) | {"flat": each.flat} for each in found]}
    FIGURES.write_text(json.dumps(figures, indent=2) + "\n")
    print(page)
    return 0 if all(each.flat for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
