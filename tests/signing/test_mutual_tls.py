"""A real handshake by gRPC: what our certificates open, what they do not, and what a server learns of its client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from signing.pki import Authority, Identity, certificate_request, identity_of, key_pem, new_key

TRUST_DOMAIN = "fleet.example"
NOW = datetime.now(UTC).replace(microsecond=0)  # noqa: TID251 - TLS libraries judge certificates by the machine's clock
DAY = timedelta(days=1)


@dataclass
class Server:
    port: int
    server_ca: bytes
    vehicles: Authority
    servers: Authority
    seen: list[Mapping[str, Sequence[bytes]]] = field(default_factory=list)


@asynccontextmanager
async def serving(servers: Authority, vehicles: Authority) -> AsyncIterator[Server]:
    """A server under one authority that lets in who has a certificate of the other."""
    chain, key = servers.issue_server(names=["localhost", "127.0.0.1"], now=NOW, life=DAY)
    record = Server(0, servers.certificate_pem, vehicles, servers)

    async def echo(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        record.seen.append(context.auth_context())
        return request

    handler = grpc.method_handlers_generic_handler("test.Echo", {"Echo": grpc.unary_unary_rpc_method_handler(echo)})
    running = grpc.aio.server()
    running.add_generic_rpc_handlers((handler,))
    credentials = grpc.ssl_server_credentials(
        [(key, chain)], root_certificates=vehicles.certificate_pem, require_client_auth=True
    )
    record.port = running.add_secure_port("127.0.0.1:0", credentials)
    await running.start()
    try:
        yield record
    finally:
        await running.stop(None)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving(Authority.create("servers", NOW, DAY), Authority.create("vehicles", NOW, DAY)) as running:
        yield running


def vehicle_certificate(authority: Authority, *, now: datetime = NOW, life: timedelta = DAY) -> tuple[bytes, bytes]:
    key = new_key()
    request = certificate_request(key)
    chain = authority.issue_vehicle(request, trust_domain=TRUST_DOMAIN, vehicle_id="veh-1", now=now, life=life)
    return chain, key_pem(key)


async def call(server: Server, chain: bytes | None, key: bytes | None, *, ca: bytes | None = None) -> bytes:
    credentials = grpc.ssl_channel_credentials(ca or server.server_ca, key, chain)
    async with grpc.aio.secure_channel(f"127.0.0.1:{server.port}", credentials) as channel:
        return await channel.unary_unary("/test.Echo/Echo")(b"hello", timeout=5)


@pytest.mark.uptane("D2")
async def test_a_vehicle_is_known_by_its_certificate(server: Server):
    """The identity comes out of gRPC's auth context, and TLS 1.3 shows there as well."""
    assert await call(server, *vehicle_certificate(server.vehicles)) == b"hello"
    (context,) = server.seen
    (pem,) = context["x509_pem_cert"]
    assert identity_of(pem, trust_domain=TRUST_DOMAIN) == Identity("vehicle", "veh-1", "")
    assert context["peer_spiffe_id"] == [b"spiffe://fleet.example/vehicle/veh-1"]
    assert context["ssl_tls_version"] == [b"TLSv1.3"], (
        "gRPC servers agree to 1.2 as well; the edge refuses by this field"
    )


@pytest.mark.uptane("D2", "A20")
@pytest.mark.parametrize("case", ["none", "other authority", "expired", "not yet valid"])
async def test_other_certificates_open_nothing(server: Server, case: str):
    """The handshake itself ends it: no handler is reached."""
    if case == "none":
        chain, key = None, None
    elif case == "other authority":
        chain, key = vehicle_certificate(Authority.create("vehicles", NOW, DAY))
    elif case == "expired":
        chain, key = vehicle_certificate(server.vehicles, now=NOW - 3 * DAY)
    else:
        chain, key = vehicle_certificate(server.vehicles, now=NOW + DAY)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(server, chain, key)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert server.seen == []


@pytest.mark.uptane("A20")
async def test_a_vehicle_refuses_another_server(server: Server):
    """A vehicle trusts the authority from its factory, not whoever answers."""
    chain, key = vehicle_certificate(server.vehicles)
    with pytest.raises(grpc.aio.AioRpcError):
        await call(server, chain, key, ca=Authority.create("servers", NOW, DAY).certificate_pem)
    assert server.seen == []


async def test_a_vehicle_s_certificate_does_not_serve(server: Server):
    """Another vehicle's key must not pass for the server, even under one authority."""
    chain, key = vehicle_certificate(server.vehicles)
    impostor = grpc.aio.server()
    port = impostor.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)]))
    await impostor.start()
    fake = Server(port, server.vehicles.certificate_pem, server.vehicles, server.vehicles)
    with pytest.raises(grpc.aio.AioRpcError):
        await call(fake, *vehicle_certificate(server.vehicles))
    await impostor.stop(None)


async def test_renewed_authority_and_the_one_before_it_vouch_for_each_others_certificates(server: Server) -> None:
    """A fleet learns of the next certificate of an authority over months: all that time both must do."""
    later = server.vehicles.renewed(NOW, 9 * DAY)
    assert await call(server, *vehicle_certificate(later)) == b"hello", "the server knows the old one"
    assert await call(
        server, *vehicle_certificate(server.vehicles), ca=server.servers.renewed(NOW, 9 * DAY).certificate_pem
    )
    stranger = Authority.create("vehicles", NOW, DAY)
    with pytest.raises(grpc.aio.AioRpcError):
        await call(server, *vehicle_certificate(stranger.renewed(NOW, 9 * DAY)))


async def test_certificates_of_before_open_a_server_that_knows_the_renewed_authority() -> None:
    """Nothing that was issued is lost by a renewal, also after the old certificate itself has ended."""
    servers, ended = Authority.create("servers", NOW, DAY), Authority.create("vehicles", NOW - 9 * DAY, 8 * DAY)
    chain, key = vehicle_certificate(ended, now=NOW - 2 * DAY, life=9 * DAY)
    async with serving(servers, ended) as running:
        with pytest.raises(grpc.aio.AioRpcError):
            await call(running, chain, key)
    async with serving(servers, ended.renewed(NOW, 9 * DAY)) as running:
        assert await call(running, chain, key) == b"hello"
