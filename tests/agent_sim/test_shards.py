"""One fleet driven by several real processes, on real sockets: one record, and nobody is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_sim.errors import ShardError, SimulationError, StateError
from agent_sim.shards import ShardedSimulation
from agent_sim.simulation import Outcome, Progress, RunLimits
from agent_sim.state_journal import StateJournal, read_states
from tests.agent_sim.ground import SCALE, SCENARIO, Ground, a_scenario, release_images, releases
from tests.agent_sim.wire_orchestrator import serving

pytestmark = pytest.mark.processes


def sharded(ground: Ground, endpoints: Path, shards: int) -> ShardedSimulation:
    source = ground.folder / "scenario.toml"
    source.write_text(SCENARIO)
    return ShardedSimulation(ground.scenario, source, ground.files(endpoints), RunLimits(scale=SCALE), shards=shards)


async def ride(ground: Ground, endpoints: Path, shards: int = 3) -> tuple[Outcome, dict[str, Any]]:
    async with asyncio.timeout(90):
        outcome = await sharded(ground, endpoints, shards).run(lambda _: None)
    return outcome, json.loads(ground.report.read_bytes())


async def driving(
    ground: Ground, endpoints: Path, started: Callable[[ShardedSimulation], None], *, shards: int = 2
) -> Outcome:
    """Run; `started` once every process drives."""
    simulation = sharded(ground, endpoints, shards)
    waiting = [started]

    def show(progress: Progress) -> None:
        if progress.stage == "driving" and progress.total == 8 and waiting:
            waiting.pop()(simulation)

    async with asyncio.timeout(90):
        return await simulation.run(show)


def children() -> set[int]:
    """Of this process: those of the run, and servers that other tests left running for more of them."""
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


def names(folder: Path, start: str) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.startswith(start))


async def test_fleet_of_several_processes_is_one_fleet(tmp_path: Path) -> None:
    """Every vehicle is driven by exactly one of them, and the record says what one process's would."""
    ground = Ground(tmp_path, a_scenario())
    async with serving(ground.orchestrator, tmp_path) as endpoints:
        outcome, report = await ride(ground, endpoints)
    assert outcome.over == report["over"] == "settled"
    assert releases(report) == ["1.1.0"] * 8
    assert report["totals"]["by_release"] == {"1.1.0": 8}
    assert all(vehicle["boots"] == 2 for vehicle in report["vehicles"].values())
    assert report["downloads"]["complete"] == 16
    assert sum(row["count"] for row in report["calls"]) == outcome.figures["calls"] == len(ground.orchestrator.calls)
    assert report["bytes_sent"] > 0 < report["bytes_received"]
    assert names(tmp_path, "report.json") == ["report.json"]


async def test_fleet_goes_on_with_another_number_of_processes(tmp_path: Path) -> None:
    """What vehicles persisted is the fleet's, whoever drove them."""
    ground = Ground(tmp_path, a_scenario(), offered=False)
    async with serving(ground.orchestrator, tmp_path) as endpoints:
        await driving(ground, endpoints, lambda simulation: simulation.stop("for now"), shards=3)
        first = json.loads(ground.report.read_bytes())
        ground.orchestrator.offer("1.1.0", release_images(ground.fleet, tmp_path, "1.1.0"), list(first["vehicles"]))
        _, second = await ride(ground, endpoints, shards=2)
        alone = await ground.run(endpoints)
    outboxes = [{name: v["outbox_id"] for name, v in r["vehicles"].items()} for r in (first, second, alone)]
    assert outboxes[0] == outboxes[1] == outboxes[2]
    assert releases(alone) == ["1.1.0"] * 8
    assert len(read_states(ground.fleet.states)) == 8
    assert names(ground.fleet.folder, "states") == ["states.jsonl", "states.lock"]


async def test_signal_ends_every_process_with_its_record_written(tmp_path: Path) -> None:
    """Ctrl-C loses nothing: what each vehicle did stands in the one record."""
    ground = Ground(tmp_path, a_scenario(), offered=False)
    others = children()
    async with serving(ground.orchestrator, tmp_path) as endpoints:
        outcome = await driving(ground, endpoints, lambda simulation: simulation.stop("SIGINT"))
    assert outcome.over == "SIGINT"
    assert len(json.loads(ground.report.read_bytes())["vehicles"]) == 8
    assert children() <= others


async def test_process_that_dies_ends_the_run_and_the_others(tmp_path: Path) -> None:
    """Half of a fleet that falls silent by itself would be read as a bad release."""
    ground = Ground(tmp_path, a_scenario(), offered=False)
    others = children()
    async with serving(ground.orchestrator, tmp_path) as endpoints:
        with pytest.raises(ExceptionGroup) as raised:
            await driving(ground, endpoints, lambda _: os.kill(min(children() - others), signal.SIGKILL))
    [error] = raised.value.exceptions
    assert isinstance(error.exceptions[0], ShardError) if isinstance(error, ExceptionGroup) else False
    assert children() <= others


async def test_more_processes_than_vehicles_and_a_second_run_are_refused(tmp_path: Path) -> None:
    """Before anything is started."""
    ground = Ground(tmp_path, a_scenario(), offered=False)
    async with serving(ground.orchestrator, tmp_path) as endpoints:
        with pytest.raises(SimulationError, match="--shards 9 is more than the 8 vehicles"):
            await ride(ground, endpoints, shards=9)

        def started(simulation: ShardedSimulation) -> None:
            with pytest.raises(StateError, match="another simulator drives the fleet"):
                StateJournal(ground.fleet.states)
            simulation.stop("seen")

        assert (await driving(ground, endpoints, started)).over == "seen"
