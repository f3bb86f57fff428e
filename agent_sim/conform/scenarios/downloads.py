"""Scenarios of images: links that break, servers that lie, mirrors that are gone."""

from __future__ import annotations

from outrider.v1 import vehicle_pb2 as pb

from agent_sim.conform.images import ImageFault
from agent_sim.conform.scenario import Scenario
from agent_sim.conform.stage import Stage
from agent_sim.conform.tape import SeenDownload

_READ_AHEAD_BYTES = 24 * 1024 * 1024
"""What the machine's own buffers may take of an answer that nobody reads."""


def _later(stage: Stage, first: SeenDownload) -> list[SeenDownload]:
    same = [seen for seen in stage.tape.downloads() if seen.name == first.name]
    return same[same.index(first) + 1 :]


async def broken_link(stage: Stage) -> None:
    """The connection breaks half way."""
    offer = stage.offer()
    stage.server.images.fault, stage.server.images.times = ImageFault.RESET, 1
    await stage.start_agent()
    await stage.succeeded(offer, "P-IMAGE-3")
    first = stage.tape.downloads()[0]
    again = _later(stage, first)
    offset = again[0].offset if again else 0
    stage.check("P-IMAGE-2", offset > 0, f"{first.sent} bytes were sent, then the download began anew")
    stage.kept("P-IMAGE-3")


async def killed_while_downloading(stage: Stage) -> None:
    """Kill -9 half way through a slow download."""
    offer = stage.offer()
    images = stage.server.images
    images.pause_s = 0.2
    await stage.start_agent()
    await stage.until(
        lambda: any(seen.sent > 400_000 for seen in stage.tape.downloads()), "P-IMAGE-1", "a download that goes on"
    )
    await stage.agent.kill()
    images.pause_s = 0.0
    first = next(seen for seen in stage.tape.downloads() if seen.sent > 400_000)
    await stage.start_agent()
    await stage.succeeded(offer, "P-PERSIST-2")
    again = _later(stage, first)
    offset = again[0].offset if again else 0
    stage.check("P-IMAGE-2", offset > 0, f"{first.sent} bytes were sent, after kill -9 the download began anew")


async def no_range(stage: Stage) -> None:
    """The connection breaks, and the server knows no Range: it sends everything again."""
    offer = stage.offer()
    images = stage.server.images
    images.ranges = False
    images.fault, images.times = ImageFault.RESET, 1
    await stage.start_agent()
    await stage.succeeded(offer, "P-IMAGE-2")
    stage.kept("P-IMAGE-2")


async def short(stage: Stage) -> None:
    """An answer ends early, and says that this was all."""
    offer = stage.offer()
    stage.server.images.fault, stage.server.images.times = ImageFault.SHORT, 1
    await stage.start_agent()
    await stage.until(
        lambda: offer.succeeded or bool(stage.tape.events(pb.EVENT_KIND_REJECTED, offer.attempt_id)),
        "P-IMAGE-3",
        "the rest of a short download",
    )
    stage.check("P-IMAGE-3", offer.succeeded, "a short answer was taken for a reason to reject")


async def busy(stage: Stage) -> None:
    """The image server answers 503 for a while."""
    offer = stage.offer()
    stage.server.images.fault, stage.server.images.times = ImageFault.BUSY, 2
    await stage.start_agent()
    await stage.succeeded(offer, "P-IMAGE-3")
    stage.kept("P-IMAGE-3")


async def flipped(stage: Stage) -> None:
    """One bit is wrong, always."""
    offer = stage.offer()
    stage.server.images.fault = ImageFault.FLIPPED
    await stage.start_agent()
    await _rejected_image(stage, offer.attempt_id, "P-IMAGE-5", "arbitrary_software")


async def endless(stage: Stage) -> None:
    """The answer never ends."""
    offer = stage.offer()
    stage.server.images.fault = ImageFault.ENDLESS
    await stage.start_agent()
    await _rejected_image(stage, offer.attempt_id, "P-IMAGE-4", "endless_data")
    most = max(seen.sent for seen in stage.tape.downloads())
    stage.check("P-IMAGE-4", most < _READ_AHEAD_BYTES, f"it took {most} bytes of an image that was signed as shorter")


async def _rejected_image(stage: Stage, attempt_id: str, clause: str, code: str) -> None:
    await stage.until(lambda: bool(stage.asked() or stage.rejected(attempt_id)), clause, "event REJECTED")
    finished = stage.tape.events(pb.EVENT_KIND_DOWNLOAD_FINISHED, attempt_id)
    stage.check(clause, not stage.asked() and not finished, "an image that differs from what was signed was accepted")
    if rejected := stage.rejected(attempt_id):
        said = rejected[0].failure_code
        stage.check(clause, said == code, f"REJECTED says {said!r}, the contract's word is {code}")


async def mirrors(stage: Stage) -> None:
    """The first address answers nobody, the second has nothing."""
    good = stage.server.images.base_url
    stage.desk.base_urls = ["https://127.0.0.1:9/targets", good.replace("/targets", "/nothing"), good]
    offer = stage.offer()
    await stage.start_agent()
    await stage.succeeded(offer, "P-IMAGE-1")
    wanted = {f"{image.sha256}.{image.path.rpartition('/')[2]}" for image in offer.images}
    names = {seen.name for seen in stage.tape.downloads()}
    stage.check("P-IMAGE-1", names == wanted, f"it asked for {sorted(names - wanted)[:2]}")


SCENARIOS = (
    Scenario("broken-link", "a download breaks half way", ("P-IMAGE-2", "P-IMAGE-3"), broken_link, short=True),
    Scenario("killed-while-downloading", "kill -9 half way", ("P-IMAGE-2",), killed_while_downloading, short=True),
    Scenario("no-range", "the image server knows no Range", ("P-IMAGE-2",), no_range),
    Scenario("short", "an image ends early", ("P-IMAGE-3",), short),
    Scenario("busy", "the image server is busy", ("P-IMAGE-3",), busy),
    Scenario("flipped", "one bit of an image is wrong", ("P-IMAGE-5",), flipped, short=True),
    Scenario("endless", "an image never ends", ("P-IMAGE-4",), endless),
    Scenario("mirrors", "two mirrors are gone, the third serves", ("P-IMAGE-1",), mirrors),
)
