"""Runs as many seeds as asked for: `make simulate SEEDS=10000`, or `python -m tests.sim --seed 4711` for a single one.

Prints each failing seed as it comes, and stops with 1 when there was one.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from concurrent.futures import ProcessPoolExecutor

from rich.progress import Progress

from tests.sim.limits import BrokenPromiseError
from tests.sim.run import CrashedError, run_seed

CHUNK = 4


def verdict(seed: int) -> str:
    """What is wrong with a run; empty when nothing is."""
    try:
        run_seed(seed)
    except (BrokenPromiseError, CrashedError) as broken:
        return str(broken)
    return ""


def many(first: int, count: int, jobs: int) -> int:
    """Run seeds side by side; how many failed."""
    failed = 0
    with ProcessPoolExecutor(jobs) as pool, Progress() as progress:
        task = progress.add_task(f"{count} seeds from {first}", total=count)
        for wrong in pool.map(verdict, range(first, first + count), chunksize=CHUNK):
            progress.advance(task)
            if wrong:
                failed += 1
                progress.console.print(wrong, markup=False, highlight=False)
    print(f"{count} seeds, {failed} failed; once more: python -m tests.sim --seed N")
    return failed


def one(seed: int) -> int:
    """Run one seed and say where it broke."""
    try:
        world = run_seed(seed)
    except (BrokenPromiseError, CrashedError):
        traceback.print_exc()
        return 1
    statuses = {name: watched.rollout.status.value for name, watched in world.witness.rollouts.items()}
    print(f"seed {seed}: {statuses}, {sum(world.witness.operations.values())} operations on the store")
    return 0


def main() -> int:
    """Run what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=300, help="how many (default: 300)")
    parser.add_argument("--first", type=int, default=0, help="the first one (default: 0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at once (default: cores)")
    parser.add_argument("--seed", type=int, help="only this one, with the trace of what broke")
    asked = parser.parse_args()
    if asked.seed is not None:
        return one(asked.seed)
    return 1 if many(asked.first, asked.seeds, asked.jobs) else 0


if __name__ == "__main__":
    sys.exit(main())
