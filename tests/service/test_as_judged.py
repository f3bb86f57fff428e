"""The fleet model counts and judges as the service does: the same calls, the same counters, the same verdicts.

Several hundred vehicles of mixed habits are rehearsed under releases of every kind. Then the same calls are made to the
service on the memory store, and at every look both sides must have counted the same in every cell, say the same of it,
give as many permits, and stand at the same step.

What a vehicle says or does not say is the model's; what is made of it is compared, and who becomes a control: the model
tosses the service's coins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrator.model.fleet import Cell
from orchestrator.model.rollout import BrakeKind, Verdict
from orchestrator.model.tally import Tally
from orchestrator.rehearsal import CallPattern, Delays, FleetModel, ReleaseModel
from orchestrator.store.memory import shard
from tests.service.twins import Look, Scenario, Twin

PLAN = """\
release: 1.1.0
target: {{model: [S]}}
holdout: 5%
waves:
  - {{name: canary, share: 6%, soak: 12h}}
  - {{name: early, share: 25%, soak: 16h}}
  - {{name: all, soak: 16h}}
regions: {{eu: {{}}, us: {{follow: eu}}}}
gate:
  sample: 20
  stratum_sample: 2
  failure_ratio: {limit}
  checkpoints: [8h, 16h, 30h]
  silence_reference: [15%, 10%, 8%]
  habit_ages: {{often: [4h]}}
  controls: 3
limits: {{in_flight: {in_flight}, starts_per_minute: 1000, blast_budget: 60, patience: 4d}}
deadlines: {{permitted: 26h}}
"""
DEADLINE_H = 26.0
CELLS = tuple(
    (Cell(region, hardware, "general"), of_region * of_hardware)
    for region, of_region in (("eu", 0.6), ("us", 0.4))
    for hardware, of_hardware in (("a", 0.8), ("b", 0.2))
)
PATTERNS = (
    CallPattern("hourly", 0.40, 1.0, 0.3, 0.35),
    CallPattern("few-hourly", 0.25, 3.5, 0.4, 0.6, 0.002),
    CallPattern("daily", 0.25, 20.0, 0.3, 0.6, 0.01),
    CallPattern("weekly", 0.10, 120.0, 0.4, 0.7, 0.05),
)
GOOD = ReleaseModel(0.0, 0.0)
SPOKEN = ReleaseModel(0.15, 0.2)
SILENT = ReleaseModel(0.25, 1.0)
VARIANT = ReleaseModel(0.01, 0.0, {cell: 1.0 for cell, _ in CELLS if (cell.region, cell.hardware) == ("us", "b")})
"""One stratum always fails; hardly anything else does."""


def a_scenario(
    release: ReleaseModel,
    *,
    size: int = 400,
    variants: bool = True,
    limit: str = "5%",
    in_flight: int = 1000,
    horizon_h: float = 480.0,
) -> Scenario:
    """Vehicles of two regions and of every habit that report with their next call."""
    delays = Delays(install_median_h=1.0, install_sigma=0.5, stays_in_touch=False, garage_share=0.0)
    cells = CELLS if variants else tuple((cell, 0.5) for cell, _ in CELLS if cell.hardware == "a")
    fleet = FleetModel("twin", size, PATTERNS, delays, cells, waits_when_refused=False)
    plan = PLAN.format(limit=limit, in_flight=in_flight)
    return Scenario(plan, fleet, release, DEADLINE_H, horizon_h=horizon_h)


def facts(tally: Tally) -> Mapping[str, Any]:
    """What is counted of a cell, where anything is."""
    counted: dict[str, Any] = {
        "exposed": tally.exposed,
        "succeeded": tally.succeeded,
        "failed": tally.failed,
        "in flight": tally.in_flight,
    }
    groups = {f"checkpoint {index}": group for index, group in enumerate(tally.age_groups)}
    groups |= {f"{place.habit} at {place.age_ms} ms": group for place, group in tally.habit_groups.items()}
    for name, group in groups.items():
        counted[name] = (group.exposed, group.silent)
        counted[f"controls of {name}"] = (group.controls, group.controls_silent)
    return {name: value for name, value in counted.items() if value not in (0, (0, 0))}


def judged(verdict: Verdict) -> Mapping[str, Any]:
    """What is said of a scope, with every number."""
    return {"kind": verdict.kind, "rule": verdict.rule, "words": verdict.message, **verdict.inputs}


def differences(model: Look, service: Look) -> Iterator[tuple[str, Any, Any]]:
    """What the two sides do not agree on: name, the model's, the service's."""
    for cell in sorted(model.cells.keys() | service.cells.keys()):
        yield from _unlike(
            f"{cell.stratum} {cell.cohort}: ", *(facts(side.cells.get(cell, Tally())) for side in (model, service))
        )
    of_model = {str(verdict.scope): judged(verdict) for verdict in model.verdicts}
    for verdict in service.verdicts:
        # The model has every stratum from the start, the service those of which it has counted anything.
        yield from _unlike(f"verdict on {verdict.scope}: ", of_model.get(str(verdict.scope), {}), judged(verdict))
    yield from _unlike("", *(stands(side) for side in (model, service)))


def stands(side: Look) -> Mapping[str, Any]:
    """Where the rollout stands on one side."""
    rollout = side.rollout
    return {
        "status": rollout.status,
        "epoch": rollout.epoch,
        "fence": rollout.fence,
        "brakes": [(brake.scope, brake.kind) for brake in rollout.brakes],
        "regions": {name: (one.phase, one.wave, one.closed) for name, one in rollout.regions.items()},
        "openings": {name: dict(one.openings) for name, one in rollout.regions.items()},
        "permit ceiling": side.permit_ceiling,
    }


def _unlike(where: str, model: Mapping[str, Any], service: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in sorted(model.keys() | service.keys()):
        if model.get(name) != service.get(name):
            yield f"{where}{name}", model.get(name), service.get(name)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a scenario has to lead to, so that it is worth comparing."""

    statuses: str
    brakes: tuple[tuple[str, BrakeKind], ...] = ()
    exposed_min: int = 100


