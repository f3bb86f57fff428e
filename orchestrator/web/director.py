"""A vehicle's Director files over HTTPS with mutual TLS, so that tools of others can be pointed at them.

Owns names, caching and how refusals look. Who calls is who the certificate names, as on the vehicle port: each vehicle
sees its own files and nobody else's, whatever the URL says. The bytes are those of `FetchMetadata`.
Source: Uptane Deployment, Director repository; RFC 9110, Conditional Requests.
"""

from __future__ import annotations

import hashlib
import math
import ssl
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler

from orchestrator.model.ids import VehicleId
from orchestrator.service.errors import ForbiddenError, NotFoundError, ServiceError, TryLaterError
from orchestrator.service.vehicles import VehicleDesk
from orchestrator.store.base import StoreError
from orchestrator.web.images import matches
from signing.errors import SignerUnavailableError
from signing.names import METADATA_NAME_PATTERN

RETRY_AFTER_S = 5
_STATUS: tuple[tuple[type[ServiceError], type[web.HTTPException]], ...] = (
    (ForbiddenError, web.HTTPForbidden),
    (NotFoundError, web.HTTPNotFound),
    (TryLaterError, web.HTTPServiceUnavailable),
)


def build_director_app(desk: VehicleDesk, identify: Callable[[bytes], VehicleId]) -> web.Application:
    """The application for the Director port.

    Args:
        desk: Makes the files.
        identify: The vehicle that a client certificate (PEM) names, once it may call; raises `ServiceError`.
    """
    app = web.Application(client_max_size=1024, middlewares=[_refusals])
    app.add_routes([web.get("/metadata/{name}", _Director(desk, identify).metadata)])
    return app


class _Director:
    """Handlers of the Director port."""

    def __init__(self, desk: VehicleDesk, identify: Callable[[bytes], VehicleId]) -> None:
        self._desk = desk
        self._identify = identify

    async def metadata(self, request: web.Request) -> web.StreamResponse:
        """One of the caller's files as it is now: a cache has to ask again each time, and keeps it for nobody else."""
        vehicle_id = self._identify(_certificate(request))
        name = request.match_info["name"]
        if METADATA_NAME_PATTERN.fullmatch(name) is None:
            raise web.HTTPNotFound
        content = (await self._desk.director_metadata(vehicle_id, [name])).get(name)
        if content is None:
            raise web.HTTPNotFound
        tag = f'"{hashlib.sha256(content).hexdigest()}"'
        headers = {"Cache-Control": "private, no-cache", "ETag": tag}
        if matches(request, tag):
            return web.Response(status=304, headers=headers)
        return web.Response(body=content, content_type="application/json", headers=headers)


def _certificate(request: web.Request) -> bytes:
    """The client certificate that TLS has verified, as PEM; empty where there is none."""
    session = request.transport.get_extra_info("ssl_object") if request.transport else None
    der = session.getpeercert(binary_form=True) if session else None
    return ssl.DER_cert_to_PEM_cert(der).encode() if der else b""


@web.middleware
async def _refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refusals of a use case as HTTP has them, with the remedy in the body."""
    try:
        return await handler(request)
    except ServiceError as error:
        status = next((status for kind, status in _STATUS if isinstance(error, kind)), web.HTTPConflict)
        wait_s = math.ceil(error.retry_after_s) if isinstance(error, TryLaterError) else 0
        headers = {"Retry-After": str(wait_s)} if wait_s else None
        raise status(text=f"{error}\n{error.remedy}\n".rstrip() + "\n", headers=headers) from error
    except (StoreError, SignerUnavailableError) as error:
        raise web.HTTPServiceUnavailable(headers={"Retry-After": str(RETRY_AFTER_S)}) from error
