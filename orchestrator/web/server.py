"""How an HTTP application is put on a port."""

from __future__ import annotations

import ssl

from aiohttp import web

KEEPALIVE_S = 30.0
"""How long an idle connection is kept; a vehicle's next request comes within that or much later."""
HEADER_BYTES_MAX = 8_190


class WebError(Exception):
    """An HTTP port that cannot be opened; the message has the remedy."""


async def start(
    app: web.Application, host: str, port: int, ssl_context: ssl.SSLContext | None = None
) -> tuple[web.AppRunner, int]:
    """Serve an application until the runner is cleaned up.

    Args:
        app: What to serve.
        host: Address to listen on.
        port: 0 takes a free one.
        ssl_context: For HTTPS; None means HTTP.

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
        await web.TCPSite(runner, host, port, ssl_context=ssl_context).start()
    except OSError as exc:
        await runner.cleanup()
        raise WebError(f"{host}:{port} cannot be opened: {exc.strerror or exc}; free it or set another port") from exc
    return runner, int(runner.addresses[0][1])
