"""A bad release reaches some vehicles, is stopped, and is undone: by command line, real signatures and real bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import grpc
import pytest
from outrider.v1 import fleet_pb2, rollout_pb2

from signing.verify import check_image
from tests.processes import CALL_TIMEOUT_S, Installation, an_installation, eventually, some_images
from tests.vehicles import AVehicle, enrolled, offered, refusal

pytestmark = pytest.mark.processes

SCALE = 600
"""The second wave of a revert comes after an hour of fleet time: six seconds."""
PLAN = """\
name: spring
release: 1.2.0
holdout: 0%
waves: [{name: all, soak: 0s}]
gate: {checkpoints: [20m, 30m]}
"""
TIMEOUT_S = 120.0


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation whose fleet time flies, with two releases and the way back from the second."""
    with an_installation(tmp_path_factory.mktemp("revert"), scale=SCALE) as running:
        running.publish("1.1.0", release_counter=11)
        running.publish("1.2.0", release_counter=12)
        yield running


def installed(house: Installation, vehicle: AVehicle) -> str:
    """The release that a vehicle's last manifest proves."""
    request = fleet_pb2.GetVehicleRequest(name=f"vehicles/{vehicle.vehicle_id}")
    return str(house.api().fleet.GetVehicle(request, timeout=CALL_TIMEOUT_S).installed_release)


def update(house: Installation, vehicle: AVehicle, content: str) -> str:
    """Take what is offered: verified, downloaded, permitted, installed, attested; the release that this proves."""
    directive = offered(vehicle)
    images = vehicle.verify().images
    wanted = {image.hardware_id: image.content for image in some_images(content)}
    for image in images:
        base = directive.image_base_urls[0].removeprefix(house.endpoints["images"])
        folder, _, name = image.path.rpartition("/")
        status, found = house.get_image(f"{base}/{folder + '/' if folder else ''}{image.sha256}.{name}")
        assert status == 200
        check_image(image, found)
        assert found == wanted[image.hardware_id]
    vehicle.check_in(vehicle.event(directive.attempt_id, "DOWNLOAD_FINISHED"))
    assert vehicle.authorize(directive.attempt_id).WhichOneof("answer") == "permit"
    vehicle.install(images)
    return str(vehicle.attest().installed_release)


def on_the_road(house: Installation, folder, *names: str) -> Sequence[AVehicle]:
    """Enrolled vehicles that verify for themselves, with their first manifests handed in."""
    vehicles = enrolled(house, *(AVehicle(name) for name in names))
    for vehicle in vehicles:
        vehicle.provision(house, folder / vehicle.vehicle_id)
        vehicle.check_in()
        vehicle.attest()
    return vehicles


@pytest.mark.timeout(300)
def test_vehicles_end_on_what_they_ran_before_by_their_own_word(house: Installation, tmp_path) -> None:
    """The whole way at 3 a.m.: two commands, no key but the operator's own."""
    hurt, also_hurt, spared = vehicles = on_the_road(house, tmp_path, "back-1", "back-2", "back-3")
    house.must("rollout", "start", house.write("spring.yaml", PLAN), "--yes")
    assert {update(house, vehicle, "1.2.0") for vehicle in (hurt, also_hurt)} == {"1.2.0"}
    house.must("rollout", "abort", "spring", "--reason", "brakes", "--yes")
    refused = house.cli("rollout", "resume", "spring", "--reason", "again")
    assert refused.exit_code == 4

    started = house.must("rollout", "revert", "spring", "--reason", "brakes", "--yes")
    assert started["name"] == "rollouts/spring-revert"
    assert started["reverts"] == "rollouts/spring"
    returned: set[str] = set()

    def all_returned() -> bool:
        for vehicle in vehicles:
            if vehicle.vehicle_id not in returned and vehicle.check_in().directive.WhichOneof("kind") == "install":
                assert update(house, vehicle, "1.1.0") == "1.2.0-revert"
                returned.add(vehicle.vehicle_id)
        return returned == {hurt.vehicle_id, also_hurt.vehicle_id}

    eventually(all_returned, timeout_s=TIMEOUT_S, what="both vehicles that had 1.2.0 went back")
    assert [installed(house, vehicle) for vehicle in vehicles] == ["1.2.0-revert", "1.2.0-revert", ""]
    done = eventually(
        lambda: house.must("rollout", "status", "spring-revert")["status"] == "ROLLOUT_STATUS_COMPLETED",
        timeout_s=TIMEOUT_S,
        what="the revert is through",
    )
    assert done
    assert spared.check_in().directive.WhichOneof("kind") != "install"


def test_old_release_itself_is_no_way_back(house: Installation, tmp_path) -> None:
    """A vehicle would take 1.1.0 after 1.2.0 for an attack, and rightly: so it is not offered, and told why."""
    (vehicle,) = on_the_road(house, tmp_path, "stuck-1")
    plan = "release: {}\nholdout: 0%\nwaves: [{{name: all, soak: 0s}}]\n"
    house.must("rollout", "start", house.write("up.yaml", plan.format("1.2.0")), "--id", "up", "--yes")
    assert update(house, vehicle, "1.2.0") == "1.2.0"
    house.must("rollout", "abort", "up", "--reason", "test", "--yes")
    house.must("rollout", "start", house.write("down.yaml", plan.format("1.1.0")), "--id", "down", "--yes")
    for _ in range(3):
        assert vehicle.check_in().directive.WhichOneof("kind") != "install"
    (said,) = house.must("vehicle", "explain", "stuck-1", "--rollout", "down")["explanations"]
    assert said["reason"] == "newer_installed"
    house.must("rollout", "abort", "down", "--reason", "test", "--yes")


def test_wave_waits_for_an_approver_who_did_not_start_it(house: Installation, tmp_path) -> None:
    """Two certificates, two people; an admin may both, but not of the same rollout."""
    (vehicle,) = on_the_road(house, tmp_path, "two-1")
    house.must("ca", "issue-operator", "bob", "--role", "approver")
    plan = "name: two\nrelease: 1.2.0\nholdout: 0%\nwaves: [{name: all, soak: 0s, approvals: 1}]\n"
    house.must("rollout", "start", house.write("two.yaml", plan), "--yes")
    request = rollout_pb2.ApproveWaveRequest(name="rollouts/two", wave="all", reason="seen")
    with pytest.raises(grpc.RpcError) as own:
        house.api().rollouts.ApproveWave(request, timeout=CALL_TIMEOUT_S)
    assert (refusal(own.value).code, refusal(own.value).reason) == (grpc.StatusCode.PERMISSION_DENIED, "OWN_ROLLOUT")
    wanted = house.must("rollout", "status", "two")["regions"]
    assert [region["approval_wanted"] for region in wanted] == ["all"]
    assert vehicle.check_in().directive.WhichOneof("kind") != "install"
    approved = house.api("bob").rollouts.ApproveWave(request, timeout=CALL_TIMEOUT_S)
    assert [(one.actor, one.reason) for one in approved.approvals] == [("bob", "seen")]
    assert update(house, vehicle, "1.2.0") == "1.2.0"
    house.must("rollout", "abort", "two", "--reason", "test", "--yes")
