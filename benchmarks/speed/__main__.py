"""`make bench`: measures, writes `benchmarks/speed.md` and `build/bench.json`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress

from benchmarks.speed import rolling, storm
from benchmarks.speed.calling import calling
from benchmarks.speed.fleet import VEHICLES, Amount, fleet
from benchmarks.speed.pairs import ROUNDS, Figure, Pair, measured
from benchmarks.speed.proving import proving
from benchmarks.speed.restarting import restart_s
from benchmarks.speed.sizes import Size, delta_bytes_ratio
from benchmarks.speed.sizing import large_and_small
from benchmarks.speed.storing import storing
from benchmarks.speed.thinking import thinking

ROOT = Path(__file__).parents[2]


def main(arguments: Sequence[str]) -> int:
    """Measure every pair."""
    parser = argparse.ArgumentParser(prog="bench", description="How fast the hot parts are, against bare baselines.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds of each pair that count")
    parser.add_argument("--vehicles", type=int, default=VEHICLES, help="vehicles of the fleet that is registered")
    parser.add_argument(
        "--driven",
        type=int,
        default=rolling.VEHICLES,
        help="vehicles of the fleet that is updated, which takes most of the time; 0 keeps what was measured before",
    )
    parser.add_argument("--herd", type=int, default=storm.CLIENTS, help="clients that come back at once")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    with tempfile.TemporaryDirectory(prefix="outrider-bench-") as folder, Progress() as progress:
        with storing(Path(folder) / "store") as stored:
            figures = _measured([*thinking(), *stored, *proving(Path(folder))], options.rounds, progress)
        # By itself: an installation that only waits has loops that turn.
        with calling(Path(folder) / "data") as called:
            figures += _measured(called, options.rounds, progress)
        progress.add_task(f"a fleet of {options.vehicles:,}", total=None)
        amounts = fleet(Path(folder) / "fleet", rounds=options.rounds, vehicles=options.vehicles)
        progress.add_task("rollouts that begin and stop, in a large fleet and in a small one", total=None)
        ticks, starts = large_and_small(Path(folder) / "sizes", rounds=options.rounds, large=options.vehicles)
        figures += ticks
        amounts += [*starts, restart_s(Path(folder) / "restarts")]
        sizes = [delta_bytes_ratio()]
        progress.add_task(f"a herd of {options.herd:,}", total=None)
        amounts += storm.amounts(storm.stormed(Path(folder) / "herd", clients=options.herd), storm.WITHIN_S)
        # Before the last, which takes as long as all others: a gate that holds on a busy machine would lose these.
        kept = _kept() if not options.driven else []
        _write(figures, options.rounds, sizes, amounts)
        amounts += kept
        if options.driven:
            progress.add_task(f"a rollout to {options.driven:,} simulated vehicles", total=None)
            amounts += rolling.amounts(rolling.rolled_out(Path(folder) / "rolling", vehicles=options.driven))
    _write(figures, options.rounds, sizes, amounts)
    sys.stdout.write(as_markdown(figures, options.rounds, sizes, amounts))
    return 0


def _kept() -> list[Amount]:
    file = ROOT / "build" / "bench.json"
    return rolling.of_before(json.loads(file.read_text())["results"]) if file.exists() else []


def _write(figures: Sequence[Figure], rounds: int, sizes: Sequence[Size], amounts: Sequence[Amount]) -> None:
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / "bench.json").write_text(as_json(figures, rounds, sizes, amounts))
    (ROOT / "benchmarks" / "speed.md").write_text(as_markdown(figures, rounds, sizes, amounts))


def _measured(pairs: Sequence[Pair], rounds: int, progress: Progress) -> list[Figure]:
    figures = []
    task = progress.add_task("", total=len(pairs))
    for pair in pairs:
        progress.update(task, description=pair.name)
        figures.append(measured(pair, rounds))
        progress.advance(task)
    return figures


def as_json(figures: Sequence[Figure], rounds: int, sizes: Sequence[Size] = (), amounts: Sequence[Amount] = ()) -> str:
    """`build/bench.json`: the machine, and each ratio with the command that measures it."""
    command = "make bench" if rounds == ROUNDS else f"python -m benchmarks.speed --rounds {rounds}"
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    measured_things: list[Figure | Size | Amount] = [*figures, *sizes, *amounts]
    results = [each.as_json(command) for each in measured_things]
    return json.dumps({"machine": machine, "results": results}, indent=2, allow_nan=False) + "\n"


def as_markdown(
    figures: Sequence[Figure], rounds: int, sizes: Sequence[Size] = (), amounts: Sequence[Amount] = ()
) -> str:
    """The table that is committed."""
    calls = [figure for figure in figures if figure.at_least is not None]
    rows = [
        f"| {figure.name} | {figure.per_s:,.0f} {figure.unit} | {figure.baseline} | {figure.bare_per_s:,.0f} "
        f"| {_times(figure.times)} | {_times(figure.times_least)} to {_times(figure.times_most)} "
        f"| {'' if figure.at_most is None else _times(figure.at_most)} |"
        for figure in figures
        if figure.at_least is None
    ]
    return "\n".join(
        (
            "# Speed",
            "",
            f"Written by `make bench`: {rounds} rounds of each pair, Python {platform.python_version()}, "
            f"{platform.machine()}. How it is measured: [README.md](README.md).",
            "",
            "| what | a second | baseline | a second | costs so many of it | in the rounds | asked: at most |",
            "|---|---:|---|---:|---:|---:|---:|",
            *rows,
            "",
            "| calls | a second of a core | baseline | a second of a core | share | in the rounds | asked: at least "
            "| a second by the wall | baseline |",
            "|---|---:|---|---:|---:|---:|---:|---:|---:|",
            *map(_call, calls),
            "",
            "| bytes | share | of | asked: at most |",
            "|---|---:|---|---:|",
            *(f"| {each.key} | {each.value:.3%} | {each.baseline} | {each.at_most:.3%} |" for each in sizes),
            "",
            "| fleet | amount | unit | what | asked |",
            "|---|---:|---|---|---|",
            *(f"| {each.key} | {each.value:.3g} | {each.unit} | {each.what} | {each.asked} |" for each in amounts),
            "",
        )
    )


def _call(figure: Figure) -> str:
    return (
        f"| {figure.name} | {figure.per_s:,.0f} {figure.unit} | {figure.baseline} | {figure.bare_per_s:,.0f} "
        f"| {figure.value:.2f} | {1 / figure.times_most:.2f} to {1 / figure.times_least:.2f} | {figure.at_least:.2f} "
        f"| {figure.wall_per_s:,.0f} | {figure.bare_wall_per_s:,.0f} |"
    )


def _times(ratio: float) -> str:
    return f"{ratio:,.1f}" if ratio >= 10.0 else f"{ratio:.2g}" if ratio < 0.1 else f"{ratio:.2f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
