"""A server's certificate and the authority of its clients change while it serves; no call notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest

from orchestrator.cli.local import certificate_time
from orchestrator.rpc.credentials import Credentials, Tls
from signing.pki import Authority, certificate_request, key_pem, new_key
from tests.rpc.contexts import TRUST_DOMAIN

DAY = timedelta(days=1)


class Pki:
    """An authority of servers, and one of clients that may be followed by another."""

    def __init__(self) -> None:
        self.server = Authority.create("server", certificate_time(), DAY)
        self.clients = Authority.create("clients", certificate_time(), DAY)
        self.next_clients = Authority.create("next clients", certificate_time(), DAY)

    def tls(self, clients: Authority) -> Tls:
        """A fresh certificate, and whom it lets in."""
        chain, key = self.server.issue_server(names=["127.0.0.1"], now=certificate_time(), life=DAY)
        return Tls(key, chain, clients.certificate_pem)

    def channel(self, port: int, clients: Authority) -> grpc.aio.Channel:
        """A client of an authority, on a connection of its own."""
        key = new_key()
        chain = clients.issue_vehicle(
            certificate_request(key), trust_domain=TRUST_DOMAIN, vehicle_id="v-1", now=certificate_time(), life=DAY
        )
        credentials = grpc.ssl_channel_credentials(self.server.certificate_pem, key_pem(key), chain)
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
        return grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options)


class Slow:
    """Answers `/test/Wait` when told to, and `/test/Ask` at once."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.release = asyncio.Event()

    async def wait(self, request: bytes, _: Any) -> bytes:
        self.entered.set()
        await self.release.wait()
        return request

    async def ask(self, request: bytes, _: Any) -> bytes:
        return request


@asynccontextmanager
async def serving(slow: Slow, credentials: Credentials) -> AsyncIterator[int]:
    server = grpc.aio.server()
    methods = {"Wait": slow.wait, "Ask": slow.ask}
    handlers = {name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test", handlers)])
    port = server.add_secure_port("127.0.0.1:0", credentials.as_grpc())
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def ask(channel: grpc.aio.Channel, method: str = "/test/Ask") -> bytes:
    answer: bytes = await channel.unary_unary(method)(b"hello", timeout=20)
    return answer


async def test_clients_of_a_new_authority_come_in_and_a_call_under_way_is_answered() -> None:
    """Authorities end one day; vehicles in a tunnel with the old one must not be cut off in the middle of a word."""
    pki, slow = Pki(), Slow()
    credentials = Credentials(pki.tls(pki.clients))
    async with serving(slow, credentials) as port, pki.channel(port, pki.clients) as old:
        under_way = asyncio.ensure_future(ask(old, "/test/Wait"))
        await slow.entered.wait()
        async with pki.channel(port, pki.next_clients) as early:
            with pytest.raises(grpc.aio.AioRpcError):
                await ask(early)
        credentials.show(pki.tls(pki.next_clients))
        async with pki.channel(port, pki.next_clients) as new:
            assert await ask(new) == b"hello"
        async with pki.channel(port, pki.clients) as late:
            with pytest.raises(grpc.aio.AioRpcError):
                await ask(late)
        assert await ask(old) == b"hello", "its connection stands"
        slow.release.set()
        assert await under_way == b"hello"
