"""The study: which rules meet which releases on which fleets, run by run, kept as they finish.

Owns the runs; which there are is the matter of `cells`. A run is known by rule, fleet, limit, release and seed; what is
finished is kept under `build/judge/`, one file for each rule and state of the code that it depends on, so that a study
that was broken off goes on, and one of other code begins anew. What the runs say is the matter of `figures`.
"""

from __future__ import annotations

import gc
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from benchmarks.judge.cells import OUTRIDER, REFERENCE, Case, fleet_of, release_of
from benchmarks.judge.plans import plan_of
from benchmarks.judge.reference import ReferenceRule
from benchmarks.judge.rules import StagedRule, aws, hawkbit, wilson
from orchestrator.rehearsal import Ending, Outcome, Rule, Vehicles, draw_vehicles, run
from orchestrator.rehearsal.engine_rule import EngineRule

ROOT = Path(__file__).resolve().parents[2]
STEP_H = 1.0

Made = Callable[[Vehicles], Rule]


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
    stopped_by: str
    """The gate's word for what halted or held the engine; empty for other rules and other endings."""
    failed: int
    failed_variant: int
    """Of these, vehicles of the hardware variant; 0 where the fleet has none."""
    exposed: int
    days: float
    days_to_95: float | None

    @property
    def case(self) -> Case:
        """What was met."""
        return Case(self.fleet, self.limit, self.failure_rate, self.silent_share)


RULES: Mapping[str, Callable[[Case], Made]] = {
    "aws": lambda case: lambda vehicles: StagedRule(vehicles, aws(case.limit)),
    "aws-10": lambda case: lambda vehicles: StagedRule(vehicles, aws(case.limit, 10)),
    "hawkbit": lambda case: lambda vehicles: StagedRule(vehicles, hawkbit(case.limit)),
    "wilson": lambda case: lambda vehicles: StagedRule(vehicles, wilson(case.limit)),
    REFERENCE: lambda case: lambda vehicles: ReferenceRule(vehicles, case.limit),
    OUTRIDER: lambda case: lambda vehicles: EngineRule(vehicles, plan_of(case), step_h=STEP_H),
}
"""By name, from what is met."""

_SOURCES = {
    "fleets": ("orchestrator/rehearsal",),
    "others": ("benchmarks/judge/rules.py", "benchmarks/judge/reference.py", "benchmarks/judge/cells.py"),
    OUTRIDER: ("benchmarks/judge/study.py", "benchmarks/judge/plans.py", "orchestrator/engine", "orchestrator/model"),
}


def run_seed(fleet: str, seed: int, cells: Sequence[tuple[str, Case]]) -> list[Result]:
    """All given cells of one fleet on one seed: one draw of vehicles serves them all."""
    drawn = draw_vehicles(fleet_of(fleet), seed)
    results = []
    for rule, case in cells:
        vehicles = drawn.under(release_of(case))
        made = RULES[rule](case)(vehicles)
        outcome = run(vehicles, made, seed=seed, step_h=STEP_H)
        results.append(
            Result(
                rule=rule,
                **asdict(case),
                seed=seed,
                ending=outcome.ending.value,
                stopped_by=_stopped_by(made, outcome),
                failed=outcome.failed,
                failed_variant=sum(outcome.failed_by_cell[1:]),
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
    cells: Mapping[tuple[str, Case], Sequence[int]], kept: Kept, *, workers: int, done: Callable[[int], None]
) -> list[Result]:
    """Run what is not finished, and return every run of these cells and seeds.

    Args:
        cells: Rules and what they meet: the seeds of each.
        kept: Of earlier studies; what is finished is added as it finishes.
        workers: Processes.
        done: Told how many runs have become finished, the known ones at once.
    """
    wanted = {(rule, case, seed) for (rule, case), seeds in cells.items() for seed in seeds}
    known = {(one.rule, one.case, one.seed): one for one in kept.results({rule for rule, _ in cells})}
    results = {key: one for key, one in known.items() if key in wanted}
    done(len(results))
    missing: defaultdict[tuple[int, str], list[tuple[str, Case]]] = defaultdict(list)
    for rule, case, seed in sorted(wanted - results.keys(), key=repr):
        missing[seed, case.fleet].append((rule, case))
    # Runs leave few cycles, and looking for them costs a tenth of the time.
    with ProcessPoolExecutor(workers, initializer=gc.disable) as pool:
        futures = [pool.submit(run_seed, fleet, seed, them) for (seed, fleet), them in sorted(missing.items())]
        for future in as_completed(futures):
            fresh = future.result()
            kept.keep(fresh)
            results.update({(one.rule, one.case, one.seed): one for one in fresh})
            done(len(fresh))
    return [results[key] for key in sorted(results, key=repr)]


def _stopped_by(rule: Rule, outcome: Outcome) -> str:
    stopped = isinstance(rule, EngineRule) and outcome.ending in (Ending.HALTED, Ending.HELD)
    verdict = rule.rollout.verdict if stopped and isinstance(rule, EngineRule) else None
    return verdict.rule if verdict is not None else ""


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
