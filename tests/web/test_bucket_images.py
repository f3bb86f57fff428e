"""The image port before a bucket: the parts that are asked, and later where the bucket is away."""

from __future__ import annotations

from pathlib import Path

import aiohttp
from prometheus_client import CollectorRegistry

from orchestrator.telemetry import Metrics
from orchestrator.web import build_images_app, start
from signing.errors import ImageStoreError
from tests.web.test_images import CONTENT, NAME


class BucketLike:
    """A store that is no folder: it is asked for parts, and may not answer."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.fails = False

    def size(self, name: str) -> int | None:
        self._check()
        return len(CONTENT) if name == NAME else None

    def read(self, name: str, start: int, length: int) -> bytes:
        self._check()
        self.asked.append((start, length))
        return CONTENT[start : start + length]

    def put(self, name: str, file: Path, sha256: str) -> None:
        raise AssertionError(name)

    def write(self, name: str, content: bytes) -> None:
        raise AssertionError(name)

    def _check(self) -> None:
        if self.fails:
            raise ImageStoreError("the bucket cannot be reached")


async def test_images_in_a_bucket_are_served_in_the_parts_that_are_asked(tmp_path: Path) -> None:
    """A vehicle notices no difference; what it does not ask is not fetched, and a bucket that is away is 'later'."""
    store = BucketLike()
    runner, port = await start(build_images_app(tmp_path, Metrics(CollectorRegistry()), images=store), "127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            async with session.get(f"/targets/{NAME}", headers={"Range": "bytes=100-299"}) as response:
                assert (response.status, await response.read()) == (206, CONTENT[100:300])
            assert store.asked == [(100, 200)]
            async with session.get(f"/targets/acme/deep/{NAME}") as response:
                assert (response.status, await response.read()) == (200, CONTENT), "as a TUF client asks for it"
            async with session.get(f"/targets/{'0' * 64}.img") as response:
                assert response.status == 404
            store.fails = True
            async with session.get(f"/targets/{NAME}") as response:
                assert (response.status, response.headers["Retry-After"]) == (503, "5")
    finally:
        await runner.cleanup()
