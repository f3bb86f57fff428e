"""The study: which rules meet which releases on which fleets, run by run, kept as they finish.

Owns the cells and their runs. A run is known by rule, fleet, limit, release and seed; what is finished is kept under
`build/judge/`, one file for each rule and state of the code that it depends on, so that a study that was broken off
goes on, and one of other code begins anew. What the runs say is the matter of `figures`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from benchmarks.judge.reference import ReferenceRule
from benchmarks.judge.rules import StagedRule, aws, hawkbit, wilson
from orchestrator.engine.plan.file import read_plan
from orchestrator.model.fleet import Cell
from orchestrator.model.plan import Plan
from orchestrator.rehearsal import FleetModel, ReleaseModel, Rule, Vehicles, draw_vehicles, run
from orchestrator.rehearsal.engine_rule import EngineRule
from orchestrator.rehearsal.fleets import FLEETS, VARIANT

ROOT = Path(__file__).resolve().parents[2]
STEP_H = 1.0
OUTRIDER, REFERENCE = "outrider", "reference"

PLAN = """\
release: 1.1.0
limits:
  in_flight: 100000
  starts_per_minute: 10000
  blast_budget: 200
"""
"""The default plan at a limit of 1 %; slots and starts are no subject here, so none binds. The budget is what a start
makes of 100,000 vehicles.
"""

Made = Callable[[Vehicles], Rule]


@dataclass(frozen=True, slots=True)
class Case:
    """What a rule meets: a cell of the table."""

    fleet: str
    limit: float
    failure_rate: float
    silent_share: float


@dataclass(frozen=True, slots=True)
class Result:
    """One run."""

    rule: str
    fleet: str
    limit: float
    failure_rate: float
    silent_share: float
    seed: int
    ending: str
    failed: int
    exposed: int
    days: float
    days_to_95: float | None

    @property
    def case(self) -> Case:
        """What was met."""
        return Case(self.fleet, self.limit, self.failure_rate, self.silent_share)


BAD = tuple((rate, share) for rate in (0.02, 0.05, 0.2) for share in (0.3, 1.0))
GOOD = ((0.005, 0.3), (0.005, 1.0))
VARIANT_FAILS = ((0.003, 0.0), (0.003, 1.0))
"""Of the other vehicles; the variant always fails, by word or silently."""


def plan_of(limit: float) -> Plan:
    """The engine's plan at a limit."""
    return read_plan(f"{PLAN}gate: {{failure_ratio: {limit:.4f}}}\n")


RULES: Mapping[str, Callable[[float], Made]] = {
    "aws": lambda limit: lambda vehicles: StagedRule(vehicles, aws(limit)),
    "aws-10": lambda limit: lambda vehicles: StagedRule(vehicles, aws(limit, 10)),
    "hawkbit": lambda limit: lambda vehicles: StagedRule(vehicles, hawkbit(limit)),
    "wilson": lambda limit: lambda vehicles: StagedRule(vehicles, wilson(limit)),
    REFERENCE: lambda limit: lambda vehicles: ReferenceRule(vehicles, limit),
    OUTRIDER: lambda limit: lambda vehicles: EngineRule(vehicles, plan_of(limit), step_h=STEP_H),
}
"""By name, from the limit."""

_SOURCES = {
    "fleets": ("orchestrator/rehearsal",),
    "others": ("benchmarks/judge/rules.py", "benchmarks/judge/reference.py"),
    OUTRIDER: ("benchmarks/judge/study.py", "orchestrator/engine", "orchestrator/model"),
}


def fleet_of(name: str) -> FleetModel:
    """A modelled fleet by its name."""
    return VARIANT if name == VARIANT.name else FLEETS[name]


def release_of(case: Case) -> ReleaseModel:
    """What the release of a cell does."""
    variant = {cell: 1.0 for cell, _ in VARIANT.cells[1:]} if case.fleet == VARIANT.name else {}
    rates: dict[Cell, float] = dict(variant)
    return ReleaseModel(case.failure_rate, case.silent_share, rates)


