"""One process of several that drive a fleet: does as its first line of input says, ends at the next or at their end.

Says how its run stands on standard output, a JSON line each, and why it is over in the last.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent_sim.driver import InFlight
from agent_sim.errors import SimulationError
from agent_sim.scenario import load_scenario
from agent_sim.simulation import Progress, RunFiles, RunLimits, Share, Simulation
from signing.errors import SigningError


async def obey() -> None:
    """Run until it is over."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    orders = json.loads(await reader.readline())
    tokens = orders["files"].pop("tokens")
    paths = {name: Path(path) for name, path in orders["files"].items()}
    files = RunFiles(**paths, tokens=Path(tokens) if tokens else None)
    limits = RunLimits(**{**orders["limits"], "in_flight": InFlight(**orders["limits"]["in_flight"])})
    simulation = Simulation(load_scenario(Path(orders["scenario"])), files, limits, share=Share(**orders["share"]))
    async with asyncio.TaskGroup() as group:
        told = group.create_task(_listen(reader, simulation))
        tell({"over": (await simulation.run(show)).over})
        told.cancel()


async def _listen(reader: asyncio.StreamReader, simulation: Simulation) -> None:
    line = await reader.readline()
    simulation.stop(line.decode().strip() or "the process that started it is gone")


def show(progress: Progress) -> None:
    """Say how the run stands."""
    tell(asdict(progress))


def tell(said: dict[str, Any]) -> None:
    """Write a line; who started this may be gone, which `_listen` sees."""
    try:
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        return


def main() -> int:
    """Entry point: an expected error is one line with cause and remedy."""
    failed = False
    try:
        asyncio.run(obey())
    except* (SimulationError, SigningError, OSError) as errors:
        error: BaseException = errors
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        sys.stderr.write(f"outrider-sim: {error}\n")
        failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
