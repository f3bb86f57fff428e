"""A repository on a socket, as the suite has it: every request is counted, and what is not there is 404."""

from __future__ import annotations

import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.conformance.client import main
from tests.signing.uptane_simulator import NOW, RepositorySimulator


@dataclass
class Suite:
    """What a case of the suite has at hand: a repository, a client under test, and what was asked."""

    repository: RepositorySimulator
    folder: Path
    url: str = ""
    images: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def answer(self, path: str) -> bytes | None:
        kind, _, name = path.lstrip("/").partition("/")
        self.asked.append(name)
        if kind == "targets":
            return self.images.get(urllib.parse.unquote(name))
        served = {name: content for (_, name), content in self.repository.files().items()}
        return served.get(urllib.parse.unquote(name))

    def init(self, root: bytes | None = None) -> int:
        trusted = self.folder / "trusted_root"
        trusted.write_bytes(self.repository.first_root if root is None else root)
        return main(["--metadata-dir", str(self.metadata), "init", str(trusted)])

    def refresh(self, now: datetime = NOW) -> int:
        self.asked.clear()
        return main([*self._where(), "refresh"], now)

    def download(self, name: str, now: datetime = NOW) -> int:
        self.asked.clear()
        target = ["--target-name", name, "--target-base-url", f"{self.url}/targets", "--target-dir", str(self.targets)]
        return main([*self._where(), *target, "download"], now)

    def downloaded(self) -> list[bytes]:
        return [path.read_bytes() for path in self.targets.iterdir()]

    def held(self) -> dict[str, bytes]:
        """By role."""
        return {path.stem: path.read_bytes() for path in self.metadata.glob("*.json")}

    @property
    def metadata(self) -> Path:
        return self.folder / "metadata"

    @property
    def targets(self) -> Path:
        return self.folder / "targets"

    def _where(self) -> list[str]:
        return ["--metadata-url", f"{self.url}/metadata/", "--metadata-dir", str(self.metadata)]


@contextmanager
def served(suite: Suite) -> Iterator[Suite]:
    """Serve its repository for a while."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = suite.answer(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            """Nothing: the suite counts."""

    suite.metadata.mkdir()
    suite.targets.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        suite.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield suite
        finally:
            server.shutdown()
            thread.join()
