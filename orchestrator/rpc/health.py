"""gRPC's health service, as load balancers ask it: one question, one answer.

`Watch` is not offered, and clients that would watch take UNIMPLEMENTED for healthy: a stream that its client does not
read would be held for as long as it likes, on a port that needs no certificate. Nor is `List`: it is not asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import grpc
from grpc_health.v1 import health, health_pb2

from orchestrator.rpc.interceptor import Caller, Registry
from orchestrator.service.errors import NotFoundError

SERVICE = health.SERVICE_NAME


class Health:
    """Of one server.

    Args:
        services: that may be asked for, besides the empty name, which is all of them.
        serving: asked at each check.
    """

    def __init__(self, services: Sequence[str], serving: Callable[[], bool]) -> None:
        self._services = frozenset(("", *services))
        self._serving = serving

    def add_to(self, registry: Registry) -> None:
        """Put it on its server."""
        check = grpc.unary_unary_rpc_method_handler(
            self._check,
            request_deserializer=health_pb2.HealthCheckRequest.FromString,
            response_serializer=health_pb2.HealthCheckResponse.SerializeToString,
        )
        registry.add_registered_method_handlers(SERVICE, {"Check": check})

    async def _check(self, request: health_pb2.HealthCheckRequest, _: Caller) -> health_pb2.HealthCheckResponse:
        if request.service not in self._services:
            raise NotFoundError("no such service on this port", reason="SERVICE_UNKNOWN")
        answer = health_pb2.HealthCheckResponse
        return answer(status=answer.SERVING if self._serving() else answer.NOT_SERVING)
