"""What must not depend on how many vehicles are registered: a look of the evaluator, how a rollout begins and stops.

Two installations whose stores hold a large and a small fleet of the same kinds of vehicles.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.speed import starting
from benchmarks.speed.fleet import VEHICLES, Amount, fill
from benchmarks.speed.pairs import Figure
from benchmarks.speed.running import TRUST_DOMAIN
from benchmarks.speed.serving import now
from benchmarks.speed.ticking import ticking
from orchestrator.clock import MachineClock
from orchestrator.model.ids import FleetTime
from orchestrator.store.redis import EmbeddedServer
from signing.ceremony import DataFolder, initialise

SMALL = 10_000


def large_and_small(
    folder: Path,
    *,
    rounds: int,
    large: int = VEHICLES,
    small: int = SMALL,
    starts: int = starting.STARTS,
    stops: int = starting.STOPS,
) -> tuple[Sequence[Figure], Sequence[Amount]]:
    """Pairs of the evaluator, and amounts of starts and stops.

    Args:
        folder: new.
        rounds: of each pair that count.
        large: vehicles of the large fleet.
        small: vehicles of the small one.
        starts: of rollouts in each.
        stops: of rollouts in the small one.
    """
    folder.mkdir()
    at = FleetTime(MachineClock().wall_ms())
    houses = []
    for name, vehicles in (("large", large), ("small", small)):
        houses.append(initialise(folder / name, trust_domain=TRUST_DOMAIN, now=now()))
        fill(folder / name / "store", vehicles, now=at)
    with _servers(houses) as urls:
        loop = asyncio.new_event_loop()
        figures = ticking(loop, urls[0], urls[1], folder / "ledgers", rounds=rounds, now=at)
        loop.close()
    at_large = starting.first_grants(houses[0], vehicles=large, starts=starts)
    at_small = starting.first_grants(houses[1], vehicles=small, starts=starts)
    stopped = starting.last_grants(houses[1], stops=stops)
    return figures, starting.amounts(at_large, at_small, stopped)


@contextmanager
def _servers(houses: Sequence[DataFolder]) -> Iterator[list[str]]:
    servers = [EmbeddedServer(house.path / "store") for house in houses]
    try:
        for server in servers:
            server.start()
        yield [server.url for server in servers]
    finally:
        for server in servers:
            server.stop()
