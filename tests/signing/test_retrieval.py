"""Downloads from mirrors that nobody trusts: over real HTTPS, going on where they were, never more than was signed."""

from __future__ import annotations

import hashlib
import itertools
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from signing.errors import AttackCode, VerificationError
from signing.pki import Authority
from signing.retrieval import Retrieval, retrieve

CONTENT = bytes(range(256)) * 1024
PATH = "acme/gateway-1.1.0.img"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
START, LIFE = datetime(2020, 1, 1, tzinfo=UTC), timedelta(days=36500)


class Mirror:
    """An HTTPS server that serves one content, and misbehaves on request."""

    def __init__(self, folder: Path) -> None:
        authority = Authority.create("mirrors", START, LIFE)
        chain, key = authority.issue_server(names=["127.0.0.1"], now=START, life=LIFE)
        (folder / "chain.pem").write_bytes(chain)
        (folder / "key.pem").write_bytes(key)
        self.tls = ssl.create_default_context(cadata=authority.certificate_pem.decode())
        self.content = CONTENT
        self.ranges = True
        self.breaks_after: int | None = None
        self.redirects_to = ""
        self.stalls: threading.Event | None = None
        """Until it is set, the connection stays open after what `breaks_after` let through."""
        self.says: int | None = 0
        """Offset from the asked start in Content-Range; None: it does not say."""
        self.asked: list[tuple[str, str]] = []
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.serve(self)

            def log_message(self, *arguments: Any) -> None:
                """A test's output is not the place."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.base = f"https://127.0.0.1:{self.server.server_port}/targets"

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        """One answer."""
        wanted = handler.headers.get("Range", "")
        self.asked.append((handler.path, wanted))
        if self.redirects_to:
            handler.send_response(302)
            handler.send_header("Location", self.redirects_to)
            handler.end_headers()
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if self.ranges else 0
        body = self.content[start:]
        handler.send_response(206 if self.ranges else 200)
        if self.ranges and self.says is not None:
            says = start + self.says
            handler.send_header("Content-Range", f"bytes {says}-{len(self.content) - 1}/{len(self.content)}")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body if self.breaks_after is None else body[: self.breaks_after])
        if self.stalls is not None:
            handler.wfile.flush()
            self.stalls.wait(timeout=30)
        handler.close_connection = True


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    """A good one until a test says otherwise."""
    (tmp_path / "mirror").mkdir()
    made = Mirror(tmp_path / "mirror")
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the image goes."""
    return tmp_path / "image"


def fetch(
    mirror: Mirror,
    file: Path,
    *bases: str,
    length: int = len(CONTENT),
    meanwhile: Callable[[], bool] = lambda: True,
    now_s: Callable[[], float] | None = None,
) -> Retrieval:
    return retrieve(
        path=PATH,
        length=length,
        sha256=SHA256,
        bases=bases or (mirror.base,),
        file=file,
        tls=mirror.tls,
        meanwhile=meanwhile,
        now_s=now_s,
    )


@pytest.mark.uptane("M15")
def test_an_image_is_fetched_by_its_digest_and_name(mirror: Mirror, file: Path):
    """That is the name under which every repository and mirror has it."""
    assert fetch(mirror, file) == Retrieval(True, len(CONTENT))
    assert file.read_bytes() == CONTENT
    assert mirror.asked == [(f"/targets/{SHA256}.gateway-1.1.0.img", "bytes=0-")]


def test_what_is_here_is_not_fetched_again(mirror: Mirror, file: Path):
    """A vehicle that was complete when the power went needs no link to find out."""
    file.write_bytes(CONTENT)
    assert fetch(mirror, file) == Retrieval(True, 0)
    assert mirror.asked == []


def test_a_broken_download_goes_on_where_it_was(mirror: Mirror, file: Path):
    """A broken link is no fault of the image; every byte travels once."""
    mirror.breaks_after = 100_000
    assert fetch(mirror, file) == Retrieval(False, 100_000)
    mirror.breaks_after = None
    assert fetch(mirror, file) == Retrieval(True, len(CONTENT) - 100_000)
    assert mirror.asked[1][1] == "bytes=100000-"


def test_a_server_without_ranges_begins_anew(mirror: Mirror, file: Path):
    """It is a good answer: what is here is replaced, not appended to."""
    file.write_bytes(CONTENT[:1000])
    mirror.ranges = False
    assert fetch(mirror, file).complete
    assert file.read_bytes() == CONTENT


@pytest.mark.parametrize(("says", "complete"), [(None, True), (0, True), (5, False)])
def test_another_part_than_was_asked_for_is_not_taken(mirror: Mirror, file: Path, says: int | None, complete: bool):
    """It would spoil what is here; a server that does not say which part it sends is judged by the digest."""
    file.write_bytes(CONTENT[:1000])
    mirror.says = says
    assert fetch(mirror, file).complete is complete
    assert file.read_bytes() == (CONTENT if complete else CONTENT[:1000])


