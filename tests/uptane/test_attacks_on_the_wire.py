"""The real agent against a hostile Director, a hostile mirror and a hostile network, on real sockets.

Every attack has to end alike: nothing is installed, no permit is even asked for, the attempt is rejected with the
attack's name, and the manifest that each vehicle signs afterwards reports it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from securesystemslib.signer import CryptoSigner

from agent_sim.images import image_path
from agent_sim.scenario import parse_scenario
from agent_sim.simulation import RunLimits
from signing.image_repo import NewImage
from tests.agent_sim.ground import SCENARIO, Ground, release_images
from tests.uptane.forging import forge
from tests.uptane.hostile import Files, HostileOrchestrator, entry

TWO = SCENARIO.partition("[[hardware]]")[0].replace("size = 8", "size = 2") + (
    '[[hardware]]\nname = "gen1"\nshare = 1.0\necus = ["acme-gw-1", "acme-brake-1"]\n'
    '[run]\nuntil = "duration"\nduration = "40m"\n'
)
GATEWAY, OLD = image_path("acme-gw-1", "1.1.0"), image_path("acme-gw-1", "0.9.0")


class Field(Ground):
    """Two vehicles that are offered 1.1.0 by somebody hostile."""

    orchestrator: HostileOrchestrator

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, parse_scenario(TWO), served_by=HostileOrchestrator, offered=False)
        (folder / "old.img").write_bytes(b"full of holes")
        old = NewImage(OLD, folder / "old.img", "acme-gw-1", release_counter=1, version="0.9.0")
        self.orchestrator.offer("0.9.0", [old], [])
        self.orchestrator.offer("1.1.0", release_images(self.fleet, folder, "1.1.0"), list(self.orchestrator.vehicles))

    def serial(self, vehicle_id: str, hardware_id: str = "acme-gw-1") -> str:
        served = self.orchestrator.vehicles[vehicle_id]
        return next(serial for serial, hardware in served.hardware_ids.items() if hardware == hardware_id)

    def assigns(self, listed: Callable[[str], dict[str, Any]], **how: Any) -> None:
        """From now on the Director assigns this, by vehicle, signed with its own keys."""

        def network(vehicle_id: str, honest: Files) -> Files:
            now = self.orchestrator.fleet_now() + how.get("signed", timedelta(0))
            more = {key: value for key, value in how.items() if key != "signed"}
            image = {key: content for key, content in honest.items() if key[0] == "image"}
            forged = self.orchestrator.director.files(vehicle_id, listed(vehicle_id), version=7, now=now, **more)
            return image | forged

        self.orchestrator.network = network

    async def refused_as(self, attack: str) -> dict[str, Any]:
        """Let it happen, and see that every vehicle refused and told."""
        report = await self.ride()
        assert [vehicle["release"] for vehicle in report["vehicles"].values()] == ["1.0.0"] * 2
        for vehicle_id, served in self.orchestrator.vehicles.items():
            assert not report["vehicles"][vehicle_id]["installs"]
            assert not served.orchestrator.asked
            (events,) = served.orchestrator.applied.values()
            assert events[-1].failure_code == attack
            reported = {manifest_report.attack for manifest_report in served.orchestrator.manifests[-1].reports}
            assert attack in reported
        return report


@pytest.fixture
def ground(tmp_path: Path) -> Field:
    return Field(tmp_path)


async def test_the_same_ground_without_an_attack_ends_in_an_update(ground: Field) -> None:
    """What is refused below is refused for the attack and for nothing else."""
    released = entry_of(ground, GATEWAY)
    ground.assigns(lambda vehicle_id: {GATEWAY: for_units(released, [ground.serial(vehicle_id)])})
    report = await ground.ride()
    for vehicle_id, vehicle in report["vehicles"].items():
        assert vehicle["ecus"][ground.serial(vehicle_id)]["path"] == GATEWAY


def entry_of(ground: Field, path: str) -> dict[str, Any]:
    """What the Image repository lists."""
    versions = ground.orchestrator.repository.versions()
    content = ground.orchestrator.repository.metadata_file(f"{versions.targets}.targets.json")
    assert content is not None
    listed: dict[str, Any] = json.loads(content)["signed"]["targets"][path]
    return listed


def for_units(released: dict[str, Any], serials: list[str]) -> dict[str, Any]:
    """The same image, assigned."""
    match = released["custom"]["shallMatch"]
    units = {serial: {"hardwareId": match["hardwareIds"][0]} for serial in serials}
    return {
        "length": released["length"],
        "hashes": released["hashes"],
        "custom": {"shallMatch": match, "ecuIdentifiers": units},
    }


@pytest.mark.uptane("A1", "F13", "V5")
@pytest.mark.parametrize(("repository", "role"), [("director", "targets"), ("image", "timestamp")])
async def test_a01_metadata_under_an_unknown_key(ground: Field, repository: str, role: str) -> None:
    """Whoever breaks TLS swaps a file by one of the same content under a key of theirs."""
    thief = CryptoSigner.generate_ed25519()

    def network(vehicle_id: str, honest: Files) -> Files:
        name = next(name for of, name in honest if of == repository and name.endswith(f"{role}.json"))
        return honest | {(repository, name): forge(honest[repository, name], lambda payload: None, [thief])}

    ground.orchestrator.network = network
    await ground.refused_as("arbitrary_software")


@pytest.mark.uptane("A1", "V1", "V9")
async def test_a01_other_bytes_of_the_same_length(ground: Field) -> None:
    """A mirror is believed nothing."""
    ground.orchestrator.mirror.answer = ground.orchestrator.mirror.swapped
    await ground.refused_as("arbitrary_software")


@pytest.mark.uptane("A2", "F12")
async def test_a02_software_that_was_never_released(ground: Field) -> None:
    """All of the Director's online keys are stolen; the thief's image is not in the Image repository."""
    ground.assigns(lambda vehicle_id: {"acme/evil.img": entry(b"evil", "acme-gw-1", 9, [ground.serial(vehicle_id)])})
    await ground.refused_as("image_mismatch")


@pytest.mark.uptane("A2", "F12")
async def test_a02_other_bytes_under_a_released_name(ground: Field) -> None:
    """The name is released, the bytes are the thief's."""
    counter = entry_of(ground, GATEWAY)["custom"]["shallMatch"]["releaseCounter"]
    ground.assigns(lambda vehicle_id: {GATEWAY: entry(b"evil", "acme-gw-1", counter, [ground.serial(vehicle_id)])})
    await ground.refused_as("image_mismatch")


