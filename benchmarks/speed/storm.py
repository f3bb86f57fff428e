"""A herd that comes back at once: `python -m benchmarks.speed.storm`, some minutes; leave the machine alone.

Arrivals are modelled, the server is real: after an outage a hundred thousand clients call an installation within a
minute, far more than one worker answers, each is served once, and who is refused comes again as it was told and as
agents do. The clients share the connections of 2,000 vehicles: what is measured is calls. Said is how many these were
(each refusal that comes too early again is one more), how long they took, beside what the worker answered a second
meanwhile, and until when those who were refused had been told to come: the window over which the herd was spread.
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
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from outrider.v1 import vehicle_pb2

from benchmarks.speed.caller import CHECK_IN, DEADLINE_S
from benchmarks.speed.serving import Caller, Served, request_of, serving
from signing.pki import Authority

CLIENTS = 100_000
WITHIN_S = 60.0
VEHICLES = 2_000
SETTLED_AT_ONCE = 32
"""Vehicles that get their first files, each signed for it, before the herd comes."""
DETAILS_KEY = "grpc-status-details-bin"
UNDER_WAY_MAX = 4_000
"""Calls of ours at once; a real herd has no such bound, and is refused the sooner."""


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
    """From the first call of a client to its answer."""
    told_until_s: float = 0.0
    """The latest moment at which anybody was told to come again, with what agents add."""
    refused: int = 0
    """Calls that were answered with a delay."""
    lost: int = 0
    """Calls that ended in another way than with an answer or a delay; these clients come again in a second."""

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
    due = [(herd.rng.uniform(0.0, within_s), client) for client in range(clients)]
    heapq.heapify(due)
    first_s: dict[int, float] = {}
    began, under_way = perf_counter(), asyncio.Semaphore(UNDER_WAY_MAX)

    async def call(client: int) -> None:
        first_s.setdefault(client, perf_counter() - began)
        herd.tries[client] += 1
        try:
            await polls[client % len(polls)](requests[client % len(polls)], timeout=DEADLINE_S)
            herd.served_s.append(perf_counter() - began)
            herd.waited_s.append(herd.served_s[-1] - first_s.pop(client))
        except grpc.aio.AioRpcError as error:
            delay_s = retry_delay_s(error)
            herd.lost += delay_s is None
            herd.refused += delay_s is not None
            # As agents do: never sooner than told, and spread over half as long again.
            wait_s = (1.0 if delay_s is None else delay_s) * (1.0 + herd.rng.uniform(0.0, 0.5))
            comes_s = perf_counter() - began + wait_s
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
    await asyncio.gather(*(channel.close() for channel in channels))
    return herd.report(clients)


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
    with (
        tempfile.TemporaryDirectory(prefix="outrider-storm-") as folder,
        serving(Path(folder) / "data", vehicles=VEHICLES) as served,
    ):
        told = asyncio.run(storm(served, clients=options.clients, within_s=options.within, seed=options.seed))
    sys.stdout.write(json.dumps(told, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
