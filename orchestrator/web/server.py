"""How an HTTP application is put on a port."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path

from aiohttp import web

KEEPALIVE_S = 30.0
"""How long an idle connection is kept; a vehicle's next request comes within that or much later."""
HEADER_BYTES_MAX = 8_190


class WebError(Exception):
    """An HTTP port that cannot be opened; the message has the remedy."""


async def start(
    app: web.Application, host: str, port: int, ssl_context: ssl.SSLContext | None = None, *, shared: bool = False
) -> tuple[web.AppRunner, int]:
    """Serve an application until the runner is cleaned up.

    Args:
        app: What to serve.
        host: Address to listen on.
        port: 0 takes a free one.
        ssl_context: For HTTPS; None means HTTP.
        shared: Whether other processes of ours listen on the same port; else a second server there fails loudly.

    Returns:
        The runner, whose `cleanup` ends it, and the real port.

    Raises:
        WebError: the port cannot be opened.
    """
    runner = web.AppRunner(
        app,
        access_log=None,  # metrics count requests; a line for each scrape and range would bury the log
        keepalive_timeout=KEEPALIVE_S,
        max_line_size=HEADER_BYTES_MAX,
        max_field_size=HEADER_BYTES_MAX,
        shutdown_timeout=2.0,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, ssl_context=ssl_context, reuse_port=shared or None).start()
    except OSError as exc:
        await runner.cleanup()
        raise WebError(f"{host}:{port} cannot be opened: {exc.strerror or exc}; free it or set another port") from exc
    return runner, int(runner.addresses[0][1])


def tls_context(key_pem: bytes, chain_pem: bytes, client_ca_pem: bytes | None = None) -> ssl.SSLContext:
    """What an HTTPS port shows, and whom it lets in.

    Args:
        key_pem: Of the server.
        chain_pem: Its certificate, and those in between.
        client_ca_pem: Who signs the clients' certificates; None: clients need none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    show_certificate(context, key_pem, chain_pem, client_ca_pem)
    return context


def show_certificate(
    context: ssl.SSLContext, key_pem: bytes, chain_pem: bytes, client_ca_pem: bytes | None = None
) -> None:
    """Let a context show this from the next handshake on, as `tls_context` takes it.

    Authorities of clients are added to those from before, which OpenSSL does not forget until the next start.
    """
    # OpenSSL reads certificates from files only; this one is gone again before the server answers.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "server.pem"
        path.touch(mode=0o600)
        path.write_bytes(key_pem + chain_pem)
        context.load_cert_chain(path)
    if client_ca_pem is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=client_ca_pem.decode())
