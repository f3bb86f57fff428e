"""The edge of every server: checks TLS, times and counts every call, turns errors into status, and tells fleet time
where the answer does not.

Handlers are wrapped as they are registered, once: gRPC's own interceptors would be asked anew at each call. Servicers
raise; nothing but this file aborts. Cancellation is never swallowed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias

import grpc
import structlog
from grpc_status import rpc_status

from orchestrator.clock import FleetClock, MachineClock
from orchestrator.model.value import value
from orchestrator.rpc.errors import OverloadedError, internal, status_of
from orchestrator.rpc.overload import Turnstile
from orchestrator.service.errors import ForbiddenError
from orchestrator.telemetry import Metrics

log = structlog.get_logger()

TLS_1_3 = b"TLSv1.3"
FLEET_TIME_KEY = "outrider-fleet-time-ms"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
TELL_TIME = frozenset({"/outrider.v1.VehicleService/CheckIn", "/outrider.v1.VehicleService/AuthorizeInstall"})
"""Methods whose answers have a field for it: saying it twice costs a twentieth of a poll."""
NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


@value(frozen=True, slots=True)
class Caller:
    """All that our servicers see of a call's context: whoever calls, read once a call."""

    facts: Mapping[str, Iterable[bytes]]

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """As gRPC names it."""
        return self.facts


class EdgeInterceptor:
    """Wraps every handler of one server: a flood at one port must not shed calls at another.

    Args:
        metrics: counted into.
        clock: told in trailing metadata.
        machine: times calls.
        turnstile: says which calls are one too many; those are refused before anything is done for them.
    """

    def __init__(self, *, metrics: Metrics, clock: FleetClock, machine: MachineClock, turnstile: Turnstile) -> None:
        self._metrics = metrics
        self._clock = clock
        self._machine = machine
        self._turnstile = turnstile

    def wrapped(self, service: str, method: str, handler: Handler) -> Handler:
        """A handler as the server shall call it."""
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(
                self._unary(handler.unary_unary, service, method),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(
                self._stream(handler.unary_stream, service, method),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        return handler

    def _unary(self, call: Any, service: str, method: str) -> Any:
        tells_time = f"/{service}/{method}" in TELL_TIME

        async def answer(request: Any, context: Context) -> Any:
            began_s = self._machine.monotonic_s()
            entered = False
            try:
                self._admit(began_s)
                entered = True
                caller = self._known(context)
                if not tells_time:
                    context.set_trailing_metadata(((FLEET_TIME_KEY, str(self._clock.now())),))
                reply = await call(request, caller)
            except asyncio.CancelledError:
                self._count(service, method, "CANCELLED", began_s)
                raise
            except Exception as error:
                await self._fail(error, context, service, method, began_s)
            finally:
                if entered:
                    self._turnstile.leave(self._machine.monotonic_s())
            self._count(service, method, "OK", began_s)
            return reply

        return answer

    def _stream(self, call: Any, service: str, method: str) -> Any:
        async def answer(request: Any, context: Context) -> AsyncIterator[Any]:
            began_s = self._machine.monotonic_s()
            entered = False
            try:
                self._admit(began_s)
                entered = True
                async for reply in call(request, self._known(context)):
                    yield reply
            except (asyncio.CancelledError, GeneratorExit):
                self._count(service, method, "CANCELLED", began_s)
                raise
            except Exception as error:
                await self._fail(error, context, service, method, began_s)
            finally:
                if entered:
                    self._turnstile.leave(self._machine.monotonic_s())
            self._count(service, method, "OK", began_s)

        return answer

    def _admit(self, now_s: float) -> None:
        wait_s = self._turnstile.enter(now_s)
        if wait_s is not None:
            raise OverloadedError(wait_s)

    def _known(self, context: Context) -> Caller:
        facts = context.auth_context()
        if TLS_1_3 not in facts.get("ssl_tls_version", ()):
            raise ForbiddenError("less than TLS 1.3", reason="TLS_TOO_OLD", remedy="connect with TLS 1.3 or newer")
        return Caller(facts)

    async def _fail(self, error: Exception, context: Context, service: str, method: str, began_s: float) -> NoReturn:
        status = status_of(error)
        if status is None:
            log.exception("call_failed", service=service, method=method)
            status = internal()
        reason = getattr(error, "reason", "")
        if reason:
            self._metrics.refused_requests.labels(reason=reason.lower()).inc()
        self._count(service, method, NAMES[status.code], began_s)
        await context.abort_with_status(rpc_status.to_status(status))
        raise AssertionError("abort_with_status raises") from error

    def _count(self, service: str, method: str, code: str, began_s: float) -> None:
        self._metrics.grpc_handled.labels(service=service, method=method, code=code).inc()
        elapsed_s = self._machine.monotonic_s() - began_s
        self._metrics.grpc_handling.labels(service=service, method=method).observe(elapsed_s)


class Registry:
    """Stands for a server where generated code registers a servicer: what is registered goes through the edge.

    Args:
        server: that it stands for.
        edge: in front of it.
    """

    def __init__(self, server: grpc.aio.Server, edge: EdgeInterceptor) -> None:
        self._server = server
        self._edge = edge

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Nothing: the same methods come registered by name, which is what gRPC looks at first."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """Register methods by name, each behind the edge."""
        wrapped = {name: self._edge.wrapped(service, name, handler) for name, handler in handlers.items()}
        self._server.add_registered_method_handlers(service, wrapped)
