"""`make chaos`: a fleet of several hundred under fire for as many kills as asked, and what each recovery took.

Writes build/chaos.json. Ends with a failure when a promise was broken or a recovery took longer than it may.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles

from tests.e2e.preparing import prepare
from tests.e2e.rolling import a_fleet_on_the_road
from tests.faults.chaos import HEAVY, Chaos, Kill
from tests.faults.judging import check_everything
from tests.uptane.citations import ROOT

SERVING_MAX_S = 5.0
FIGURES = ROOT / "build" / "chaos.json"


def distribution(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 90th percentile and the worst of some recoveries."""
    cuts = quantiles(seconds, n=10, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 9
    return {"count": len(seconds), "p50": round(cuts[4], 2), "p90": round(cuts[8], 2), "max": round(max(seconds), 2)}


def figures(kills: Sequence[Kill], *, seed: int, rollouts: int) -> dict[str, object]:
    """What the run was and what it measured, by victim and in all."""
    victims = sorted({kill.victim for kill in kills})
    return {
        "seed": seed,
        "kills": len(kills),
        "vehicles": HEAVY.size,
        "rollouts": rollouts,
        "load_average": os.getloadavg()[0],
        "serving_s": {
            name: distribution([kill.serving_s for kill in kills if name in ("all", kill.victim)])
            for name in ("all", *victims)
        },
    }


def main() -> int:
    """Run; 0 when every promise held and each recovery was in time."""
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**8))
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
    measured = figures(chaos.kills, seed=asked.seed, rollouts=len(chaos.rollouts))
    FIGURES.parent.mkdir(exist_ok=True)
    FIGURES.write_text(json.dumps(measured, indent=2) + "\n")
    print(json.dumps(measured, indent=2))
    slow = [kill for kill in chaos.kills if kill.serving_s > SERVING_MAX_S]
    print(f"Every promise held. {len(slow)} of {len(chaos.kills)} recoveries took longer than {SERVING_MAX_S:g} s.")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
