"""A server as it is made: what is asked of its health, and how much one connection may ask at a time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from orchestrator.cli.local import certificate_time
from orchestrator.clock import FleetClock, MachineClock
from orchestrator.rpc.credentials import Tls
from orchestrator.rpc.interceptor import EdgeInterceptor
from orchestrator.rpc.overload import Turnstile
from orchestrator.rpc.servers import Binding, new_server
from orchestrator.telemetry import Metrics
from signing.pki import Authority
from tests.builders import NOW

DAY = timedelta(days=1)
TIMEOUT_S = 20


class Served:
    """A service `test` whose one method, `/test/Wait`, answers when it is told to."""

    def __init__(self) -> None:
        self.healthy = True
        self.release = asyncio.Event()
        self._inside = asyncio.Semaphore(0)

    async def wait(self, request: bytes, _: Any) -> bytes:
        self._inside.release()
        await self.release.wait()
        return request

    async def entered(self, calls: int, *, within_s: float) -> bool:
        """Whether so many more calls come."""
        try:
            async with asyncio.timeout(within_s):
                for _ in range(calls):
                    await self._inside.acquire()
        except TimeoutError:
            return False
        return True


@asynccontextmanager
async def a_channel_to(
    served: Served, *, calls_max: int = 8, described: bool = False
) -> AsyncIterator[grpc.aio.Channel]:
    """A real server, and a client without a certificate, as at the enrolment port."""
    authority = Authority.create("server", certificate_time(), DAY)
    chain, key = authority.issue_server(names=["127.0.0.1"], now=certificate_time(), life=DAY)
    machine = MachineClock()
    edge = EdgeInterceptor(
        metrics=Metrics(CollectorRegistry()),
        clock=FleetClock(origin=NOW, started_ms=NOW, scale=1.0, machine_ms=NOW, machine=machine),
        machine=machine,
        turnstile=Turnstile(512, lambda: 0.5),
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    binding = Binding(
        host="127.0.0.1",
        port=port,
        shared=False,
        message_bytes_max=65_536,
        probed=False,
        calls_max=calls_max,
        described=described,
        connection_age_ms=60_000,
    )
    bound = new_server(binding, Tls(key, chain, None), edge, ["test"], lambda: served.healthy)
    bound.registry.add_registered_method_handlers("test", {"Wait": grpc.unary_unary_rpc_method_handler(served.wait)})
    await bound.server.start()
    credentials = grpc.ssl_channel_credentials(authority.certificate_pem)
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
        yield channel
    await bound.server.stop(None)


async def test_health_is_told_as_it_is_and_of_own_services_alone() -> None:
    """Load balancers send calls where it serves, from one check to the next."""
    served = Served()
    async with a_channel_to(served) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)

        async def check(service: str) -> int:
            asked = health_pb2.HealthCheckRequest(service=service)
            answer = await stub.Check(asked, timeout=TIMEOUT_S)
            return int(answer.status)

        assert [await check(""), await check("test")] == [health_pb2.HealthCheckResponse.SERVING] * 2
        served.healthy = False
        assert [await check(""), await check("test")] == [health_pb2.HealthCheckResponse.NOT_SERVING] * 2
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await check("other")
        assert error.value.code() is grpc.StatusCode.NOT_FOUND


async def test_health_cannot_be_watched_so_nobody_can_hold_it() -> None:
    """A client that opens a stream and reads nothing would, with gRPC's own service, stop health from changing for all,
    at a port where everybody may call.
    """
    async with a_channel_to(Served()) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S).read()
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("described", [True, False])
async def test_only_a_port_that_shall_be_is_described(*, described: bool) -> None:
    """Reflection is a stream without the edge in front: not for those whom nobody knows."""
    async with a_channel_to(Served(), described=described) as channel:
        ask = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        call = ask(timeout=TIMEOUT_S)
        await call.done_writing()
        expected = grpc.StatusCode.OK if described else grpc.StatusCode.UNIMPLEMENTED
        assert await call.code() is expected


async def test_calls_beyond_the_limit_of_a_connection_wait_outside() -> None:
    """One connection must not take all places of a worker. Those that wait may be refused as the first ones end: gRPC
    counts an ended call for a moment longer than its client does.
    """
    served = Served()
    async with a_channel_to(served, calls_max=2) as channel:
        wait = channel.unary_unary("/test/Wait")
        calls = [asyncio.ensure_future(_outcome(wait(b"hello", timeout=TIMEOUT_S))) for _ in range(6)]
        assert await served.entered(2, within_s=TIMEOUT_S)
        assert not await served.entered(1, within_s=0.5)
        served.release.set()
        outcomes = await asyncio.gather(*calls)
    assert outcomes.count("OK") >= 2
    assert set(outcomes) <= {"OK", "UNAVAILABLE"}


async def _outcome(call: Any) -> str:
    code: grpc.StatusCode = await call.code()
    return str(code.name)