def test_the_next_address_is_tried(mirror: Mirror, file: Path):
    """Nobody listens at the first, the second is not HTTPS, the third is no address."""
    plain = mirror.base.replace("https", "http")
    assert fetch(mirror, file, "https://127.0.0.1:1/targets", plain, "nonsense", mirror.base).complete


@pytest.mark.uptane("A20", "A27")
@pytest.mark.parametrize("to", ["file:///etc/hostname", "http://127.0.0.1:1/x"])
def test_no_redirect_leads_away_from_https(mirror: Mirror, file: Path, to: str):
    """A mirror must not be able to make the vehicle read its own files."""
    mirror.redirects_to = to
    assert fetch(mirror, file) == Retrieval(False, 0)


@pytest.mark.uptane("A20")
def test_a_server_that_nobody_vouches_for_is_not_read_from(mirror: Mirror, file: Path):
    """The digest would find it out, but only after all of it was paid for."""
    mirror.tls = ssl.create_default_context()
    assert fetch(mirror, file) == Retrieval(False, 0)
    assert mirror.asked == []


@pytest.mark.uptane("A1", "V9")
def test_other_bytes_are_refused_and_discarded(mirror: Mirror, file: Path):
    """One bit is enough, and nothing of it stays to be gone on with."""
    mirror.content = CONTENT[:-1] + b"?"
    with pytest.raises(VerificationError) as caught:
        fetch(mirror, file)
    assert caught.value.code is AttackCode.ARBITRARY
    assert not file.exists()


@pytest.mark.uptane("A13")
def test_reading_stops_beyond_the_signed_length(mirror: Mirror, file: Path):
    """An endless answer fills no disk: one byte more than was signed is proof enough."""
    mirror.content = CONTENT * 40
    sizes: list[int] = []
    with pytest.raises(VerificationError) as caught:
        fetch(mirror, file, meanwhile=lambda: bool(sizes.append(file.stat().st_size)) or True)
    assert caught.value.code is AttackCode.ENDLESS_DATA
    assert max(sizes) == len(CONTENT) + 1
    assert not file.exists()


def test_meanwhile_may_end_it(mirror: Mirror, file: Path):
    """The attempt was withdrawn or the link costs money now: what came is kept, and nothing is judged."""
    got = fetch(mirror, file, meanwhile=lambda: False)
    assert not got.complete
    assert 0 < got.received_bytes == file.stat().st_size < len(CONTENT)


def test_meanwhile_may_remove_the_file_at_its_last_piece(mirror: Mirror, file: Path):
    """A withdrawal discards images while the last of them comes in."""

    def removed() -> bool:
        if file.stat().st_size == len(CONTENT):
            file.unlink()
            return False
        return True

    assert not fetch(mirror, file, meanwhile=removed).complete


def test_an_error_of_meanwhile_passes_through_and_loses_nothing(mirror: Mirror, file: Path):
    """A call that failed between two pieces is the agent's to mend."""

    def failing() -> bool:
        raise LookupError("no answer")

    with pytest.raises(LookupError, match="no answer"):
        fetch(mirror, file, meanwhile=failing)
    assert file.stat().st_size > 0
    assert fetch(mirror, file).complete


@pytest.mark.uptane("A14", "V2")
def test_a_server_that_serves_a_byte_now_and_then_is_given_up(mirror: Mirror, file: Path):
    """It never breaks off and never ends: what came is kept, the slowness is told, and nobody waits for the rest."""
    mirror.breaks_after, mirror.stalls = 100, threading.Event()
    clock = itertools.count(step=31)
    assert fetch(mirror, file, now_s=lambda: next(clock)) == Retrieval(False, 100, slow=True)
    mirror.stalls.set()


@pytest.mark.uptane("A14")
def test_the_next_address_is_tried_after_a_slow_one(mirror: Mirror, file: Path):
    """One hostile mirror of several delays an update by half a minute."""
    clock = itertools.count(step=31)
    at_once, late = lambda: 0.0, lambda: next(clock)
    calls = itertools.count()

    def now_s() -> float:
        """Late for the first piece, of the first address, and quick from then on."""
        return late() if next(calls) < 2 else at_once()

    mirror.breaks_after, mirror.stalls = 100, threading.Event()
    mirror.stalls.set()

    def meanwhile() -> bool:
        mirror.breaks_after = None
        return True

    assert fetch(mirror, file, mirror.base, mirror.base, now_s=now_s, meanwhile=meanwhile).complete
    assert [wanted for _, wanted in mirror.asked] == ["bytes=0-", "bytes=100-"]


def test_what_the_vehicle_does_meanwhile_is_not_the_mirrors_time(mirror: Mirror, file: Path):
    """A call that takes minutes between two pieces says nothing about who serves them."""
    now = [0.0]

    def meanwhile() -> bool:
        now[0] += 3600
        return True

    assert fetch(mirror, file, now_s=lambda: now[0], meanwhile=meanwhile) == Retrieval(True, len(CONTENT))
