"""The Director port: each vehicle's own files, and nothing to anybody else."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from orchestrator.model.ids import VehicleId
from orchestrator.service.errors import ForbiddenError, TooManyCallsError
from orchestrator.store.base import StoreUnavailableError
from orchestrator.web import build_director_app, start
from tests.service.conftest import template, world  # noqa: F401 - fixtures
from tests.service.world import Car, World


class Callers:
    """Says who calls, as a test wants it; TLS itself is met by tests/e2e."""

    def __init__(self) -> None:
        self.answer: VehicleId | Exception = VehicleId("v-1")

    def __call__(self, certificate_pem: bytes) -> VehicleId:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def callers() -> Callers:
    return Callers()


@pytest.fixture
async def port(world: World, callers: Callers) -> AsyncIterator[str]:  # noqa: F811
    """The port, with a vehicle `v-1` in the fleet."""
    await world.add(Car("v-1"))
    runner, number = await start(build_director_app(world.desk, callers), "127.0.0.1", 0)
    yield f"http://127.0.0.1:{number}"
    await runner.cleanup()


async def status(url: str, **headers: str) -> int:
    async with aiohttp.ClientSession() as client, client.get(url, headers=headers) as response:
        return response.status


@pytest.mark.parametrize("name", ["timestamp.json", "1.root.json"])
async def test_the_bytes_are_those_of_the_vehicle_port(world: World, port: str, name: str) -> None:  # noqa: F811
    """Two ways to the same file must never differ in a byte: signatures would fail on one of them."""
    async with aiohttp.ClientSession() as client, client.get(f"{port}/metadata/{name}") as response:
        content, tag = await response.read(), response.headers["ETag"]
        assert response.headers["Cache-Control"] == "private, no-cache"
    assert content == (await world.desk.director_metadata(VehicleId("v-1"), [name]))[name]
    assert await status(f"{port}/metadata/{name}", **{"If-None-Match": tag}) == 304


@pytest.mark.parametrize(
    "path", ["/", "/metadata/", "/metadata/99.root.json", "/metadata/nothing.json", "/metadata/..%2fkeys", "/v-2"]
)
async def test_nothing_else_is_served(port: str, path: str) -> None:
    """The port knows the names of metadata, and no folder."""
    assert await status(port + path) == 404


async def test_who_may_not_call_learns_why(port: str, callers: Callers) -> None:
    """At a bench somebody has the wrong certificate; the answer has to say so."""
    callers.answer = ForbiddenError("revoked", reason="VEHICLE_REVOKED", remedy="ask the operator")
    async with aiohttp.ClientSession() as client, client.get(f"{port}/metadata/timestamp.json") as response:
        assert (response.status, await response.text()) == (403, "revoked\nask the operator\n")


async def test_who_is_not_in_the_fleet_has_no_files(port: str, callers: Callers) -> None:
    """A certificate alone opens nothing."""
    callers.answer = VehicleId("v-2")
    assert await status(f"{port}/metadata/timestamp.json") == 404


async def test_who_calls_too_often_is_told_when_to_come_back(port: str, callers: Callers) -> None:
    """Each answer may cost a signature: a tool in a loop must not have them all."""
    callers.answer = TooManyCallsError("too many", reason="TOO_MANY_CALLS", retry_after_s=7.2)
    async with aiohttp.ClientSession() as client, client.get(f"{port}/metadata/timestamp.json") as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "8")


async def test_a_store_out_of_reach_is_no_fault_of_the_caller(
    world: World,  # noqa: F811
    port: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A tool repeats on 503, and gives up on 500."""

    async def unreachable(*_: object) -> None:
        raise StoreUnavailableError("no answer")

    monkeypatch.setattr(world.desk, "director_metadata", unreachable)
    assert await status(f"{port}/metadata/timestamp.json") == 503
