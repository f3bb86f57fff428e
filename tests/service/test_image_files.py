"""The Image repository's metadata in memory: whole or not at all, and only what a vehicle lacks."""

from __future__ import annotations

import pytest
from tuf.api.exceptions import RepositoryError

from orchestrator.model.ids import ReleaseVersion
from orchestrator.service.image_files import TIMESTAMP, ImageFiles
from orchestrator.service.vehicles import Held, Install
from signing.image_repo import ImageRepository
from tests.service.world import Car, World

PLAN = "{release: 1.2.0, waves: [{name: all}], holdout: 0%}"


def test_current_files_are_those_that_the_timestamp_leads_to(world: World) -> None:
    """Files of older versions stay in the folder and must not be sent."""
    folder = world.data.image_repo / "metadata"
    versions = ImageRepository(world.data.image_repo).versions()
    files = world.images.newer_than(Held())
    assert set(files) == {
        TIMESTAMP,
        "1.root.json",
        f"{versions.snapshot}.snapshot.json",
        f"{versions.targets}.targets.json",
    }
    assert all(content == (folder / name).read_bytes() for name, content in files.items())
    assert len(list(folder.glob("*.targets.json"))) > 1


def test_vehicle_gets_what_it_lacks_and_no_more(world: World) -> None:
    """By its timestamp for the chain; behind a root everything: what it holds may be by keys that are gone."""
    versions = ImageRepository(world.data.image_repo).versions()
    current = Held(root=1, timestamp=versions.timestamp)
    assert world.images.newer_than(current) == {}
    assert set(world.images.newer_than(Held(root=0, timestamp=versions.timestamp))) > {"1.root.json", TIMESTAMP}
    assert TIMESTAMP in world.images.newer_than(Held(root=1, timestamp=versions.timestamp - 1))


def test_named_files_leave_out_what_is_not_there(world: World) -> None:
    """What is absent is the caller's NOT_FOUND; a path is just another unknown name."""
    found = world.images.named(["1.root.json", "2.root.json", TIMESTAMP, "../root.pem", ""])
    assert list(found) == ["1.root.json", TIMESTAMP]


async def test_publication_is_taken_up_and_a_torn_folder_leaves_the_last_good_state(world: World) -> None:
    """Publishing must need no restart, and a half-written file no 3 a.m. call."""
    before = world.images.named([TIMESTAMP])
    await world.release("1.2.0", counter=3)
    published = world.images.named([TIMESTAMP])
    assert published != before
    timestamp = world.data.image_repo / "metadata" / TIMESTAMP
    good = timestamp.read_bytes()
    for torn in (b"", good[:-20], b"[]"):
        timestamp.write_bytes(torn)
        with pytest.raises((ValueError, RepositoryError)):
            world.images.refresh()
        assert world.images.named([TIMESTAMP]) == published
    timestamp.unlink()
    with pytest.raises(OSError, match="timestamp"):
        ImageFiles(timestamp.parent).refresh()
    assert world.images.named([TIMESTAMP]) == published


async def test_vehicle_that_is_assigned_a_fresh_release_gets_the_targets_that_list_it(world: World) -> None:
    """Who registers and starts within a second is faster than a worker looks; the vehicle would report an attack."""
    car = Car("first")
    await world.add(car)
    world.images.refresh = lambda: None  # type: ignore[method-assign]
    await world.release("1.2.0", counter=3)
    del world.images.refresh
    await world.start(PLAN)
    reply = await world.check_in(car)
    assert isinstance(reply.directive, Install)
    newest = ImageRepository(world.data.image_repo).versions().targets
    assert f"{newest}.targets.json" in reply.image_files


async def test_folder_that_cannot_be_read_fails_no_check_in(world: World) -> None:
    """What was read last is served on; the log says why it is old."""
    before = world.images.named([TIMESTAMP])
    (world.data.image_repo / "metadata" / TIMESTAMP).unlink()
    await world.images.cover(ReleaseVersion("1.2.0"))
    assert world.images.named([TIMESTAMP]) == before
