"""Servers' certificates are issued anew when an authority changed, half a life is over, or somebody asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from orchestrator.app import certificates
from orchestrator.app.certificates import ServerCertificates
from orchestrator.app.installation import Installation
from orchestrator.app.reloading import reloaded
from orchestrator.cli.local import certificate_time
from orchestrator.clock import MachineClock
from orchestrator.rpc.credentials import Credentials, Tls
from orchestrator.settings import Settings
from orchestrator.telemetry import Metrics
from signing.ceremony import DataFolder, initialise, renew_authority

DAY_NS = 24 * 3600 * 10**9


class Shown(Credentials):
    """Keeps what it was told to show."""

    def __init__(self, tls: Tls) -> None:
        super().__init__(tls)
        self.shown: list[Tls] = []

    def show(self, tls: Tls) -> None:
        self.shown.append(tls)


class House:
    """A data folder, a date that can be moved, and a server."""

    def __init__(self, folder: Path) -> None:
        self.data = initialise(folder / "data", trust_domain="test.outrider.invalid", now=certificate_time())
        self.wall_ns = round(certificate_time().timestamp()) * 10**9
        machine = MachineClock(wall_ns=lambda: self.wall_ns)
        self.metrics = Metrics(CollectorRegistry())
        self.certificates = ServerCertificates(
            Installation(self.data.path), Settings(), machine, self.metrics, name="server"
        )
        self.server = Shown(self.certificates.issue()["vehicle"])

    @asynccontextmanager
    async def renewing(self) -> AsyncIterator[None]:
        task = asyncio.ensure_future(self.certificates.renew({"vehicle": self.server}, []))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - files set no event
                await asyncio.sleep(0.01)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setattr(certificates, "LOOK_S", 0.02)
    return House(tmp_path)


async def test_renewed_authority_is_let_in_without_a_restart(house: House) -> None:
    """`outrider ca renew vehicle` is typed on a running installation."""
    async with house.renewing():
        renew_authority(DataFolder(house.data.path), "vehicle", now=certificate_time(), life=timedelta(days=5000))
        await house.until(lambda: bool(house.server.shown))
    assert house.server.shown[0].client_ca_pem == (house.data.authorities / "vehicle.crt").read_bytes()


async def test_certificate_is_issued_anew_when_half_its_life_is_over(house: House) -> None:
    """A worker runs for longer than its certificate."""
    async with house.renewing():
        house.wall_ns += 46 * DAY_NS
        await house.until(lambda: bool(house.server.shown))
        await asyncio.sleep(0.2)
    assert len(house.server.shown) == 1
    expiry = house.metrics.certificate_expiry.labels(certificate="server")._value.get()
    assert expiry == pytest.approx(house.wall_ns / 1e9 + 90 * 24 * 3600, abs=3600)


async def test_authority_that_cannot_be_read_leaves_what_is_shown(house: House) -> None:
    """Half a file, while somebody copies it, must not take the ports down."""
    path = house.data.authorities / "server.crt"
    whole = path.read_bytes()
    async with house.renewing():
        path.write_bytes(whole[: len(whole) // 2])
        await asyncio.sleep(0.3)
        assert house.server.shown == []
        path.write_bytes(whole)
        house.certificates.asked.set()
        await house.until(lambda: bool(house.server.shown))


async def test_asked_for_they_come_at_once(house: House) -> None:
    """SIGHUP after whatever a person changed."""
    async with house.renewing():
        house.certificates.asked.set()
        await house.until(lambda: bool(house.server.shown))


def test_settings_that_shape_the_next_calls_count_at_once_and_others_are_named() -> None:
    """Who changed a port and sent SIGHUP must hear that it waits for a restart."""
    current = Settings()
    found = reloaded(current, Settings(poll_s=7200, workers=4, log_level="debug"))
    assert (found.applied, found.waiting) == (["log_level", "poll_s"], ["workers"])
    assert (found.settings.poll_s, found.settings.workers) == (7200, 1)
    assert reloaded(current, Settings()).applied == []
