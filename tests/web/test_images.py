"""The image port: every byte by range over TLS, and nothing but images and metadata."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import ipaddress
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs
from yarl import URL

from orchestrator.telemetry import Metrics
from orchestrator.web import build_images_app, start
from orchestrator.web.images import wanted_range

CONTENT = bytes(range(256)) * 4096
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = f"{DIGEST}.gw-2-1.1.0.img"


def some_metrics() -> Metrics:
    return Metrics(CollectorRegistry())


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """An Image repository with one image, one metadata file, and things that must not be served."""
    root = tmp_path / "image-repo"
    (root / "targets").mkdir(parents=True)
    (root / "metadata").mkdir()
    (root / "targets" / NAME).write_bytes(CONTENT)
    (root / "metadata" / "timestamp.json").write_bytes(b'{"signed": 1}')
    (root / "metadata" / "12.root.json").write_bytes(b'{"root": 12}')
    (tmp_path / "secret").write_text("a private key")
    (root / "secret.json").write_text("outside metadata/")
    (root / "metadata" / "link.json").symlink_to(tmp_path / "secret")
    (root / "targets" / f"{'0' * 64}.link").symlink_to(tmp_path / "secret")
    (root / "targets" / f"{'1' * 64}.folder").mkdir()
    os.mkfifo(root / "targets" / f"{'2' * 64}.pipe")
    (root / "targets" / f"{'3' * 64}.empty").write_bytes(b"")
    (root / "targets" / "unnamed.img").write_bytes(b"not named by digest")
    return root


@pytest.fixture
async def address(repository: Path) -> AsyncIterator[str]:
    runner, port = await start(build_images_app(repository, some_metrics()), "127.0.0.1", 0)
    yield f"http://127.0.0.1:{port}"
    await runner.cleanup()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.mark.uptane("I1")
async def test_an_image_comes_whole_and_cacheable_for_ever(address: str, client: aiohttp.ClientSession):
    """Its name carries its digest: a CDN may keep it without asking."""
    async with client.get(f"{address}/targets/{NAME}") as response:
        assert response.status == 200
        assert await response.read() == CONTENT
        assert response.headers["ETag"] == f'"{DIGEST}"'
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert response.headers["Accept-Ranges"] == "bytes"
        assert response.headers["Content-Type"] == "application/octet-stream"


async def test_a_broken_download_is_resumed(address: str, client: aiohttp.ClientSession):
    """In a tunnel the link breaks; what is there need not come again, and the pieces make the image."""
    got = b""
    async with client.get(f"{address}/targets/{NAME}") as response:
        got += await response.content.readexactly(100_000)
        response.close()
    while len(got) < len(CONTENT):
        headers = {"Range": f"bytes={len(got)}-{len(got) + 299_999}", "If-Range": f'"{DIGEST}"'}
        async with client.get(f"{address}/targets/{NAME}", headers=headers) as response:
            assert response.status == 206
            piece = await response.read()
            last = len(got) + len(piece) - 1
            assert response.headers["Content-Range"] == f"bytes {len(got)}-{last}/{len(CONTENT)}"
            got += piece
    assert got == CONTENT


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("bytes=0-", 0, len(CONTENT) - 1),
        ("bytes=0-0", 0, 0),
        ("bytes=-10", len(CONTENT) - 10, len(CONTENT) - 1),
        ("bytes=1048570-99999999999", 1048570, len(CONTENT) - 1),
        ("bytes=-99999999999", 0, len(CONTENT) - 1),
    ],
)
async def test_ranges(address: str, client: aiohttp.ClientSession, header: str, first: int, last: int):
    """The forms of RFC 9110 that clients use."""
    async with client.get(f"{address}/targets/{NAME}", headers={"Range": header}) as response:
        assert response.status == 206
        assert response.headers["Content-Range"] == f"bytes {first}-{last}/{len(CONTENT)}"
        assert await response.read() == CONTENT[first : last + 1]


@pytest.mark.parametrize("header", ["bytes=1048576-", "bytes=9999999-10000000", "bytes=-0"])
async def test_a_range_beyond_the_end_is_refused_with_the_size(
    address: str, client: aiohttp.ClientSession, header: str
):
    """A client that has more than there is must learn so, not get the image appended again."""
    async with client.get(f"{address}/targets/{NAME}", headers={"Range": header}) as response:
        assert response.status == 416
        assert response.headers["Content-Range"] == f"bytes */{len(CONTENT)}"


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=0-1,5-6"},
        {"Range": "bytes=5-1"},
        {"Range": "lines=1-2"},
        {"Range": "bytes=-"},
        {"Range": "bytes=5-", "If-Range": '"of another image"'},
    ],
)
async def test_what_cannot_be_served_as_a_range_comes_whole(
    address: str, client: aiohttp.ClientSession, headers: dict[str, str]
):
    """200 and everything is always a correct answer; a wrong piece never is."""
    async with client.get(f"{address}/targets/{NAME}", headers=headers) as response:
        assert response.status == 200
        assert await response.read() == CONTENT


@given(st.text("0123456789-=bytes, ", max_size=24) | st.from_regex(r"bytes=[0-9]{0,3}-[0-9]{0,3}"), st.integers(0, 300))
def test_a_range_is_always_within_the_image(header: str, size: int):
    """Whatever is asked: no position beyond the end, none before the start."""
    wanted = wanted_range(header, size)
    assert wanted is None or all(position in range(size) for position in wanted)


async def test_a_caller_who_has_it_already_gets_nothing(address: str, client: aiohttp.ClientSession):
    """A mirror that asks again costs no bytes."""
    for tags in (f'"{DIGEST}"', f'"other", W/"{DIGEST}"', "*"):
        async with client.get(f"{address}/targets/{NAME}", headers={"If-None-Match": tags}) as response:
            assert (response.status, await response.read()) == (304, b"")


async def test_head_tells_the_size_only(address: str, client: aiohttp.ClientSession):
    """An agent looks for room before it downloads."""
    async with client.head(f"{address}/targets/{NAME}") as response:
        assert (response.status, response.headers["Content-Length"]) == (200, str(len(CONTENT)))


async def test_an_empty_image_is_served(address: str, client: aiohttp.ClientSession):
    """No bytes are a valid content; a range of them is not."""
    url = f"{address}/targets/{'3' * 64}.empty"
    async with client.get(url) as response:
        assert (response.status, await response.read()) == (200, b"")
    async with client.get(url, headers={"Range": "bytes=0-"}) as response:
        assert response.status == 416


async def test_metadata_is_asked_for_again_each_time(address: str, client: aiohttp.ClientSession, repository: Path):
    """timestamp.json changes in place: a cache that kept it would freeze the fleet."""
    async with client.get(f"{address}/metadata/timestamp.json") as response:
        assert (response.status, await response.read()) == (200, b'{"signed": 1}')
        assert response.headers["Cache-Control"] == "no-cache"
        tag = response.headers["ETag"]
    async with client.get(f"{address}/metadata/timestamp.json", headers={"If-None-Match": tag}) as response:
        assert response.status == 304
    _rewrite(repository / "metadata" / "timestamp.json")
    async with client.get(f"{address}/metadata/timestamp.json", headers={"If-None-Match": tag}) as response:
        assert (response.status, await response.read()) == (200, b'{"signed": 2}')
    async with client.get(f"{address}/metadata/12.root.json") as response:
        assert response.status == 200


def _rewrite(path: Path) -> None:
    path.write_bytes(b'{"signed": 2}')


@pytest.mark.uptane("A27")
@pytest.mark.parametrize(
    "path",
    [
        "/targets/../secret.json",
        "/targets/%2e%2e/secret.json",
        "/targets/..%2fsecret.json",
        "/metadata/..%2f..%2fsecret",
        "/metadata/%2fetc%2fpasswd",
        "/metadata/../secret.json",
        "/metadata/link.json",
        f"/targets/{'0' * 64}.link",
        f"/targets/{'1' * 64}.folder",
        f"/targets/{'2' * 64}.pipe",
        f"/targets/{'4' * 64}.absent",
        f"/targets/{'4' * 64}.{'x' * 129}",
        "/targets/unnamed.img",
        "/targets/",
        "/metadata/",
        "/metadata/.json",
        "/metadata/timestamp.json%00",
        "/secret.json",
        "/",
    ],
)
async def test_nothing_else_is_served(address: str, client: aiohttp.ClientSession, path: str):
    """Keys lie next to this folder: links, pipes, folders, and ways out of it must all be unknown."""
    async with client.get(URL(address + path, encoded=True)) as response:
        assert response.status == 404
        assert b"private key" not in await response.read()


@pytest.mark.uptane("A27")
async def test_a_traversal_sent_raw_is_not_served(address: str):
    """Aiohttp's client tidies paths before sending; an attacker's does not."""
    host, port = address.removeprefix("http://").split(":")
    for path in ("/targets/../../secret", "/metadata/../../secret", "//targets/../secret.json", "/metadata/..\\secret"):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        assert answer.split(b" ")[1] in (b"400", b"404"), path
        assert b"private key" not in answer


async def test_too_many_transfers_are_asked_to_come_back(repository: Path, client: aiohttp.ClientSession):
    """A burst after an outage must not take the memory of everybody; a slot that ends is given on."""
    (repository / "targets" / f"{'5' * 64}.big").write_bytes(bytes(64_000_000))
    runner, port = await start(build_images_app(repository, some_metrics(), transfers_max=1), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{port}/targets"
    first = await client.get(f"{url}/{'5' * 64}.big")
    async with client.get(f"{url}/{NAME}") as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "5")
    async with first:
        assert len(await first.read()) == 64_000_000
    async with client.get(f"{url}/{NAME}") as response:
        assert response.status == 200
        await response.read()
    await runner.cleanup()


async def test_a_reader_who_stalls_is_dropped(repository: Path, client: aiohttp.ClientSession):
    """Whoever opens downloads and reads nothing must not hold all slots."""
    (repository / "targets" / f"{'5' * 64}.big").write_bytes(bytes(64_000_000))
    runner, port = await start(
        build_images_app(repository, some_metrics(), transfers_max=1, stall_s=0.1), "127.0.0.1", 0
    )
    with socket.create_connection(("127.0.0.1", port)) as stalled:
        stalled.sendall(f"GET /targets/{'5' * 64}.big HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        async with asyncio.timeout(20):
            for wanted in (503, 200):  # first it holds the only slot, then somebody else gets it
                while await _status(client, f"http://127.0.0.1:{port}/targets/{NAME}") != wanted:
                    pass
    await runner.cleanup()


@pytest.mark.parametrize("reason", ["gone", "stalled"])
async def test_a_link_that_breaks_is_counted_and_no_error(
    repository: Path, caplog: pytest.LogCaptureFixture, reason: str
):
    """Ten thousand vehicles drive into tunnels each day: whoever is on call must not read a stack trace of each."""
    (repository / "targets" / f"{'5' * 64}.big").write_bytes(bytes(64_000_000))
    metrics = some_metrics()
    stall_s = 0.1 if reason == "stalled" else 20.0
    runner, port = await start(build_images_app(repository, metrics, stall_s=stall_s), "127.0.0.1", 0)
    broken = metrics.downloads_broken.labels(reason=reason)
    with capture_logs() as logged:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /targets/{'5' * 64}.big HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await reader.readexactly(100_000)
        if reason == "gone":
            writer.transport.abort()
        async with asyncio.timeout(20):
            while not broken._value.get():  # noqa: ASYNC110 - a counter tells nobody that it was raised
                await asyncio.sleep(0)
        writer.close()
        await runner.cleanup()
    assert [(line["event"], line["reason"], line["log_level"]) for line in logged] == [
        ("download_broken", reason, "debug")
    ]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_an_image_that_shrank_is_an_error_of_ours(repository: Path, caplog: pytest.LogCaptureFixture):
    """Images are never rewritten: whoever did so must be found, and half an image must not seem whole."""
    image = repository / "targets" / f"{'5' * 64}.big"
    image.write_bytes(bytes(64_000_000))
    runner, port = await start(build_images_app(repository, some_metrics()), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /targets/{image.name} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await reader.readexactly(1000)
    os.truncate(image, 1000)
    got = await asyncio.wait_for(reader.read(), 20)
    assert len(got) < 63_000_000
    writer.close()
    await runner.cleanup()
    assert [record.levelname for record in caplog.records if record.exc_info] == ["ERROR"]


async def _status(client: aiohttp.ClientSession, url: str) -> int:
    async with client.get(url) as response:
        await response.read()
        return response.status


@pytest.mark.uptane("A20")
async def test_images_come_over_tls(repository: Path, tmp_path: Path):
    """The transport need not be trusted, but what a vehicle downloads is nobody else's business."""
    serving, calling = tls_contexts(tmp_path)
    runner, port = await start(build_images_app(repository, some_metrics()), "127.0.0.1", 0, ssl_context=serving)
    async with aiohttp.ClientSession() as client:
        url = f"https://127.0.0.1:{port}/targets/{NAME}"
        async with client.get(url, ssl=calling, headers={"Range": "bytes=1000-"}) as response:
            assert response.status == 206
            assert await response.read() == CONTENT[1000:]
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await client.get(url)
    await runner.cleanup()


def tls_contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate of its own making, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "images")])
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=36_500))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.pem").write_bytes(private + pem)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(folder / "server.pem")
    return serving, ssl.create_default_context(cadata=pem.decode())


async def test_bytes_are_counted_by_what_they_are_of(repository: Path, client: aiohttp.ClientSession):
    """What deltas spare the port is seen beside what images cost; a range counts as what was sent of it."""
    (repository / "targets" / f"{'6' * 64}.{'7' * 64}.zst").write_bytes(b"a delta")
    metrics = some_metrics()
    runner, port = await start(build_images_app(repository, metrics), "127.0.0.1", 0)
    for name, headers in ((NAME, {"Range": "bytes=0-99"}), (f"{'6' * 64}.{'7' * 64}.zst", {})):
        async with client.get(f"http://127.0.0.1:{port}/targets/{name}", headers=headers) as response:
            await response.read()
    await runner.cleanup()
    sent = {
        kind: metrics.registry.get_sample_value("outrider_image_bytes_total", {"kind": kind})
        for kind in ("image", "delta")
    }
    assert sent == {"image": 100, "delta": 7}
