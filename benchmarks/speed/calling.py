"""What a check-in costs the server, against a bare grpc.aio echo of the same messages.

The server is an installation as `outrider serve` starts it, the baseline the barest server in Python, the caller one
process for both: the same vehicles with the same certificates, and as many connections. What is compared is processor
time of whoever answers (of the worker and the store behind it, or of the echo): with a caller on the same machine the
clock on the wall tells as much about the caller. The evaluator's second-by-second work is no part of a call.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import grpc
from outrider.v1 import vehicle_pb2, vehicle_pb2_grpc

from benchmarks.speed.pairs import Pair, Work
from benchmarks.speed.serving import Caller, Served, cpu_s, request_of, serving
from signing.pki import Authority

VEHICLES = 512
"""Of each group: so many that hardly one calls twice before its contact is written behind."""
AT_ONCE = 64
"""Calls."""
DEADLINE_S = 30.0
BASELINE = "grpc.aio echo, the same messages and TLS"


@contextmanager
def calling(
    folder: Path, *, vehicles: int = VEHICLES, warm_calls: int = 6, cold_calls: int = 1
) -> Iterator[list[Pair]]:
    """The pairs, on an installation of their own.

    Args:
        folder: of its data; new.
        vehicles: of each group.
        warm_calls: of each vehicle in a round, on a connection that stays.
        cold_calls: of each vehicle in a round, on a new connection each.
    """
    with ExitStack() as stack:
        served = stack.enter_context(serving(folder, vehicles=vehicles))
        bench = stack.enter_context(_bench(served))
        rows = (
            ("checkin_vs_echo", "check-in: nothing to do", "quiet", "warm", warm_calls, 0.75),
            ("durable_checkin_vs_echo", "check-in: an event, on disk", "eventful", "warm", warm_calls, 0.5),
            ("cold_mtls_vs_echo", "check-in: on a new connection", "quiet", "cold", cold_calls, 0.85),
        )
        yield [
            Pair(
                key,
                name,
                "calls",
                BASELINE,
                bench.work("ours", group, how, calls),
                bench.work("bare", group, how, calls),
                clock=_clock(served.processes),
                bare_clock=_clock([bench.echo]),
                at_least=at_least,
            )
            for key, name, group, how, calls, at_least in rows
        ]


class _Bench:
    """Lets vehicles call.

    Args:
        callers: the process that does, ready.
        echo: process id of the baseline.
        vehicles: of each group.
    """

    def __init__(self, callers: subprocess.Popen[str], echo: int, vehicles: int) -> None:
        self._callers = callers
        self._vehicles = vehicles
        self.echo = echo

    def work(self, whom: str, group: str, how: str, calls: int) -> Work:
        """Every vehicle of a group calls so many times."""

        def work() -> int:
            assert self._callers.stdin is not None
            _say(self._callers.stdin, {"group": f"{whom} {group}", "how": how, "calls": calls})
            _hear(self._callers, "done")
            return calls * self._vehicles

        return work


@contextmanager
def _bench(served: Served) -> Iterator[_Bench]:
    authority = Authority.load(served.folder.authorities, "server")
    first = {group: _first_calls(served, callers, authority.certificate_pem) for group, callers in _groups(served)}
    with ExitStack() as stack:
        echo, port = _start_echo(stack, served, {group: answer for group, (_, answer) in first.items()})
        callers = _start(stack, "benchmarks.speed.caller")
        assert callers.stdin is not None
        groups = {
            f"{whom} {group}": {"address": address, "vehicles": first[group][0]}
            for whom, address in (("ours", served.address), ("bare", f"127.0.0.1:{port}"))
            for group in first
        }
        _say(callers.stdin, {"server_ca": authority.certificate_pem.decode(), "at_once": AT_ONCE, "groups": groups})
        _hear(callers, "ready")
        yield _Bench(callers, echo, len(served.quiet))


def _groups(served: Served) -> Sequence[tuple[str, Sequence[Caller]]]:
    return ("quiet", served.quiet), ("eventful", served.eventful)


def _first_calls(
    served: Served, callers: Sequence[Caller], server_ca: bytes
) -> tuple[list[Mapping[str, str]], vehicle_pb2.CheckInResponse]:
    """What each vehicle says from now on, and the answer to it: each calls twice, as first it has no metadata."""
    told: list[Mapping[str, str]] = []
    answer = vehicle_pb2.CheckInResponse()
    for caller in callers:
        credentials = grpc.ssl_channel_credentials(server_ca, caller.key_pem, caller.chain_pem)
        with grpc.secure_channel(served.address, credentials) as channel:
            stub = vehicle_pb2_grpc.VehicleServiceStub(channel)
            request = request_of(caller, stub.CheckIn(request_of(caller, None), timeout=DEADLINE_S))
            answer = stub.CheckIn(request, timeout=DEADLINE_S)
        assert not answer.metadata, answer
        assert not answer.manifest_wanted, answer
        assert answer.directive.HasField("install") == (caller.attempt_id is not None), answer
        told.append(
            {
                "key": caller.key_pem.decode(),
                "chain": caller.chain_pem.decode(),
                "request": request.SerializeToString().hex(),
                "attempt_id": caller.attempt_id or "",
            }
        )
    return told, answer


def _start_echo(
    stack: ExitStack, served: Served, answers: Mapping[str, vehicle_pb2.CheckInResponse]
) -> tuple[int, int]:
    """Process id and port of the echo."""
    authorities = served.folder.authorities
    chain, key = Authority.load(authorities, "server").issue_server(
        names=["127.0.0.1", "localhost"], now=served.now, life=served.life
    )
    echo = _start(stack, "benchmarks.speed.echo")
    assert echo.stdin is not None
    assert echo.stdout is not None
    orders = {"key": key.decode(), "chain": chain.decode(), "clients": (authorities / "vehicle.crt").read_text()}
    _say(echo.stdin, orders | {group: answer.SerializeToString().hex() for group, answer in answers.items()})
    return echo.pid, int(echo.stdout.readline())


def _start(stack: ExitStack, module: str) -> subprocess.Popen[str]:
    process = stack.enter_context(
        subprocess.Popen([sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    )
    assert process.stdin is not None
    stack.callback(process.stdin.close)  # which ends it; then it is waited for
    return process


def _say(to: IO[str], orders: Mapping[str, object]) -> None:
    to.write(json.dumps(orders) + "\n")
    to.flush()


def _hear(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    heard = process.stdout.readline()
    if heard != f"{word}\n":
        raise RuntimeError(f"the vehicles of the bench ended with {process.wait()}; what they said is above")


def _clock(processes: Sequence[int]) -> Callable[[], float]:
    return lambda: sum(map(cpu_s, processes))
