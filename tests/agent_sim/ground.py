"""A fleet on disk and a small orchestrator on real sockets, for tests that let the real simulator drive."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from agent_sim.clock import machine_date
from agent_sim.fleet import Fleet, build_fleet
from agent_sim.images import build_image, image_path, release_counter
from agent_sim.scenario import Scenario, parse_scenario
from agent_sim.simulation import RunFiles, RunLimits, Simulation
from signing.image_repo import NewImage
from tests.agent_sim.wire_orchestrator import WireOrchestrator, serving

SCALE = 1500.0
SCENARIO = """
name = "test"
seed = 3
regions = {eu = 0.5, us = 0.5}
cohorts = {canary = 0.25, general = 0.75}
fleet = {size = 8, image_bytes = 4096}

[[hardware]]
name = "gen1"
share = 0.5
ecus = ["acme-gw-1", "acme-brake-1"]

[[hardware]]
name = "gen2"
share = 0.5
ecus = ["acme-gw-2", "acme-brake-2"]

[run]
until = "settled"
release = "1.1.0"
duration = "30d"
"""


def a_scenario(*faults: str) -> Scenario:
    return parse_scenario(SCENARIO + "".join(f"\n[[faults]]\n{fault}\n" for fault in faults))


def release_images(fleet: Fleet, folder: Path, version: str) -> list[NewImage]:
    images = []
    for hardware_id in fleet.factory:
        file = folder / f"{hardware_id}-{version}.img"
        file.write_bytes(build_image(hardware_id, version, 200_000, 1))
        images.append(NewImage(image_path(hardware_id, version), file, hardware_id, release_counter(version), version))
    return images


class Ground:
    """A fleet on disk and an orchestrator that offers it 1.1.0."""

    def __init__(
        self,
        folder: Path,
        scenario: Scenario,
        *,
        offered: bool = True,
        served_by: type[WireOrchestrator] = WireOrchestrator,
    ) -> None:
        self.folder = folder
        self.scenario = scenario
        self.fleet = build_fleet(scenario, folder / "fleet")
        self.orchestrator = served_by(folder / "data", self.fleet.csv.read_text(), scale=SCALE)
        self.report = folder / "report.json"
        self.limits = RunLimits()
        if offered:
            images = release_images(self.fleet, folder, "1.1.0")
            self.orchestrator.offer("1.1.0", images, list(self.orchestrator.vehicles))

    def files(self, endpoints: Path) -> RunFiles:
        """What a run of this fleet reads and writes."""
        return RunFiles(
            endpoints=endpoints,
            provisioning=self.orchestrator.data.provisioning,
            fleet=self.fleet.folder,
            tokens=endpoints.parent / "tokens.jsonl",
            report=self.report,
            stop=self.folder / "stop",
        )

    async def run(
        self, endpoints: Path, *, scale: float | None = SCALE, wall: Callable[[], datetime] = machine_date
    ) -> dict[str, Any]:
        files = self.files(endpoints)
        simulation = Simulation(self.scenario, files, replace(self.limits, scale=scale), wall=wall)
        async with asyncio.timeout(60):
            await simulation.run(lambda _: None)
        report: dict[str, Any] = json.loads(self.report.read_bytes())
        return report

    async def ride(self) -> dict[str, Any]:
        async with serving(self.orchestrator, self.folder) as endpoints:
            return await self.run(endpoints)


def releases(report: dict[str, Any]) -> Sequence[str]:
    return [vehicle["release"] for vehicle in report["vehicles"].values()]