@pytest.mark.uptane("A7", "V9")
async def test_a07_an_older_release(ground: Field) -> None:
    """What was released once, and is behind what runs, is not assigned again by a thief."""
    released = entry_of(ground, OLD)
    ground.assigns(lambda vehicle_id: {OLD: for_units(released, [ground.serial(vehicle_id)])})
    await ground.refused_as("rollback")


@pytest.mark.uptane("A9", "C-timestamp")
async def test_a09_files_that_have_expired(ground: Field) -> None:
    """A mirror that stands still, with what was good a week ago."""
    released = entry_of(ground, GATEWAY)
    ground.assigns(
        lambda vehicle_id: {GATEWAY: for_units(released, [ground.serial(vehicle_id)])}, signed=-timedelta(days=7)
    )
    await ground.refused_as("freeze")


@pytest.mark.uptane("A10", "A11")
@pytest.mark.parametrize("which", ["all", "timestamp"])
async def test_a11_another_vehicle_s_files(ground: Field, which: str) -> None:
    """Good signatures, fresh, and an empty list that would cancel the update: but of the other vehicle."""
    first, second = ground.orchestrator.vehicles
    other = {first: second, second: first}

    def network(vehicle_id: str, honest: Files) -> Files:
        now = ground.orchestrator.fleet_now()
        files = ground.orchestrator.director.files(other[vehicle_id], {}, version=7, now=now)
        kept = {key: content for key, content in honest.items() if key[0] == "image" or which == "timestamp"}
        return kept | {key: content for key, content in files.items() if which == "all" or key[1] == "timestamp.json"}

    ground.orchestrator.network = network
    await ground.refused_as("wrong_vehicle")


