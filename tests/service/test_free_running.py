"""Vehicles that call by themselves: nobody tells them when, and the service's controls stay like its exposures.

Elsewhere (`test_as_judged`) the model says who calls when, and the service has to count the same. Here vehicles call
when their habits say so, download for a while, ask, are told to wait and ask again. No twin says what has to come of
it; but without a defect exposures and controls must be as often silent as each other, and with one they must not.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from orchestrator.model.rollout import RolloutStatus
from orchestrator.model.tally import AgeGroup, total
from orchestrator.rehearsal import ReleaseModel
from orchestrator.rehearsal.vehicles import first_calls, heard_after, next_calls
from orchestrator.service.vehicles import Install
from tests.service.test_as_judged import GOOD, a_scenario
from tests.service.twins import Look, Scenario, Twin

DOWNLOAD_H = 0.3
HORIZON_H = 120.0
SEEDS = (1, 2, 3)
SIZE = 240
BROKEN = ReleaseModel(0.5, 1.0)
"""Half of them are never heard again."""


@dataclass
class Free:
    """Vehicles that do what they like, in the order of time.

    Args:
        twin: The service, and the vehicles' draws; its acts are not used.
        scenario: Of it.
    """

    twin: Twin
    scenario: Scenario
    attempts: dict[int, str] = field(default_factory=dict)
    exposed: set[int] = field(default_factory=set)
    """Who has a permit and has not been heard yet."""
    over: set[int] = field(default_factory=set)
    """Who has nothing more to do but to call."""
    _due: list[tuple[float, str, int]] = field(default_factory=list)

    async def run(self) -> list[Look]:
        """What the service stands at, hour by hour, until it stops or time is over."""
        modelled = await self.twin.start()
        self._vehicles, self._rng = modelled.vehicles, np.random.default_rng([self.scenario.seed, 9])
        everybody = np.arange(self._vehicles.model.size)
        for vehicle, at_h in enumerate(first_calls(self._vehicles, everybody, 0.0, self._rng).tolist()):
            heapq.heappush(self._due, (at_h, "call", vehicle))
        looks = []
        for hour in range(int(self.scenario.horizon_h)):
            looks.append(await self.twin.look(hour))
            if looks[-1].rollout.status is RolloutStatus.HALTED:
                break
            for at_h, what, vehicle in self._until(hour + 0.75):
                await self.twin.until(at_h)
                await {"call": self._calls, "ask": self._asks, "word": self._word}[what](vehicle, at_h)
        await self.twin.close()
        return looks

    def _until(self, hour: float) -> Iterator[tuple[float, str, int]]:
        while self._due and self._due[0][0] < hour:
            yield heapq.heappop(self._due)

    async def _calls(self, vehicle: int, at_h: float) -> None:
        if vehicle in self.exposed and self._vehicles.fails[vehicle]:
            return  # It is broken, and this was its last call.
        if vehicle in self.exposed | self.over:
            await self.twin.touch(vehicle)
        elif isinstance(directive := (await self.twin.calls(vehicle)).directive, Install):
            if vehicle not in self.attempts:
                self.attempts[vehicle] = directive.attempt.attempt_id
                heapq.heappush(self._due, (at_h + DOWNLOAD_H, "ask", vehicle))
            else:
                await self._asks(vehicle, at_h)
        one, draws = np.array([vehicle]), (self._rng.standard_normal(1), self._rng.random(1))
        heapq.heappush(
            self._due, (float(next_calls(self._vehicles, one, np.array([at_h]), *draws)[0]), "call", vehicle)
        )

    async def _asks(self, vehicle: int, at_h: float) -> None:
        if vehicle in self.exposed | self.over:
            return
        answer = await self.twin.permit(vehicle)
        if answer.refusal is not None:
            self.over.update([vehicle] if answer.retry_after_ms is None else [])
            return
        self.exposed.add(vehicle)
        heard_h = at_h + float(heard_after(self._vehicles, np.array([vehicle]), np.array([at_h]))[0])
        if np.isfinite(heard_h):
            heapq.heappush(self._due, (heard_h, "word", vehicle))

    async def _word(self, vehicle: int, at_h: float) -> None:
        self.exposed.discard(vehicle)
        self.over.add(vehicle)
        await self.twin.says(vehicle)


async def run_of(release: ReleaseModel, tmp_path: Path, template: Path) -> list[list[Look]]:
    """The looks of a few free fleets under a release."""
    runs = []
    for seed in SEEDS:
        usual = a_scenario(release, size=SIZE, variants=False, limit="10%", horizon_h=HORIZON_H)
        scenario = replace(usual, seed=seed)
        twin = Twin(tmp_path / str(seed), template, scenario)
        runs.append(await Free(twin, scenario).run())
    return runs


def silence(runs: list[list[Look]]) -> tuple[float, float, AgeGroup]:
    """Share of the compared exposures, and of the controls, silent at the first checkpoint; and what was counted."""
    groups = [total(looks[-1].cells.values()).age_groups[0] for looks in runs]
    group = sum(groups, AgeGroup())
    return group.paired_silent / group.paired, group.controls_silent / group.controls, group


async def test_good_release_is_as_silent_as_its_controls_and_gets_through(tmp_path: Path, template: Path) -> None:
    """A difference that only the order of calls makes would stop releases that break nothing."""
    runs = await run_of(GOOD, tmp_path, template)
    assert {look.rollout.status for looks in runs for look in looks} == {RolloutStatus.RUNNING}
    exposures, controls, counted = silence(runs)
    assert counted.paired > 100
    assert counted.controls > 300
    spread = (controls * (1 - controls) * (1 / counted.paired + 1 / counted.controls)) ** 0.5
    assert exposures == pytest.approx(controls, abs=3 * spread)
    assert all(total(looks[-1].cells.values()).succeeded > 0.7 * SIZE for looks in runs)


async def test_release_that_silences_vehicles_is_seen_beside_its_controls(tmp_path: Path, template: Path) -> None:
    """What the coin is for: the silence of those that installed, and of nobody else."""
    runs = await run_of(BROKEN, tmp_path, template)
    exposures, controls, _ = silence(runs)
    assert exposures - controls > 0.15
    # It is halted, or its first wave never shows what the next one asks for.
    assert all(total(looks[-1].cells.values()).exposed < 0.1 * SIZE for looks in runs)