def tabled(rules: Sequence[str]) -> list[tuple[str, Case]]:
    """Every cell of the table: all rules on the reference's fleet, the two that hear silence on the others as well."""
    cells = [(rule, Case("1.3", 0.01, *release)) for rule in rules for release in (*GOOD, *BAD)]
    for rule in rules:
        if rule in (REFERENCE, OUTRIDER):
            cells += [(rule, Case(VARIANT.name, 0.01, *release)) for release in VARIANT_FAILS]
            cells += [(rule, Case("habits", 0.01, *release)) for release in (*GOOD, *BAD)]
    return cells


def run_seed(fleet: str, seed: int, cells: Sequence[tuple[str, Case]]) -> list[Result]:
    """All given cells of one fleet on one seed: one draw of vehicles serves them all."""
    drawn = draw_vehicles(fleet_of(fleet), seed)
    results = []
    for rule, case in cells:
        vehicles = drawn.under(release_of(case))
        outcome = run(vehicles, RULES[rule](case.limit)(vehicles), seed=seed, step_h=STEP_H)
        results.append(
            Result(
                rule=rule,
                **asdict(case),
                seed=seed,
                ending=outcome.ending.value,
                failed=outcome.failed,
                exposed=outcome.exposed,
                days=outcome.days,
                days_to_95=outcome.days_to_95,
            )
        )
    return results


class Kept:
    """Finished runs on disk.

    Args:
        folder: Where; made if missing.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._paths = {rule: folder / f"{rule}-{_digest(rule)}.jsonl" for rule in RULES}

    def results(self, rules: Iterable[str]) -> Iterator[Result]:
        """What is finished of these rules."""
        for rule in rules:
            path = self._paths[rule]
            lines = path.read_text().splitlines() if path.exists() else []
            # The last line may have been broken off.
            yield from (Result(**json.loads(line)) for line in lines if line.endswith("}"))

    def keep(self, results: Iterable[Result]) -> None:
        """Append finished runs."""
        by_rule: defaultdict[str, list[str]] = defaultdict(list)
        for result in results:
            by_rule[result.rule].append(json.dumps(asdict(result)) + "\n")
        for rule, lines in by_rule.items():
            with self._paths[rule].open("a") as file:
                file.writelines(lines)


def study(
    cells: Sequence[tuple[str, Case]], seeds: Sequence[int], kept: Kept, *, workers: int, done: Callable[[int], None]
) -> list[Result]:
    """Run what is not finished, and return every run of these cells and seeds.

    Args:
        cells: Rules and what they meet.
        seeds: One run of each cell for each.
        kept: Of earlier studies; what is finished is added as it finishes.
        workers: Processes.
        done: Told how many runs have become finished, the known ones at once.
    """
    wanted = {(rule, case, seed) for rule, case in cells for seed in seeds}
    known = {(one.rule, one.case, one.seed): one for one in kept.results(dict(cells))}
    results = {key: one for key, one in known.items() if key in wanted}
    done(len(results))
    missing: defaultdict[tuple[int, str], list[tuple[str, Case]]] = defaultdict(list)
    for rule, case, seed in sorted(wanted - results.keys(), key=repr):
        missing[seed, case.fleet].append((rule, case))
    with ProcessPoolExecutor(workers) as pool:
        futures = [pool.submit(run_seed, fleet, seed, them) for (seed, fleet), them in sorted(missing.items())]
        for future in as_completed(futures):
            fresh = future.result()
            kept.keep(fresh)
            results.update({(one.rule, one.case, one.seed): one for one in fresh})
            done(len(fresh))
    return [results[key] for key in sorted(results, key=repr)]


def _digest(rule: str) -> str:
    """Changes when the code does that a rule's runs depend on."""
    names = [*_SOURCES["fleets"], *_SOURCES["others"], *(_SOURCES[OUTRIDER] if rule == OUTRIDER else ())]
    found = sha256()
    for path in sorted(file for name in names for file in _files(ROOT / name)):
        # How the engine is asked does not bear on the other rules.
        if rule == OUTRIDER or path.name != "engine_rule.py":
            found.update(path.read_bytes())
    return found.hexdigest()[:12]


def _files(path: Path) -> Iterable[Path]:
    return path.rglob("*.py") if path.is_dir() else (path,)
