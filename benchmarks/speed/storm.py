"""A herd that comes back at once, far more than one worker answers: by how much do its calls grow, and when is it over?

Arrivals are modelled, the server is real: after an outage a hundred thousand clients call an installation, each is
served once, and who is refused comes again as it was told and as agents do. The clients share the connections of 2,000
vehicles: what is measured is calls. Said is how many these were (each refusal that comes too early again is one more),
how long they took, beside what the worker answered a second meanwhile, and until when those who were refused had been
told to come: the window over which the herd was spread.

`python -m benchmarks.speed.storm` measures this alone.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from outrider.v1 import vehicle_pb2

from agent_sim.pacing import Pace
from benchmarks.speed.caller import CHECK_IN, DEADLINE_S
from benchmarks.speed.fleet import Amount
from benchmarks.speed.serving import Caller, Served, request_of, serving
from signing.pki import Authority

CLIENTS = 100_000
WITHIN_S = 20.0
VEHICLES = 2_000
SETTLED_AT_ONCE = 32
"""Vehicles that get their first files, each signed for it, before the herd comes."""
PACE = Pace()
"""Of the agents, who come again as they do."""
UNDER_WAY_MAX = 12_000
"""Calls of ours at once: gRPC cancels ever more of them from 4,000 on that wait for the worker, and all from 8,000 on.
Without a bound it is this process that has no time for them.
"""
DETAILS_KEY = "grpc-status-details-bin"


@dataclass
class Herd:
    """What became of the clients.

    Args:
        rng: draws arrivals, and what agents add to a delay.
    """

    rng: random.Random
    tries: Counter[int] = field(default_factory=Counter)
    served_s: list[float] = field(default_factory=list)
    waited_s: list[float] = field(default_factory=list)
    """From the moment at which a client came to its answer, also if we could not call at once."""
    told_until_s: float = 0.0
    """The latest moment at which anybody was told to come again, with what agents add."""
    refused: int = 0
    """Calls that were answered with a delay."""
    lost: int = 0
    """Calls that ended without an answer or a delay, as gRPC cancels them; these clients back off."""

    def report(self, clients: int) -> dict[str, Any]:
        """In figures."""
        last_s, waited_s = max(self.served_s), sorted(self.waited_s)
        return {
            "clients": clients,
            "served": len(self.served_s),
            "calls_per_client": sum(self.tries.values()) / clients,
            "calls_of_a_client_at_most": max(self.tries.values()),
            "refused_calls": self.refused,
            "lost_calls": self.lost,
            "seconds_waited": {f"{share:.0%}": waited_s[int(share * (clients - 1))] for share in (0.5, 0.99, 1.0)},
            "told_until_s": self.told_until_s,
            "seconds_to_the_last": last_s,
            "answered_a_second": len(self.served_s) / last_s,
        }


async def storm(served: Served, *, clients: int, within_s: float, seed: int) -> dict[str, Any]:
    """Let a herd call.

    Args:
        served: whom.
        clients: how many.
        within_s: of the arrivals.
        seed: of everything that is drawn.
    """
    herd = Herd(random.Random(seed))  # noqa: S311 - arrivals, not secrets
    server_ca = Authority.load(served.folder.authorities, "server").certificate_pem
    channels = [_connect(served.address, server_ca, each) for each in served.quiet]
    polls: list[Any] = [channel.unary_unary(CHECK_IN) for channel in channels]
    at_once = asyncio.Semaphore(SETTLED_AT_ONCE)
    requests = await asyncio.gather(
        *(_settled(poll, each, at_once) for poll, each in zip(polls, served.quiet, strict=True))
    )
    came_s = [herd.rng.uniform(0.0, within_s) for _ in range(clients)]
    due = [(at_s, client) for client, at_s in enumerate(came_s)]
    heapq.heapify(due)
    began, under_way = perf_counter(), asyncio.Semaphore(UNDER_WAY_MAX)

    async def call(client: int) -> None:
        herd.tries[client] += 1
        try:
            await polls[client % len(polls)](requests[client % len(polls)], timeout=DEADLINE_S)
            herd.served_s.append(perf_counter() - began)
            herd.waited_s.append(herd.served_s[-1] - came_s[client])
        except grpc.aio.AioRpcError as error:
            delay_s = retry_delay_s(error)
            herd.lost += delay_s is None
            herd.refused += delay_s is not None
            if delay_s is None:
                wait_ms = PACE.backoff(herd.tries[client] - 1, herd.rng)
            else:
                wait_ms = PACE.retry_after(round(1000 * delay_s), herd.rng)
            comes_s = perf_counter() - began + wait_ms / 1000
            herd.told_until_s = max(herd.told_until_s, comes_s)
            heapq.heappush(due, (comes_s, client))
        finally:
            under_way.release()

    async with asyncio.TaskGroup() as tasks:
        while len(herd.served_s) < clients:
            if not due or due[0][0] > perf_counter() - began:
                await asyncio.sleep(0.002)
                continue
            await under_way.acquire()
            tasks.create_task(call(heapq.heappop(due)[1]))
            await asyncio.sleep(0)
    await asyncio.gather(*(channel.close() for channel in channels))
    return herd.report(clients)


def amounts(told: Mapping[str, Any], within_s: float) -> list[Amount]:
    """As the table has them."""
    waited = told["seconds_waited"]
    calls = (
        f"{told['clients']:,} clients within {within_s:g} s at one worker; {told['refused_calls']:,} calls refused "
        f"with a delay, {told['lost_calls']:,} cancelled by gRPC"
    )
    last = (
        f"until the last is served; told to come until {told['told_until_s']:.1f} s; half waited {waited['50%']:.0f} s "
        f"at most, 99 % {waited['99%']:.0f} s"
    )
    return [
        Amount("storm_calls_per_client", told["calls_per_client"], "calls", calls, "no amplification: at most 2"),
        Amount("storm_seconds", told["seconds_to_the_last"], "s", last, "within the window told"),
    ]


def stormed(folder: Path, *, clients: int = CLIENTS, within_s: float = WITHIN_S, seed: int = 1) -> dict[str, Any]:
    """Let a herd upon an installation of its own.

    Args:
        folder: of its data; new.
        clients: how many.
        within_s: of the arrivals.
        seed: of everything that is drawn.
    """
    with serving(folder, vehicles=VEHICLES) as served:
        return asyncio.run(storm(served, clients=clients, within_s=within_s, seed=seed))


async def _settled(poll: Any, caller: Caller, at_once: asyncio.Semaphore) -> bytes:
    """What a vehicle says that holds what there is for it."""
    async with at_once:
        answer = await poll(request_of(caller, None).SerializeToString(), timeout=DEADLINE_S)
    return request_of(caller, vehicle_pb2.CheckInResponse.FromString(answer)).SerializeToString()


def retry_delay_s(error: grpc.aio.AioRpcError) -> float | None:
    """What a refusal asks to wait; None when it asks nothing."""
    info = error_details_pb2.RetryInfo()
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Unpack(info):
                    return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
    return None


def _connect(address: str, server_ca: bytes, caller: Caller) -> grpc.aio.Channel:
    credentials = grpc.ssl_channel_credentials(server_ca, caller.key_pem, caller.chain_pem)
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
    return grpc.aio.secure_channel(address, credentials, options)


def main(arguments: Sequence[str]) -> int:
    """Measure once."""
    parser = argparse.ArgumentParser(prog="storm", description="A herd that comes back at once.")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--within", type=float, default=WITHIN_S, help="seconds of the arrivals")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="outrider-storm-") as folder:
        told = stormed(Path(folder) / "data", clients=options.clients, within_s=options.within, seed=options.seed)
    sys.stdout.write(json.dumps(told, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
