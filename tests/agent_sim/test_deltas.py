"""Simulated vehicles fetch by deltas over real sockets, and get the whole image whatever is wrong with a delta."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from agent_sim.ecu import WantedImage
from agent_sim.flash import Flash
from agent_sim.images import image_path, release_counter
from agent_sim.persisted import Phase, Progress, state_from_json
from agent_sim.scenario import parse_scenario
from signing.deltas import Delta, make_delta
from signing.image_repo import NewDelta, NewImage
from tests.agent_sim.builders import NEW, a_state
from tests.agent_sim.ground import SCENARIO, Ground, releases
from tests.agent_sim.wire_orchestrator import WireOrchestrator

SIZE = 100_000
CHANGE = b"the change"
VEHICLES = 8
IMAGES = 2 * VEHICLES
"""Two control units a vehicle."""

Served = Callable[[web.Request, bytes], web.StreamResponse | None]
"""What is served instead of a delta: from the request and the delta's bytes; None serves it as it is."""


class Mirror(WireOrchestrator):
    """An orchestrator whose images come from somebody else's machine."""

    instead: Served = staticmethod(lambda request, content: None)

    async def serve_image(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name.endswith(".zst"):
            content = (self.data.image_repo / "targets" / name).read_bytes()
            if (other := self.instead(request, content)) is not None:
                return other
        return await super().serve_image(request)


class Updated(Ground):
    """A fleet on release 1.0.0, which is published, and 1.1.0 with a delta for each hardware id."""

    def __init__(
        self, folder: Path, *, delta_of: Callable[[bytes, bytes], bytes] = make_delta, instead: Served | None = None
    ) -> None:
        scenario = parse_scenario(SCENARIO.replace("image_bytes = 4096", f"image_bytes = {SIZE}"))
        super().__init__(folder, scenario, offered=False, served_by=Mirror)
        self.asked: list[str] = []
        self.delta_bytes = 0
        factory, images, deltas = [], [], []
        for hardware_id, built in self.fleet.factory.items():
            base = built.file.read_bytes()
            file, delta = folder / f"{hardware_id}.img", folder / f"{hardware_id}.zst"
            file.write_bytes(base + CHANGE)
            delta.write_bytes(delta_of(base, base + CHANGE))
            self.delta_bytes += delta.stat().st_size * IMAGES // len(self.fleet.factory)
            at = built.installed
            factory.append(NewImage(at.path, built.file, hardware_id, at.release_counter, scenario.fleet.release))
            new = NewImage(image_path(hardware_id, "1.1.0"), file, hardware_id, release_counter("1.1.0"), "1.1.0")
            images.append(new)
            deltas.append(NewDelta(at.sha256, digest(file), at.length, file.stat().st_size, delta))
        orchestrator = self.orchestrator
        now, keys = orchestrator.fleet_now(), orchestrator.data.image_keys
        orchestrator.repository.publish(factory, keys, now)
        orchestrator.repository.publish(images, keys, now, deltas=deltas)
        orchestrator.offer("1.1.0", images, list(orchestrator.vehicles))
        orchestrator.instead = self.noted(instead)  # type: ignore[attr-defined]

    def noted(self, instead: Served | None) -> Served:
        """As `instead` says, and every request for a delta remembered."""

        def serve(request: web.Request, content: bytes) -> web.StreamResponse | None:
            self.asked.append(request.match_info["name"])
            return instead(request, content) if instead else None

        return serve

    async def updated(self) -> dict[str, Any]:
        """The report, once every vehicle has attested the whole new images."""
        report = await self.ride()
        assert releases(report) == ["1.1.0"] * VEHICLES
        proven = {
            entry.sha256
            for served in self.orchestrator.vehicles.values()
            for entry in served.orchestrator.manifests[-1].reports
        }
        assert proven == {digest(self.folder / f"{hardware_id}.img") for hardware_id in self.fleet.factory}
        return report


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


async def test_fleet_is_updated_by_deltas(tmp_path: Path) -> None:
    """Some kB instead of all: the vehicles attest the whole images, and no byte of these was sent."""
    ground = Updated(tmp_path)
    report = await ground.updated()
    assert report["deltas"] == {"applied": IMAGES}
    assert report["bytes_downloaded"] == ground.delta_bytes < IMAGES * 500
    assert report["bytes_saved"] == IMAGES * (SIZE + len(CHANGE)) - ground.delta_bytes
    assert len(ground.asked) == IMAGES == report["downloads"]["complete"]


async def test_delta_goes_on_where_the_link_broke(tmp_path: Path) -> None:
    """As with images: what is here is not fetched again."""
    broken: set[str] = set()

    def half_once(request: web.Request, content: bytes) -> web.StreamResponse | None:
        if "Range" in request.headers or request.match_info["name"] in broken:
            return None
        broken.add(request.match_info["name"])
        return web.Response(body=content[: len(content) // 2])

    report = await Updated(tmp_path, instead=half_once).updated()
    assert report["deltas"] == {"applied": IMAGES}
    assert report["downloads"]["resumed"] == report["downloads"]["broken"] == len(broken)


def one_bit(request: web.Request, content: bytes) -> web.StreamResponse:
    return web.Response(body=content[:-1] + bytes([content[-1] ^ 1]))


def gone(request: web.Request, content: bytes) -> web.StreamResponse:
    return web.Response(status=404)


def longer(request: web.Request, content: bytes) -> web.StreamResponse:
    return web.Response(body=content + bytes(1000))


@pytest.mark.uptane("A1", "A13")
@pytest.mark.parametrize(("instead", "refused"), [(one_bit, True), (longer, True), (gone, False)])
async def test_mirror_that_spoils_deltas_only_costs_bytes(tmp_path: Path, instead: Served, refused: bool) -> None:
    """A1, A13: other bytes, more bytes or none: each vehicle ends with the image that was signed, fetched whole."""
    report = await Updated(tmp_path, instead=instead).updated()
    assert report["deltas"] == ({"refused": IMAGES} if refused else {})
    assert report["bytes_saved"] == 0
    assert report["bytes_downloaded"] >= IMAGES * SIZE


async def test_delta_that_trickles_does_not_keep_the_image_away(tmp_path: Path) -> None:
    """A byte at each try is progress, and would go on for weeks; after a few tries the image is fetched."""

    def a_byte(request: web.Request, content: bytes) -> web.StreamResponse:
        start = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        headers = {"Content-Range": f"bytes {start}-{start}/{len(content)}"}
        return web.Response(status=206 if start else 200, headers=headers if start else {}, body=content[start:][:1])

    ground = Updated(tmp_path, instead=a_byte)
    report = await ground.updated()
    assert report["deltas"] == {"given_up": IMAGES}
    assert len(ground.asked) == 5 * IMAGES


@pytest.mark.parametrize(
    "delta_of",
    [lambda base, image: b"signed, and no delta", lambda base, image: make_delta(base, bytes(len(image)))],
    ids=["no delta", "another image"],
)
async def test_signed_delta_that_does_not_lead_to_the_image_is_refused(
    tmp_path: Path, delta_of: Callable[[bytes, bytes], bytes]
) -> None:
    """Whoever signs deltas cannot make a vehicle run other bytes, nor keep the release from it."""
    report = await Updated(tmp_path, delta_of=delta_of).updated()
    assert report["deltas"] == {"refused": IMAGES}
    assert report["bytes_saved"] == 0


async def test_slot_with_other_bytes_than_it_should_have_leads_to_the_whole_image(tmp_path: Path) -> None:
    """Flash ages: what a delta starts from is compared with what was signed, before anything is made of it."""
    ground = Updated(tmp_path)
    (ground.fleet.folder / "flash").mkdir()
    for built in ground.fleet.factory.values():
        (ground.fleet.folder / "flash" / built.installed.sha256).write_bytes(bytes(SIZE))
    report = await ground.updated()
    assert report["deltas"] == {"refused": IMAGES}
    assert report["bytes_downloaded"] >= IMAGES * SIZE


def test_flash_reads_what_the_factory_wrote_and_what_was_kept(tmp_path: Path) -> None:
    """A base is found by its digest alone; what was never here is not."""
    built, image = tmp_path / "built", tmp_path / "image"
    built.write_bytes(b"factory")
    image.write_bytes(b"image")
    flash = Flash(tmp_path / "flash", {"a" * 64: built, "c" * 64: tmp_path / "lost"})
    flash.keep(image, "b" * 64)
    flash.keep(image, "b" * 64)
    image.unlink()
    assert flash.file("a" * 64) == built
    kept = flash.file("b" * 64)
    assert kept is not None
    assert kept.read_bytes() == b"image"
    assert flash.file("c" * 64) is flash.file("d" * 64) is flash.file("../image") is None


def test_deltas_survive_a_loss_of_power() -> None:
    """A vehicle that comes up in the middle of a download goes on with its delta; older states have none."""
    delta = Delta("deltas/x", 5, "d" * 64, from_sha256="e" * 64, to_sha256=NEW.sha256, memory_bytes=9)
    progress = Progress("a1", "r1", "1.1.0", Phase.DOWNLOADING, (), images=(replace(NEW, deltas=(delta,)),))
    state = replace(a_state(), progress=progress)
    written = json.loads(json.dumps(state.to_json()))
    assert state_from_json(written) == state
    del written["progress"]["images"][0]["deltas"]
    read = state_from_json(written)
    assert read.progress is not None
    assert read.progress.images == (NEW,)
    assert isinstance(NEW, WantedImage)