SCENARIOS = {
    "good": (
        a_scenario(GOOD, size=300, variants=False, limit="12%", horizon_h=150.0),
        Expected("running", exposed_min=250),
    ),
    "spoken": (a_scenario(SPOKEN), Expected("running held", exposed_min=10)),
    "silent": (a_scenario(SILENT), Expected("running halted", exposed_min=50)),
    "variant": (
        a_scenario(VARIANT, limit="3%", horizon_h=110.0),
        Expected("running", (("us/b", BrakeKind.HALTED),)),
    ),
    "slots": (a_scenario(ReleaseModel(0.02, 0.3), in_flight=8, horizon_h=96.0), Expected("running")),
}


@pytest.mark.parametrize(("scenario", "expected"), SCENARIOS.values(), ids=SCENARIOS)
async def test_the_model_counts_and_judges_as_the_service(
    scenario: Scenario, expected: Expected, tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the figures of the model would be those of some other engine."""
    twin = Twin(tmp_path, template, scenario)
    model = await twin.start()
    monkeypatch.setattr(shard, "learn", lambda gaps, _: gaps)
    for hour, look in enumerate(model.looks):
        service = await twin.look(hour)
        assert not list(differences(look, service)), f"at hour {hour}"
        for act in sorted(model.acts.get(hour, ())):
            await twin.act(act)
    await twin.close()
    last = model.looks[-1].rollout
    assert {look.rollout.status.value for look in model.looks} == set(expected.statuses.split())
    assert tuple((brake.scope, brake.kind) for brake in last.brakes) == expected.brakes
    assert model.outcome.exposed >= expected.exposed_min