@pytest.mark.uptane("A11", "C-targets")
async def test_a11_a_unit_of_another_vehicle(ground: Field) -> None:
    """Bound to this vehicle, for a unit of that one."""
    first, second = ground.orchestrator.vehicles
    other = {first: second, second: first}
    released = entry_of(ground, GATEWAY)
    ground.assigns(lambda vehicle_id: {GATEWAY: for_units(released, [ground.serial(other[vehicle_id])])})
    await ground.refused_as("wrong_ecu")


@pytest.mark.uptane("A13", "C-targets")
async def test_a13_metadata_above_its_cap(ground: Field) -> None:
    """Signed by the right key, and larger than a vehicle reads."""
    ground.assigns(lambda vehicle_id: {}, extra={"padding": "x" * (64 << 10)})
    await ground.refused_as("endless_data")


@pytest.mark.uptane("A13")
@pytest.mark.parametrize("how", ["longer", "endless"])
async def test_a13_images_that_do_not_end(ground: Field, how: str) -> None:
    """No more is read than was signed, and a little."""
    mirror = ground.orchestrator.mirror
    mirror.answer = getattr(mirror, how)
    await ground.refused_as("endless_data")
    assert max(mirror.served) < 16 << 20, "the vehicle hung up"


@pytest.mark.uptane("A14", "V2")
async def test_a14_a_mirror_that_is_slow_and_never_silent(ground: Field) -> None:
    """Given up after a window, again and again; once it serves, the update goes on, and the manifest tells of it."""
    mirror = ground.orchestrator.mirror
    ground.limits = RunLimits(slow_window_s=0.2)

    async def slow_at_first(request: web.Request, content: bytes) -> web.StreamResponse:
        if len(mirror.served) >= 4:
            mirror.answer = None
            return await ground.orchestrator.serve_image(request)
        return await mirror.slow(request, content)

    mirror.answer = slow_at_first
    report = await ground.ride()
    assert report["downloads"]["slow"] == 4
    assert max(mirror.served) < 2_000
    assert [vehicle["release"] for vehicle in report["vehicles"].values()] == ["1.1.0"] * 2
    for served in ground.orchestrator.vehicles.values():
        reported = [report.attack for manifest in served.orchestrator.manifests for report in manifest.reports]
        assert reported.count("slow_retrieval") == 1


@pytest.mark.uptane("A15")
async def test_a15_images_that_never_become_whole(ground: Field) -> None:
    """It is a broken link and no attack to the vehicle: nothing is installed, and it goes on trying."""
    mirror = ground.orchestrator.mirror
    mirror.answer = mirror.truncated
    report = await ground.ride()
    assert [vehicle["release"] for vehicle in report["vehicles"].values()] == ["1.0.0"] * 2
    assert not any(served.orchestrator.asked for served in ground.orchestrator.vehicles.values())
    assert len(mirror.served) > 2


@pytest.mark.uptane("A16", "C-snapshot")
async def test_a16_a_snapshot_of_another_time(ground: Field) -> None:
    """Each file was signed, never these together."""

    def network(vehicle_id: str, honest: Files) -> Files:
        now = ground.orchestrator.fleet_now()
        older = ground.orchestrator.director.files(vehicle_id, {"acme/x.img": {}}, version=7, now=now)
        newer = ground.orchestrator.director.files(vehicle_id, {}, version=7, now=now)
        mixed = newer | {("director", "7.snapshot.json"): older["director", "7.snapshot.json"]}
        return {key: content for key, content in honest.items() if key[0] == "image"} | mixed

    ground.orchestrator.network = network
    await ground.refused_as("mix_and_match")


@pytest.mark.uptane("A27", "M15")
async def test_a27_a_path_that_leads_elsewhere(ground: Field) -> None:
    """Signed, and still no way out of the folder of downloads."""
    ground.assigns(lambda vehicle_id: {"../../evil.img": entry(b"evil", "acme-gw-1", 9, [ground.serial(vehicle_id)])})
    await ground.refused_as("bad_name")


@pytest.mark.uptane("A30")
async def test_a30_a_name_twice_in_one_file(ground: Field) -> None:
    """Readers differ on which of the two counts; here neither does."""

    def network(vehicle_id: str, honest: Files) -> Files:
        content = honest["director", "timestamp.json"].replace(b'"version":', b'"version":1,"version":', 1)
        return honest | {("director", "timestamp.json"): content}

    ground.orchestrator.network = network
    await ground.refused_as("malformed")
