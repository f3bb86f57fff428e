"""The monitoring port: what is alive, what is ready, and the metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from orchestrator.telemetry import Exposition, Metrics
from orchestrator.web import WebError, build_app, start


async def fine() -> None:
    """A part that is ready."""


async def broken() -> None:
    raise ConnectionError("store does not answer on its socket")


async def mute() -> None:
    raise ConnectionError


async def stuck() -> None:
    await asyncio.Event().wait()


@pytest.fixture
async def serving() -> AsyncIterator[Callable[..., object]]:
    """Starts an app on a free port; gives its address."""
    runners = []

    async def serve(**arguments: object) -> str:
        arguments = {"metrics": lambda: b"", "checks": {}, **arguments}
        runner, port = await start(build_app(**arguments), "127.0.0.1", 0)
        runners.append(runner)
        return f"http://127.0.0.1:{port}"

    yield serve
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_metrics_are_what_prometheus_reads(serving, client: aiohttp.ClientSession):
    """The content type decides how Prometheus parses; the text is the registry's."""
    metrics = Metrics(CollectorRegistry())
    metrics.vehicles_registered.set(200)
    address = await serving(metrics=Exposition(metrics.registry, None))
    async with client.get(f"{address}/metrics") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "outrider_vehicles_registered 200.0" in (await response.text()).splitlines()


async def test_alive_does_not_mean_ready(serving, client: aiohttp.ClientSession):
    """A restart does not help when the store is away: only readiness may fail then."""
    address = await serving(checks={"store": broken, "signer": fine, "evaluator": mute})
    async with client.get(f"{address}/healthz") as response:
        assert (response.status, await response.json()) == (200, {"status": "alive"})
    async with client.get(f"{address}/readyz") as response:
        assert response.status == 503
        assert await response.json() == {
            "status": "not ready",
            "not_ready": {"store": "store does not answer on its socket", "evaluator": "ConnectionError"},
        }


async def test_ready_when_every_check_passes(serving, client: aiohttp.ClientSession):
    """A load balancer sends vehicles here from now on."""
    address = await serving(checks={"store": fine, "signer": fine})
    async with client.get(f"{address}/readyz") as response:
        assert (response.status, await response.json()) == (200, {"status": "ready", "checks": ["signer", "store"]})


async def test_a_check_that_hangs_is_not_ready(serving, client: aiohttp.ClientSession):
    """The answer must come within the prober's patience, also when the store accepts and never answers."""
    address = await serving(checks={"store": stuck, "other": stuck, "signer": fine}, check_timeout_s=0.05)
    async with client.get(f"{address}/readyz", timeout=aiohttp.ClientTimeout(5)) as response:
        assert response.status == 503
        assert (await response.json())["not_ready"] == dict.fromkeys(("store", "other"), "no answer within 0.05 s")


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/", 404), ("POST", "/metrics", 405)])
async def test_nothing_else_is_offered(serving, client: aiohttp.ClientSession, method: str, path: str, status: int):
    """The port is open to monitoring: it reads, and no more."""
    async with client.request(method, await serving() + path) as response:
        assert response.status == status


async def test_a_taken_port_is_refused_with_the_remedy(serving):
    """Two services on one port would answer in turns."""
    port = int((await serving()).rpartition(":")[2])
    with pytest.raises(WebError, match=f"127.0.0.1:{port} cannot be opened: .*free it or set another port"):
        await start(build_app(metrics=lambda: b"", checks={}), "127.0.0.1", port)
