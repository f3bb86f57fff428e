"""A download whose files are discarded on the way, because its attempt was withdrawn meanwhile."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent_sim.actions import FetchBroken, FetchImage, ImageFetched
from agent_sim.car import Download
from agent_sim.downloads import Downloads, discard
from agent_sim.ecu import WantedImage
from agent_sim.flash import Flash
from agent_sim.tally import Tally

CONTENT = b"an image"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
IMAGE = WantedImage(
    ecu_serials=("veh-1-gw",),
    hardware_id="acme-gw-1",
    path="acme-gw-1/1.1.0.img",
    sha256=SHA256,
    length=len(CONTENT),
    release_counter=2,
)


class WithdrawnAtTheCheck(ThreadPoolExecutor):
    """Discards the downloads of a folder just before what is here is read."""

    folder: Path | None = None

    def submit(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        if self.folder is not None:
            discard(self.folder)
        return super().submit(*args, **kwargs)


class WithdrawnAtTheEnd(Flash):
    """Discards the downloads of an image's folder when it was checked, and is to be kept."""

    def keep(self, image: Path, sha256: str) -> None:
        discard(image.parent)
        super().keep(image, sha256)


@pytest.fixture
def executor() -> Iterator[WithdrawnAtTheCheck]:
    with WithdrawnAtTheCheck(1) as executor:
        yield executor


def lay(folder: Path) -> None:
    """The whole image, as it lies here when the agent was killed before it heard of it."""
    folder.mkdir()
    (folder / SHA256).write_bytes(CONTENT)


async def fetched(folder: Path, flash: Flash, executor: ThreadPoolExecutor) -> object:
    """What comes of an image that lies here complete."""
    lay(folder)
    downloads = Downloads("", flash, executor, Tally(), connections_max=1)
    try:
        return await downloads.fetch(folder, Download(FetchImage(7, (), IMAGE, len(CONTENT)), None))
    finally:
        await downloads.close()


async def test_image_that_lies_here_is_kept(tmp_path: Path, executor: WithdrawnAtTheCheck) -> None:
    """The other two say something only if this passes."""
    flash = Flash(tmp_path / "flash", {})
    assert await fetched(tmp_path / "here", flash, executor) == ImageFetched(7)
    assert flash.file(SHA256) is not None


async def test_download_discarded_before_its_check_is_broken(tmp_path: Path, executor: WithdrawnAtTheCheck) -> None:
    """It is no fault of this machine's disk, which would end the whole fleet."""
    executor.folder = tmp_path / "here"
    assert await fetched(executor.folder, Flash(tmp_path / "flash", {}), executor) == FetchBroken(7, 0)


async def test_download_discarded_after_its_check_is_broken(tmp_path: Path, executor: WithdrawnAtTheCheck) -> None:
    """Nothing that was not kept is told as fetched."""
    flash = WithdrawnAtTheEnd(tmp_path / "flash", {})
    assert await fetched(tmp_path / "here", flash, executor) == FetchBroken(7, 0)
    assert flash.file(SHA256) is None
