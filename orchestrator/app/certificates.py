"""Certificates of our servers: issued at the start, and anew while they serve.

Owns when: an authority was renewed or replaced, half of a certificate's life is over, or somebody asks. Leaves to
`rpc.credentials` and `web` how a server that runs takes them: handshakes after that see the new ones, and connections
that stand go on.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta

import structlog

from orchestrator.app.expiries import server_expiry
from orchestrator.app.installation import Installation
from orchestrator.clock import MachineClock
from orchestrator.rpc.credentials import Credentials, Tls
from orchestrator.settings import Settings
from orchestrator.telemetry import Metrics
from orchestrator.web import show_certificate
from signing.errors import SigningError
from signing.pki import Authority

log = structlog.get_logger()

LOOK_S = 2.0
CLIENTS = ("vehicle", "operator")
"""Authorities of clients."""


class ServerCertificates:
    """Issues what the servers of one process show.

    Args:
        installation: with the authorities.
        settings: names and lives.
        machine: dates.
        metrics: told when they end.
        name: of the process's certificate, for people and metrics.
    """

    def __init__(
        self, installation: Installation, settings: Settings, machine: MachineClock, metrics: Metrics, *, name: str
    ) -> None:
        self._authorities = installation.authorities
        self._settings = settings
        self._machine = machine
        self._metrics = metrics
        self._name = name
        self._seen: list[bytes] = []
        self._half_life_at = datetime.min.replace(tzinfo=UTC)
        self.asked = asyncio.Event()
        """Set by whoever wants them anew."""

    def issue(self) -> dict[str, Tls]:
        """What a server shows and whom it lets in, by the name of the clients' authority (empty: anybody).

        Raises:
            OSError: an authority cannot be read.
            SigningError: it is none.
        """
        seen, now = self._read(), self._now()
        life = timedelta(days=self._settings.certificate_server_days)
        chain, key = Authority.load(self._authorities, "server").issue_server(
            names=sorted({self._settings.host, "localhost", "127.0.0.1"}), now=now, life=life
        )
        clients = {name: (self._authorities / f"{name}.crt").read_bytes() for name in CLIENTS}
        self._metrics.certificate_expiry.labels(certificate=self._name).set(server_expiry(chain))
        self._seen, self._half_life_at = seen, now + life / 2
        return {"": Tls(key, chain, None)} | {name: Tls(key, chain, pem) for name, pem in clients.items()}

    async def renew(
        self,
        servers: Mapping[str, Credentials],
        sites: Iterable[tuple[ssl.SSLContext, str]],
        and_then: Callable[[], None] = lambda: None,
    ) -> None:
        """Issue anew whenever it is time, for ever; what cannot be read leaves what is shown.

        Args:
            servers: gRPC's, by the name of their clients' authority.
            sites: HTTPS's, likewise.
            and_then: what else has to know that an authority may be another one.
        """
        while True:
            await self._until_wanted()
            try:
                tls = await asyncio.to_thread(self.issue)
                and_then()
            except (OSError, SigningError) as error:
                log.warning("certificates_unreadable", certificate=self._name, error=str(error))
                await self._machine.sleep(LOOK_S)
                continue
            for name, credentials in servers.items():
                credentials.show(tls[name])
            for context, name in sites:
                show_certificate(context, tls[name].key_pem, tls[name].chain_pem, tls[name].client_ca_pem)
            log.info("certificates_renewed", certificate=self._name)

    async def _until_wanted(self) -> None:
        while not self.asked.is_set() and self._now() < self._half_life_at:
            try:
                if await asyncio.to_thread(self._read) != self._seen:
                    break
            except OSError as error:
                log.warning("certificates_unreadable", certificate=self._name, error=str(error))
            try:
                async with asyncio.timeout(LOOK_S):
                    await self.asked.wait()
            except TimeoutError:
                continue
        self.asked.clear()

    def _read(self) -> list[bytes]:
        files = ("server.crt", "server.key", *(f"{name}.crt" for name in CLIENTS))
        return [(self._authorities / file).read_bytes() for file in files]

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._machine.wall_ms() // 1000, tz=UTC)
