"""`make judge`: runs the study, writes `build/judgement.json` and `benchmarks/judgement.md`.

With `--fleet`, `--release` or `--rule` it is a quick look instead: only these cells, a short table on the screen, and
no file is written but the runs that are kept.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.judge.cells import OUTRIDER, REFERENCE, Case, chosen, fleet_names, seeds_of, tabled
from benchmarks.judge.study import ROOT, RULES, Kept, Result, study
from benchmarks.judge.table import as_json, as_markdown, as_text

OTHER_RULES_MOST = 60
"""Seeds on which rules other than the engine and the reference are run at most: nothing is asked of them."""


def main(arguments: Sequence[str]) -> int:
    """Run the study of so many seeds, or a quick look at some of its cells."""
    options = _options(arguments)
    seeds = range(options.first_seed, options.first_seed + options.runs)
    if options.fleet or options.release or options.rule:
        cells = dict.fromkeys(chosen(options.rule, options.fleet, options.release), seeds)
        sys.stdout.write(as_text(_run(cells, options.workers)))
        return 0
    compared = (REFERENCE, OUTRIDER)
    results = _run(
        {
            (rule, case): of_cell if rule in compared else of_cell[:OTHER_RULES_MOST]
            for (rule, case), of_cell in seeds_of(tabled(tuple(RULES)), seeds).items()
        },
        options.workers,
    )
    (ROOT / "build" / "judgement.json").write_text(as_json(results))
    (ROOT / "benchmarks" / "judgement.md").write_text(as_markdown(results, f"make judge RUNS={options.runs}"))
    sys.stdout.write("build/judgement.json and benchmarks/judgement.md are written\n")
    return 0


def _run(cells: Mapping[tuple[str, Case], range], workers: int) -> list[Result]:
    columns = (
        TextColumn("judge"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("runs"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task("runs", total=sum(len(seeds) for seeds in cells.values()))
        kept = Kept(ROOT / "build" / "judge")
        return study(cells, kept, workers=workers, done=lambda count: progress.advance(task, count))


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="judge", description="Compare rules on modelled fleets.")
    parser.add_argument("--runs", type=int, default=60, help="runs of each cell")
    parser.add_argument("--first-seed", type=int, default=1, help="the seeds count from here")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    quick = parser.add_argument_group("a quick look, which writes no table; each may be given several times")
    quick.add_argument("--fleet", action="append", default=[], choices=fleet_names(), help="only this fleet")
    quick.add_argument("--rule", action="append", default=[], choices=tuple(RULES), help="only this rule")
    quick.add_argument(
        "--release",
        action="append",
        default=[],
        type=_release,
        metavar="RATE:SILENT",
        help="a release by its failure rate and silent share, as fractions: 0.05:1",
    )
    options = parser.parse_args(arguments)
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    return options


def _release(written: str) -> tuple[float, float]:
    rate, _, silent = written.partition(":")
    try:
        release = float(rate), float(silent or 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{written!r} is no RATE:SILENT, as 0.05:1") from None
    if not all(0 <= share <= 1 for share in release):
        raise argparse.ArgumentTypeError(f"{written!r}: both are fractions from 0 to 1")
    return release


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
