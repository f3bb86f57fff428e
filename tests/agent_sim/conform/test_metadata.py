"""Each bad bundle has exactly its fault: the verifier that the contract asks for refuses it with that code."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from agent_sim.conform.metadata import Bundle, Signatory
from agent_sim.conform.scenarios.trust import _BAD
from agent_sim.conform.world import NEWER, ORIGIN, RELEASE, ConformVehicle, World
from signing.errors import VerificationError
from signing.verify import InstalledImage, PrimaryVerifier, VerifiedBundle

NOW = ORIGIN + timedelta(hours=1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture
def vehicle(world: World, request: pytest.FixtureRequest) -> ConformVehicle:
    return world.make_vehicle(f"veh-{abs(hash(request.node.nodeid)) % 10**9}")


class Primary:
    """A vehicle's verifier, as the factory provisions it."""

    def __init__(self, vehicle: ConformVehicle, folder: Path) -> None:
        self._vehicle = vehicle.vehicle
        provisioning = vehicle.folder.provisioning
        self._verifier = PrimaryVerifier(
            folder,
            vehicle_id=vehicle.vehicle_id,
            ecus={ecu.serial: ecu.hardware_id for ecu in self._vehicle.ecus},
            director_root=(provisioning / "director-root.json").read_bytes(),
            image_root=(provisioning / "image-root.json").read_bytes(),
        )

    def verify(self, bundle: Bundle, now: datetime = NOW) -> VerifiedBundle:
        files = {("director", name): content for name, content in bundle.director.items()}
        files |= {("image", name): content for name, content in bundle.image.items()}
        installed = {
            ecu.serial: InstalledImage(ecu.installed.path, ecu.installed.release_counter) for ecu in self._vehicle.ecus
        }
        return self._verifier.verify(files, now=now, installed=installed)


def test_good_bundle_is_taken(world: World, vehicle: ConformVehicle, tmp_path: Path) -> None:
    """Without a good one nothing that is refused proves anything."""
    bundle = Signatory(world, vehicle).assign(world.released(RELEASE, vehicle), NOW)
    images = Primary(vehicle, tmp_path).verify(bundle).images
    assert {image.sha256 for image in images} == {image.sha256 for image in world.released(RELEASE, vehicle)}


@pytest.mark.parametrize(("make", "codes"), [pytest.param(bad[2], bad[4], id=bad[0]) for bad in _BAD])
def test_bad_bundle_is_refused_for_its_one_fault(
    world: World,
    vehicle: ConformVehicle,
    tmp_path: Path,
    make: Callable[[Signatory, datetime], Bundle],
    codes: tuple[str, ...],
) -> None:
    """A bundle with a second fault would let an agent pass that looks only at that one."""
    primary, signatory = Primary(vehicle, tmp_path), Signatory(world, vehicle)
    with pytest.raises(VerificationError) as caught:
        primary.verify(make(signatory, NOW))
    assert caught.value.code.value in codes
    primary.verify(signatory.assign(world.released(RELEASE, vehicle), NOW))


def test_older_versions_are_refused_after_newer_ones(world: World, vehicle: ConformVehicle, tmp_path: Path) -> None:
    """A replay of what was signed before."""
    primary, signatory = Primary(vehicle, tmp_path), Signatory(world, vehicle)
    primary.verify(signatory.assign(world.released(RELEASE, vehicle), NOW))
    with pytest.raises(VerificationError) as caught:
        primary.verify(signatory.rolled_back(world.released(NEWER, vehicle), NOW))
    assert caught.value.code.value == "rollback"
