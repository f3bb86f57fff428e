"""The one interceptor: checks TLS, times and counts every call, turns errors into status, and tells fleet time.

Servicers raise; nothing but this file aborts. Cancellation is never swallowed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, TypeAlias

import grpc
import structlog
from grpc_status import rpc_status

from orchestrator.clock import FleetClock, MachineClock
from orchestrator.rpc.errors import OverloadedError, internal, status_of
from orchestrator.service.errors import ForbiddenError
from orchestrator.telemetry import Metrics

log = structlog.get_logger()

TLS_1_3 = b"TLSv1.3"
FLEET_TIME_KEY = "outrider-fleet-time-ms"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"
NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


class EdgeInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler of one server: a flood at one port must not shed calls at another.

    Args:
        metrics: counted into.
        clock: told in trailing metadata.
        machine: times calls.
        calls_max: calls at once beyond which new ones are refused early and cheaply.
    """

    def __init__(self, *, metrics: Metrics, clock: FleetClock, machine: MachineClock, calls_max: int) -> None:
        self._metrics = metrics
        self._clock = clock
        self._machine = machine
        self._calls_max = calls_max
        self._calls = 0

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Handler | None:
        """Wrap the handler; unknown methods stay unknown."""
        handler = await continuation(details)
        if handler is None:
            return handler
        service, _, method = details.method.lstrip("/").partition("/")
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(
                self._unary(handler.unary_unary, service, method),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        if handler.unary_stream and not service.startswith("grpc."):
            return grpc.unary_stream_rpc_method_handler(
                self._stream(handler.unary_stream, service, method),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        return handler

    def _unary(self, call: Any, service: str, method: str) -> Any:
        async def answer(request: Any, context: Context) -> Any:
            began_ms = self._machine.monotonic_ms()
            self._calls += 1
            try:
                self._admit(context)
                context.set_trailing_metadata(((FLEET_TIME_KEY, str(self._clock.now())),))
                reply = await call(request, context)
            except asyncio.CancelledError:
                self._count(service, method, "CANCELLED", began_ms)
                raise
            except Exception as error:
                await self._fail(error, context, service, method, began_ms)
            finally:
                self._calls -= 1
            self._count(service, method, "OK", began_ms)
            return reply

        return answer

    def _stream(self, call: Any, service: str, method: str) -> Any:
        async def answer(request: Any, context: Context) -> AsyncIterator[Any]:
            began_ms = self._machine.monotonic_ms()
            self._calls += 1
            try:
                self._admit(context)
                async for reply in call(request, context):
                    yield reply
            except (asyncio.CancelledError, GeneratorExit):
                self._count(service, method, "CANCELLED", began_ms)
                raise
            except Exception as error:
                await self._fail(error, context, service, method, began_ms)
            finally:
                self._calls -= 1
            self._count(service, method, "OK", began_ms)

        return answer

    def _admit(self, context: Context) -> None:
        if self._calls > self._calls_max:
            raise OverloadedError
        if TLS_1_3 not in context.auth_context().get("ssl_tls_version", ()):
            raise ForbiddenError("less than TLS 1.3", reason="TLS_TOO_OLD", remedy="connect with TLS 1.3 or newer")

    async def _fail(self, error: Exception, context: Context, service: str, method: str, began_ms: int) -> NoReturn:
        status = status_of(error)
        if status is None:
            log.exception("call_failed", service=service, method=method)
            status = internal()
        reason = getattr(error, "reason", "")
        if reason:
            self._metrics.refused_requests.labels(reason=reason.lower()).inc()
        self._count(service, method, NAMES[status.code], began_ms)
        await context.abort_with_status(rpc_status.to_status(status))
        raise AssertionError("abort_with_status raises") from error

    def _count(self, service: str, method: str, code: str, began_ms: int) -> None:
        self._metrics.grpc_handled.labels(service=service, method=method, code=code).inc()
        elapsed_s = (self._machine.monotonic_ms() - began_ms) / 1000
        self._metrics.grpc_handling.labels(service=service, method=method).observe(elapsed_s)
