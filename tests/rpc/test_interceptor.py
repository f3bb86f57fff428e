"""The one interceptor: less than TLS 1.3, too many calls, our errors and our defects, all with their details."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from outrider.v1 import vehicle_pb2
from prometheus_client import CollectorRegistry

from orchestrator.clock import FleetClock, MachineClock
from orchestrator.rpc.interceptor import FLEET_TIME_KEY, TELL_TIME, EdgeInterceptor
from orchestrator.rpc.overload import Turnstile
from orchestrator.service.errors import StateError
from orchestrator.store.base import StoreUnavailableError
from orchestrator.telemetry import Metrics
from tests.builders import NOW
from tests.rpc.contexts import AbortedError, AContext

METHOD = "/outrider.v1.VehicleService/CheckIn"


class Edge:
    """An interceptor with what it counts."""

    def __init__(self, *, calls_max: int = 8) -> None:
        machine = MachineClock(monotonic_ns=lambda: 0)
        self.metrics = Metrics(CollectorRegistry())
        self.interceptor = EdgeInterceptor(
            metrics=self.metrics,
            clock=FleetClock(origin=NOW, started_ms=NOW, scale=1.0, machine_ms=NOW, machine=machine),
            machine=machine,
            turnstile=Turnstile(calls_max, lambda: 0.5),
        )

    def wrapped(self, handler: grpc.RpcMethodHandler[Any, Any], name: str = "") -> grpc.RpcMethodHandler[Any, Any]:
        """A handler as the server would call it."""
        service, method = METHOD.lstrip("/").split("/")
        return self.interceptor.wrapped(service, name or method, handler)

    async def call(self, answer: Callable[[Any, Any], Awaitable[Any]], context: AContext) -> Any:
        """One unary call."""
        handler = self.wrapped(grpc.unary_unary_rpc_method_handler(answer))
        return await handler.unary_unary("request", context)

    def counted(self, code: str) -> float:
        """Calls that ended with a status."""
        labels = {"service": "outrider.v1.VehicleService", "method": "CheckIn", "code": code}
        return self.metrics.grpc_handled.labels(**labels)._value.get()

    def refused(self, reason: str) -> float:
        """Calls that were refused for a reason."""
        return self.metrics.refused_requests.labels(reason=reason)._value.get()


async def fine(_: Any, __: Any) -> str:
    return "reply"


def failing(error: Exception) -> Callable[[Any, Any], Awaitable[Any]]:
    async def answer(_: Any, __: Any) -> Any:
        raise error

    return answer


async def test_good_call_passes_and_tells_the_fleet_time() -> None:
    """Whoever signs needs the fleet's clock, and every answer carries it: beside it where it has no field for it."""
    edge, context = Edge(), AContext()
    assert await edge.call(fine, context) == "reply"
    assert context.trailing == {}
    assert edge.counted("OK") == 1
    other = edge.wrapped(grpc.unary_unary_rpc_method_handler(fine), "FetchMetadata")
    assert await other.unary_unary("request", context) == "reply"
    assert context.trailing == {FLEET_TIME_KEY: str(NOW)}


def test_methods_that_tell_the_time_themselves_have_a_field_for_it() -> None:
    """An answer without either would leave whoever signs without a clock."""
    found = set()
    for method in vehicle_pb2.DESCRIPTOR.services_by_name["VehicleService"].methods:
        if "fleet_time" in method.output_type.fields_by_name:
            found.add(f"/{method.containing_service.full_name}/{method.name}")
    assert found == TELL_TIME


@pytest.mark.parametrize("version", [b"TLSv1.2", b"TLSv1", b""])
async def test_less_than_tls_1_3_is_refused(version: bytes) -> None:
    """GRPC would take TLS 1.2; the edge does not, whatever the method."""
    edge, context = Edge(), AContext(tls_version=version)
    with pytest.raises(AbortedError):
        await edge.call(fine, context)
    assert context.code is grpc.StatusCode.PERMISSION_DENIED
    assert context.details()[0].reason == "TLS_TOO_OLD"
    assert edge.refused("tls_too_old") == 1


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (StateError("no", reason="NOT_NOW", remedy="wait"), grpc.StatusCode.FAILED_PRECONDITION, "NOT_NOW"),
        (StoreUnavailableError("gone"), grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"),
        (ZeroDivisionError("secret detail"), grpc.StatusCode.INTERNAL, "INTERNAL"),
    ],
)
async def test_every_failure_has_error_info_of_our_domain(error: Exception, code: grpc.StatusCode, reason: str) -> None:
    """Agents and tools decide by reason: there is none without, not even for our own defects."""
    edge, context = Edge(), AContext()
    with pytest.raises(AbortedError):
        await edge.call(failing(error), context)
    info, retry = context.details()
    assert (context.code, info.reason, info.domain) == (code, reason, "outrider")
    assert retry.HasField("retry_delay") == (code is grpc.StatusCode.UNAVAILABLE)
    assert edge.counted(code.name) == 1
    assert context.status is not None
    assert "secret" not in context.status.details


@pytest.mark.fault("F16")
async def test_too_many_calls_at_once_are_refused_early_with_a_delay() -> None:
    """An overloaded worker must spend its time on those that it let in."""
    edge, release = Edge(calls_max=2), asyncio.Event()

    async def slow(_: Any, __: Any) -> str:
        await release.wait()
        return "reply"

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(edge.call(slow, AContext())) for _ in range(2)]
        await asyncio.sleep(0)
        context = AContext()
        with pytest.raises(AbortedError):
            await edge.call(fine, context)
        info, retry = context.details()
        assert (context.code, info.reason, info.domain) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "OVERLOADED",
            "outrider",
        )
        assert 0.5 <= retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9 <= 1.5
        release.set()
    assert [task.result() for task in running] == ["reply", "reply"]
    assert edge.refused("overloaded") == 1
    assert await edge.call(fine, AContext()) == "reply", "their places are free again"


async def test_cancelled_call_is_counted_and_stays_cancelled() -> None:
    """A vehicle that drove into a tunnel is no fault of ours, and the cancellation must reach what waits for it."""
    edge = Edge()

    async def never(_: Any, __: Any) -> None:
        await asyncio.Event().wait()

    running = asyncio.ensure_future(edge.call(never, AContext()))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert edge.counted("CANCELLED") == 1
    assert edge.counted("INTERNAL") == 0


async def test_stream_is_checked_and_its_failure_told_like_any_other() -> None:
    """WatchRollout lives long: it too comes by TLS 1.3 and ends with a reason."""
    edge = Edge()

    async def watch(_: Any, __: Any) -> AsyncIterator[str]:
        yield "first"
        raise StateError("no more", reason="NOT_NOW")

    handler = edge.wrapped(grpc.unary_stream_rpc_method_handler(watch))
    context = AContext()
    replies = handler.unary_stream("request", context)
    assert await anext(replies) == "first"
    with pytest.raises(AbortedError):
        await anext(replies)
    assert context.details()[0].reason == "NOT_NOW"
    old = AContext(tls_version=b"TLSv1.2")
    with pytest.raises(AbortedError):
        await anext(handler.unary_stream("request", old))
    assert old.details()[0].reason == "TLS_TOO_OLD"
