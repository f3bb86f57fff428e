"""`make chaos`: a fleet of several hundred under fire for as many kills as asked, and what each recovery took.

Writes benchmarks/chaos.md and build/chaos.json. Ends with a failure when a promise was broken or a recovery took longer
than it may.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import quantiles
from typing import Any

from tests.e2e.preparing import prepare
from tests.e2e.rolling import a_fleet_on_the_road
from tests.faults.chaos import HEAVY, Chaos
from tests.faults.judging import check_everything
from tests.uptane.citations import ROOT

SERVING_MAX_S = 5.0
TABLE = ROOT / "benchmarks" / "chaos.md"
FIGURES = ROOT / "build" / "chaos.json"
HEAD = """\
# Under fire

Written by `make chaos` (`make chaos KILLS={kills} SEED={seed}`): {kills} times `kill -9` while
{vehicles} simulated vehicles update at {scale} times the speed of life, over gRPC and mutual TLS, {workers} workers.
{rollouts} rollouts begun, {stops} aborted in the middle. Vehicles made {calls:,} calls, and {events:,} of their events
were acknowledged; {quiet} of the kills had none between them and the one before. Load average at the end
{load_average:.1f} on {cores} cores.

By the vehicles' own record no acknowledged event was lost, none counted twice, no cap exceeded, and nothing was
permitted after an abort. How long until a vehicle on a new connection was told that its event is on disk, asked to
be at most {most:g} s:

| killed | times | median | nine in ten within | longest |
|---|---:|---:|---:|---:|
"""


def distribution(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 90th percentile and the worst of some recoveries."""
    cuts = quantiles(seconds, n=10, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 9
    return {"count": len(seconds), "p50": round(cuts[4], 2), "p90": round(cuts[8], 2), "max": round(max(seconds), 2)}


def figures(chaos: Chaos) -> dict[str, Any]:
    """What the run was and what it measured, by victim and in all."""
    victims = sorted({kill.victim for kill in chaos.kills})
    record = chaos.road.record()
    told = [0, *(kill.acknowledged for kill in chaos.kills)]
    return {
        "seed": chaos.seed,
        "kills": len(chaos.kills),
        "vehicles": chaos.road.load.size,
        "scale": chaos.road.load.scale,
        "workers": chaos.road.load.workers,
        "rollouts": len(chaos.rollouts),
        "stops": len(chaos.stops),
        "calls": sum(row["count"] for row in record["calls"]),
        "events": record["totals"]["events_acknowledged"],
        "quiet": sum(after == before for before, after in pairwise(told)),
        "load_average": os.getloadavg()[0],
        "serving_s": {
            name: distribution([kill.serving_s for kill in chaos.kills if name in ("all", kill.victim)])
            for name in ("all", *victims)
        },
    }


def table(measured: Mapping[str, Any]) -> str:
    """The page."""
    rows = [
        f"| {name} | {each['count']} | {each['p50']:.2f} s | {each['p90']:.2f} s | {each['max']:.2f} s |"
        for name, each in measured["serving_s"].items()
    ]
    return HEAD.format(**measured, cores=os.cpu_count(), most=SERVING_MAX_S) + "\n".join(rows) + "\n"


def main() -> int:
    """Run; 0 when every promise held and each recovery was in time."""
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**8))
    parser.add_argument("--table", type=Path, default=TABLE)
    asked = parser.parse_args()
    print(f"{asked.kills} kills, repeated by: make chaos KILLS={asked.kills} SEED={asked.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="outrider-chaos-") as name:
        folder = Path(name)
        prepare(folder / "fleet", HEAVY)
        with a_fleet_on_the_road(folder / "fleet", folder, HEAVY) as road:
            chaos = Chaos(road, asked.seed, told=lambda text: print(text, flush=True))
            with road.driving():
                chaos.run(asked.kills)
            check_everything(road, chaos.rollouts, chaos.stops)
            measured = figures(chaos)
    asked.table.write_text(table(measured))
    FIGURES.parent.mkdir(exist_ok=True)
    FIGURES.write_text(json.dumps(measured, indent=2) + "\n")
    print(json.dumps(measured, indent=2))
    slow = [kill for kill in chaos.kills if kill.serving_s > SERVING_MAX_S]
    print(f"Every promise held. {len(slow)} of {len(chaos.kills)} recoveries took longer than {SERVING_MAX_S:g} s.")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
