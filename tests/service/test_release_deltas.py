"""Which deltas lead to a release: read from what is signed, whatever becomes of the repository."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from prometheus_client import CollectorRegistry

from orchestrator.model.ids import ReleaseVersion
from orchestrator.service.release_deltas import savings
from orchestrator.telemetry import Metrics
from signing.image_repo import NewDelta
from tests.service.world import World


async def with_delta(world: World, folder: Path) -> tuple[str, str]:
    """Releases 1.1.0 and 1.2.0 with one delta between them; both digests."""
    newer, _ = await world.undoable()
    older = await world.releases.get("1.1.0")
    old, new = older.images[0], newer.image_for(older.images[0].hardware_id)
    assert new is not None
    file = folder / "delta"
    file.write_bytes(b"d")
    delta = NewDelta(old.sha256, new.sha256, old.length_bytes, new.length_bytes, file)
    world.repository.publish([], world.data.image_keys, world.signed_now(), deltas=[delta])
    return old.sha256, new.sha256


async def test_deltas_are_shown_with_what_they_start_from(world: World, tmp_path: Path) -> None:
    """By name of the release, though only digests are signed with a delta; the way back shares bytes, not the name."""
    _, new = await with_delta(world, tmp_path)
    release = await world.releases.get("1.2.0")
    [delta] = (await world.releases.deltas([release]))["1.2.0"]
    image = next(image for image in release.images if image.sha256 == new)
    assert (delta.hardware_id, delta.from_release) == (image.hardware_id, "1.1.0")
    assert (delta.length_bytes, delta.image_length_bytes) == (1, image.length_bytes)
    assert delta.sha256 == hashlib.sha256(b"d").hexdigest()


async def test_release_without_deltas_has_none(world: World, tmp_path: Path) -> None:
    """Each release that was asked for is answered."""
    await with_delta(world, tmp_path)
    older = await world.releases.get("1.1.0")
    other = replace(older, version=ReleaseVersion("9.9.9"), images=())
    assert await world.releases.deltas([older, other]) == {"1.1.0": [], "9.9.9": []}


async def test_repository_that_does_not_verify_has_no_deltas(world: World, tmp_path: Path) -> None:
    """Releases are still shown while somebody mends it: vehicles would use no delta either."""
    await with_delta(world, tmp_path)
    release = await world.releases.get("1.2.0")
    timestamp = world.data.image_repo / "metadata" / "timestamp.json"
    timestamp.write_bytes(timestamp.read_bytes().replace(b'"timestamp"', b'"stamptime"'))
    assert await world.releases.deltas([release]) == {"1.2.0": ()}


async def test_savings_are_told_by_release_and_start_and_forgotten_with_the_deltas(
    world: World, tmp_path: Path
) -> None:
    """A board shows what a release costs in bytes; what is listed no more must not stay on it."""
    old, new = await with_delta(world, tmp_path)
    release = await world.releases.get("1.2.0")
    length = next(image.length_bytes for image in release.images if image.sha256 == new)
    saved = savings(world.repository, world.signed_now())
    # The way back from 1.2.0 has the bytes of 1.1.0: who went back saves the same on the way to 1.2.0.
    assert saved == {("1.2.0", "1.1.0"): length - 1, ("1.2.0", "1.2.0-revert"): length - 1}
    metrics = Metrics(CollectorRegistry())
    metrics.show_savings(saved)
    name, labels = "outrider_delta_saved_bytes", {"version": "1.2.0", "from_version": "1.1.0"}
    assert metrics.registry.get_sample_value(name, labels) == length - 1
    metrics.show_savings({})
    assert metrics.registry.get_sample_value(name, labels) is None
    assert old != new
