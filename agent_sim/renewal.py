"""Renewal of vehicles' certificates, by machine time: for a new key, when two thirds of a certificate's life are over.

Owns which certificate a vehicle shows. A new one is written beside the old one, tried, and takes its place only once a
call with it was answered; whoever is killed in between finds both. Leaves files to `vehicle_folder`, the call to
`calls`, and when vehicles call to their agents: a certificate is looked at when a call needs it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509

from agent_sim.actions import CallFailed, Input
from agent_sim.channels import TlsFiles
from agent_sim.faults import draw
from agent_sim.vehicle_folder import VehicleFolder
from signing.pki import certificate_request

_DUE_SHARE = 2 / 3
_SPREAD_SHARE = 1 / 20
"""Vehicles that enrolled together do not renew together."""
_RETRY_SHARE = 1 / 100
"""After a refused or lost renewal the next try waits this share of the certificate's life."""
_TRIES = 3
"""So often in a row the new certificate failed and the old one was answered next: then the new one is given up. An
outage fails both, and proves nothing against either.
"""

Renew = Callable[[str, TlsFiles, bytes], Awaitable["Renewed | None"]]
"""(vehicle id, what it shows, request in DER) -> what it got; None: nothing, for whatever reason."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """A new certificate."""

    chain: bytes
    """PEM, leaf first."""
    server_ca: bytes
    """Authorities for the vehicle port, PEM."""


@dataclass(slots=True)
class _Standing:
    """What is known of one vehicle's certificates."""

    due_at: datetime
    life: timedelta
    candidate: bool
    """Whether a new one lies beside the old one and was not proven yet."""
    failures: int = 0
    """Of calls with the new one, in a row, each followed by an answer to the old one."""
    old_next: bool = False
    """Whether the next call tries the old one, because the last with the new one had no answer."""
    renewing: bool = False


class Renewals:
    """Certificates of a fleet.

    Args:
        home: a vehicle's folder.
        renew: makes the call.
        wall: the machine's date, UTC.
    """

    def __init__(self, home: Callable[[str], VehicleFolder], renew: Renew, wall: Callable[[], datetime]) -> None:
        self._home = home
        self._renew = renew
        self._wall = wall
        self._standings: dict[str, _Standing] = {}

    async def identity(self, vehicle_id: str) -> TlsFiles:
        """What the vehicle shows in its next call; renewed first when that is due.

        Raises:
            OSError: this machine's disk failed.
        """
        home = self._home(vehicle_id)
        standing = self._standings.get(vehicle_id) or self._read(vehicle_id, home)
        if not standing.candidate and not standing.renewing and self._wall() >= standing.due_at:
            standing.renewing = True
            try:
                await self._try(vehicle_id, home, standing)
            finally:
                standing.renewing = False
        return home.next_tls if standing.candidate and not standing.old_next else home.tls

    def learn(self, vehicle_id: str, shown: TlsFiles, answer: Input) -> None:
        """Take in what a call with `shown` led to.

        Raises:
            OSError: this machine's disk failed.
        """
        home, standing = self._home(vehicle_id), self._standings[vehicle_id]
        if not standing.candidate:
            return
        answered = not isinstance(answer, CallFailed)
        if shown == home.next_tls and answered:
            home.take_renewal()
            self._read(vehicle_id, home)
        elif shown == home.next_tls:
            standing.old_next = True
        else:
            standing.old_next = False
            standing.failures = standing.failures + 1 if answered else 0
            if standing.failures >= _TRIES:
                home.drop_renewal()
                standing.candidate = False
                standing.due_at = self._wall() + standing.life * _RETRY_SHARE

    def _read(self, vehicle_id: str, home: VehicleFolder) -> _Standing:
        certificate = x509.load_pem_x509_certificate(home.tls.chain.read_bytes())
        life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        share = _DUE_SHARE + _SPREAD_SHARE * draw("renewal", vehicle_id)
        due_at = certificate.not_valid_before_utc + life * share
        standing = _Standing(due_at, life, candidate=home.next_tls.chain.exists())
        self._standings[vehicle_id] = standing
        return standing

    async def _try(self, vehicle_id: str, home: VehicleFolder, standing: _Standing) -> None:
        request = certificate_request(home.renewal_key())
        renewed = await self._renew(vehicle_id, home.tls, request)
        if renewed is None:
            standing.due_at = self._wall() + standing.life * _RETRY_SHARE
            return
        home.save_renewal(renewed.chain, renewed.server_ca)
        standing.candidate, standing.old_next, standing.failures = True, False, 0
