"""The Director's desk: what is signed when, and that the same state gives the same bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.model.ids import FleetTime, ReleaseVersion
from orchestrator.model.vehicle import DirectorState, SignedSnapshot
from orchestrator.service.director import (
    TARGETS_LIFE_MS,
    TIMESTAMP_KEPT_MS,
    DirectorDesk,
    assigned,
    assignment,
    renewed,
)
from tests.builders import (
    MINUTE_MS,
    NOW,
    PRIMARY_HARDWARE,
    SECONDARY_HARDWARE,
    a_release,
    a_vehicle,
    after,
    an_ecu,
)
from tests.service.world import World

ISSUED = assigned(DirectorState(), ReleaseVersion("1.1.0"), NOW)


def test_assignment_raises_every_version_even_within_one_second() -> None:
    """A vehicle would take two different files of one version for an attack."""
    again = assigned(ISSUED, ReleaseVersion(""), NOW)
    assert again.version == ISSUED.version + 1
    assert again.timestamp_version == ISSUED.timestamp_version + 1
    assert again.release == ""


@pytest.mark.uptane("A8")
def test_version_jumps_ahead_of_a_lost_one() -> None:
    """Minutes since 2020 are the floor, so that a store restored from a backup still issues higher versions."""
    later = assigned(DirectorState(), ReleaseVersion(""), after(90 * MINUTE_MS))
    assert later.version == ISSUED.version + 90


@pytest.mark.parametrize(
    ("age_ms", "targets", "timestamp"),
    [
        (0, False, False),
        (TIMESTAMP_KEPT_MS, False, False),
        (TIMESTAMP_KEPT_MS + 1, False, True),
        (TARGETS_LIFE_MS // 2, False, True),
        (TARGETS_LIFE_MS // 2 + 1, True, True),
    ],
)
def test_files_are_renewed_before_they_end(age_ms: int, targets: bool, timestamp: bool) -> None:
    """Signed on change, not on poll; and never found expired by a vehicle that calls now and then."""
    issued = replace(ISSUED, snapshot=SignedSnapshot(ISSUED.version, 400, "ab" * 32, "cd" * 8))
    state = renewed(issued, FleetTime(NOW + age_ms))
    assert (state.version > ISSUED.version, state.timestamp_version > ISSUED.timestamp_version) == (targets, timestamp)
    assert state.release == ISSUED.release
    assert (state is issued) == (not targets and not timestamp)


@pytest.mark.uptane("D6")
def test_vehicle_that_was_never_served_gets_its_first_files() -> None:
    """Version 0 means none: it must be issued, whatever the date says."""
    assert renewed(DirectorState(), NOW).version > 0


def test_assignment_lists_each_image_with_the_units_it_fits_and_no_others() -> None:
    """Two units of one hardware share an image; an image for hardware that is not there is not listed."""
    vehicle = a_vehicle(
        ecus=[an_ecu("gw"), an_ecu("door-1", hardware_id="door", primary=False), an_ecu("door-2", hardware_id="door")]
    )
    release = a_release(hardware_ids=["door", PRIMARY_HARDWARE, SECONDARY_HARDWARE])
    images = {image.hardware_id: image.ecu_serials for image in assignment(vehicle, release).images}
    assert images == {"door": ("door-1", "door-2"), PRIMARY_HARDWARE: ("gw",)}
    assert assignment(vehicle, None).images == ()


async def test_same_state_is_signed_once_and_gives_the_same_bytes_anywhere(world: World) -> None:
    """Another worker must be able to answer the second half of a conversation."""
    vehicle, release = a_vehicle(), a_release()
    first = await world.director.files(vehicle, ISSUED, release)
    asked = world.signer.asked
    assert await world.director.files(vehicle, ISSUED, release) == first
    assert world.signer.asked == asked, "remembered"
    twin = DirectorDesk(world.signer, world.data.director_metadata)
    assert await twin.files(vehicle, ISSUED, release) == first
    other = await world.director.files(vehicle, replace(ISSUED, version=ISSUED.version + 1), release)
    assert set(other) != set(first)
    asked = world.signer.asked
    assert await world.director.files(vehicle, ISSUED, release) == first
    assert world.signer.asked == asked + 1, "of one vehicle what it has now is kept, and nothing from before"


@pytest.mark.uptane("D1")
async def test_roots_are_served_above_the_one_that_is_held(world: World) -> None:
    """A vehicle walks up one root at a time and wants none that it has."""
    assert list(world.director.roots_above(0)) == ["1.root.json"]
    assert list(world.director.roots_above(1)) == []
