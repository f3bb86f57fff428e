"""Says in metrics when certificates and metadata end, long before they do, and which ceremonies wait for whom.

Owns what lies in the data folder. A server certificate is made by the process that shows it, which tells its end by
`server_expiry`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog
from cryptography import x509

from orchestrator.app.installation import Installation
from orchestrator.clock import MachineClock
from orchestrator.telemetry import Metrics
from signing.change import load_change
from signing.errors import SigningError
from signing.image_repo import ImageRepository
from signing.pki import Authority
from signing.roots import newest_root

log = structlog.get_logger()

LOOK_S = 60.0
AUTHORITIES = ("server", "vehicle", "operator")


async def show_expiries(installation: Installation, metrics: Metrics, machine: MachineClock) -> None:
    """Look for ever."""
    while True:
        try:
            await asyncio.to_thread(show_once, installation, metrics)
            await asyncio.to_thread(show_pending, installation, metrics)
        except (SigningError, OSError) as error:
            log.warning("expiries_unknown", error=str(error))
        await machine.sleep(LOOK_S)


def show_once(installation: Installation, metrics: Metrics) -> None:
    """Set the gauges from what lies in the data folder.

    Raises:
        SigningError: a certificate or the Image repository cannot be read.
    """
    for name in AUTHORITIES:
        authority = Authority.load(installation.authorities, name)
        metrics.certificate_expiry.labels(certificate=f"{name}-authority").set(authority.expires.timestamp())
    metrics.metadata_expiry.labels(repository="director", role="root").set(
        newest_root(installation.director_metadata).signed.expires.timestamp()
    )
    expiries = ImageRepository(installation.image_repository).expiries()
    for role, expires in expiries.items():
        metrics.metadata_expiry.labels(repository="image", role=role).set(expires.timestamp())
    # A supplier that is trusted no more would page somebody for nothing.
    metrics.metadata_expiry.keep([("director", "root"), *(("image", role) for role in expiries)])


def show_pending(installation: Installation, metrics: Metrics) -> None:
    """Say how many signatures each pending change waits for; a file that is none is left out, `keys status` tells."""
    lacking = {}
    for path in installation.pending.glob("*.json"):
        with suppress(SigningError):
            lacking[path.stem] = sum(demand.lacking for demand in load_change(path).demands())
    metrics.signatures_lacking.keep([(name,) for name in lacking])
    for name, number in lacking.items():
        metrics.signatures_lacking.labels(change=name).set(number)


def server_expiry(chain_pem: bytes) -> float:
    """When a server certificate ends, machine time in seconds since the epoch; its chain starts with it."""
    return x509.load_pem_x509_certificate(chain_pem).not_valid_after_utc.timestamp()
