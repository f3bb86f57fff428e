"""`make judge`: runs the study, writes `build/judgement.json` and `benchmarks/judgement.md`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.judge.study import OUTRIDER, REFERENCE, ROOT, RULES, Kept, study, tabled
from benchmarks.judge.table import as_json, as_markdown

FULL_RUNS = 200
"""Runs of a cell from which only the engine and the reference are run: the others would take days."""


def main(arguments: Sequence[str]) -> int:
    """Run the study of so many seeds."""
    options = _options(arguments)
    seeds = range(options.first_seed, options.first_seed + options.runs)
    rules = (REFERENCE, OUTRIDER) if options.runs >= FULL_RUNS else tuple(RULES)
    cells = [(rule, case) for rule, case in tabled(rules) if options.fleet in ("", case.fleet)]
    columns = (
        TextColumn("judge"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("runs"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task("runs", total=len(cells) * len(seeds))
        results = study(
            cells,
            seeds,
            Kept(ROOT / "build" / "judge"),
            workers=options.workers,
            done=lambda count: progress.advance(task, count),
        )
    (ROOT / "build" / "judgement.json").write_text(as_json(results))
    (ROOT / "benchmarks" / "judgement.md").write_text(as_markdown(results, f"make judge RUNS={options.runs}"))
    sys.stdout.write("build/judgement.json and benchmarks/judgement.md are written\n")
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="judge", description="Compare rules on modelled fleets.")
    parser.add_argument("--runs", type=int, default=60, help="runs of each cell")
    parser.add_argument("--first-seed", type=int, default=1, help="the seeds count from here")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--fleet", default="", help="only the cells of one fleet")
    options = parser.parse_args(arguments)
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
