"""What monitoring asks over HTTP: /metrics, /healthz and /readyz.

Owns paths, status codes and the time a check may take. Leaves to `app` which checks there are and what the metrics
are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog
from aiohttp import web

Check = Callable[[], Awaitable[None]]
"""Returns when its part is ready; raises, with a reason for people, when it is not."""

CHECK_TIMEOUT_S = 2.0
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

log = structlog.get_logger(__name__)


def build_app(
    *, metrics: Callable[[], bytes], checks: Mapping[str, Check], check_timeout_s: float = CHECK_TIMEOUT_S
) -> web.Application:
    """The application for the monitoring port.

    Args:
        metrics: Makes the text of /metrics; called on a thread, since it may read files.
        checks: What has to be ready before this service takes work, by name.
        check_timeout_s: Machine time after which a check counts as failed.
    """
    monitoring = _Monitoring(metrics, checks, check_timeout_s)
    app = web.Application(client_max_size=1024)
    app.add_routes(
        [
            web.get("/metrics", monitoring.metrics),
            web.get("/healthz", monitoring.healthz),
            web.get("/readyz", monitoring.readyz),
        ]
    )
    return app


class _Monitoring:
    """Handlers of the monitoring port."""

    def __init__(self, metrics: Callable[[], bytes], checks: Mapping[str, Check], check_timeout_s: float) -> None:
        self._metrics = metrics
        self._checks = dict(checks)
        self._check_timeout_s = check_timeout_s

    async def metrics(self, request: web.Request) -> web.Response:
        """Everything Prometheus scrapes."""
        text = await asyncio.to_thread(self._metrics)
        return web.Response(body=text, headers={"Content-Type": METRICS_TYPE})

    async def healthz(self, request: web.Request) -> web.Response:
        """This process turns its loop; whether it can do its work is asked of /readyz."""
        return web.json_response({"status": "alive"})

    async def readyz(self, request: web.Request) -> web.Response:
        """200 when every check passes, otherwise 503 with what is not ready and why."""
        faults = await asyncio.gather(*(self._fault(name, check) for name, check in self._checks.items()))
        not_ready = {name: fault for name, fault in zip(self._checks, faults, strict=True) if fault}
        if not_ready:
            return web.json_response({"status": "not ready", "not_ready": not_ready}, status=503)
        return web.json_response({"status": "ready", "checks": sorted(self._checks)})

    async def _fault(self, name: str, check: Check) -> str:
        try:
            async with asyncio.timeout(self._check_timeout_s):
                await check()
        except TimeoutError:
            return f"no answer within {self._check_timeout_s:g} s"
        except Exception as exc:
            # Whatever keeps a part from being ready is the answer here, not a fault of this handler.
            log.warning("not_ready", check=name, error=str(exc))
            return str(exc) or type(exc).__name__
        return ""
