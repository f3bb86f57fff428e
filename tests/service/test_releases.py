"""Use cases of releases: only what is signed is registered, and a way back leads back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.model.ids import ReleaseVersion
from orchestrator.service.errors import InvalidInputError, StateError
from tests.service.world import World


async def test_the_way_back_is_registered_with_what_it_undoes(world: World) -> None:
    """It is found by that, at 3 a.m., and the ledger says it too."""
    release, back = await world.undoable()
    assert (back.version, back.reverts) == ("1.2.0-revert", "1.2.0")
    assert [image.release_counter for image in back.images] == [4, 4]
    old = await world.releases.get("1.1.0")
    assert [image.sha256 for image in back.images] == [image.sha256 for image in old.images]
    assert {image.path for image in back.images}.isdisjoint(image.path for image in (*old.images, *release.images))
    [entry] = [entry for entry in await world.journal("release_created") if entry.data.get("reverts")]
    assert (entry.data["release"], entry.data["reverts"]) == ("1.2.0-revert", "1.2.0")
    assert await world.releases.create(back, actor="alice", reason="again") == back


async def test_what_a_release_undoes_has_to_be_signed(world: World) -> None:
    """A stolen orchestrator or a mistaken operator must not turn any release into the way back from another."""
    _, back = await world.undoable()
    other = replace(back, version=ReleaseVersion("1.2.0-other"))
    with pytest.raises(StateError) as exists:
        await world.releases.create(other, actor="mallory", reason="x")
    assert exists.value.reason == "REVERT_EXISTS"
    with pytest.raises(StateError) as unmarked:
        await world.releases.create(replace(other, reverts=ReleaseVersion("")), actor="mallory", reason="x")
    assert unmarked.value.reason == "IMAGE_MISMATCH"
    old = await world.releases.get("1.1.0")
    later = await world.release("1.3.0", counter=5)
    claimed = replace(later, version=ReleaseVersion("1.3.1"), reverts=ReleaseVersion(old.version))
    with pytest.raises(StateError) as unsigned:
        await world.releases.create(claimed, actor="mallory", reason="x")
    assert unsigned.value.reason == "IMAGE_MISMATCH"
    assert "undone release is 1.1.0, but none is signed" in str(unsigned.value)


async def test_a_way_back_that_vehicles_would_refuse_is_not_registered(world: World) -> None:
    """It would be found out at the worst moment."""
    release = await world.release("1.2.0", counter=3)
    back = world.way_back("1.2.0", "1.1.0")
    low = replace(back, images=(replace(back.images[0], release_counter=3), back.images[1]))
    for faulty, words in (
        (replace(back, images=back.images[:1]), f"no image for {release.images[1].hardware_id}"),
        (low, f"release counter 3 for {release.images[0].hardware_id}"),
    ):
        with pytest.raises(StateError) as error:
            await world.releases.create(faulty, actor="alice", reason="x")
        assert (error.value.reason, words in str(error.value)) == ("REVERT_IMPOSSIBLE", True), error.value
    with pytest.raises(StateError) as unknown:
        await world.releases.create(replace(back, reverts=ReleaseVersion("9.0.0")), actor="alice", reason="x")
    assert unknown.value.reason == "RELEASE_UNKNOWN"
    for reverts in ("1.2", back.version):
        with pytest.raises(InvalidInputError):
            await world.releases.create(replace(back, reverts=ReleaseVersion(reverts)), actor="alice", reason="x")
