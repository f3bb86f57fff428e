"""Keys are rotated under a serving installation, by the command line, and a vehicle goes on without a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.test_edge_install import start
from tests.processes import Installation, an_installation, eventually
from tests.vehicles import AVehicle, enrolled, offered

pytestmark = pytest.mark.processes


def rotate(installation: Installation, repository: str, *roles: str) -> None:
    """A whole ceremony with the root keys that `keys init` made."""
    change = installation.data / "pending" / f"{repository}.json"
    for role in roles:
        installation.must("keys", "rotate", repository, role)
    for number in (1, 3):
        key = installation.data / "keys" / repository / f"root-{number}.pem"
        installation.must("keys", "sign", change, "--key", key, "--yes")
    installation.must("keys", "publish", change)


@pytest.mark.uptane("A25", "C-root")
def test_a_vehicle_follows_rotations_of_every_online_key(tmp_path: Path) -> None:
    """Between two polls all online keys of both repositories become others; the offer that stands is verified again."""
    with an_installation(tmp_path) as installation:
        installation.publish("1.1.0", release_counter=2)
        (vehicle,) = enrolled(installation, AVehicle("eu-1", region="eu"))
        vehicle.provision(installation, tmp_path / "vehicle")
        vehicle.check_in()
        vehicle.attest()
        start(installation, "eu")
        offered(vehicle)
        images = vehicle.verify().images
        assert images
        rotate(installation, "director", "targets", "snapshot", "timestamp")
        rotate(installation, "image", "snapshot", "timestamp")
        for role in ("targets", "snapshot", "timestamp"):
            (installation.data / "keys" / "director" / f"{role}.pem").unlink()

        def follows() -> bool:
            offered(vehicle)
            assert vehicle.verify().images == images
            assert vehicle.verifier is not None
            return [held.root for held in vehicle.verifier.versions()] == [2, 2]

        # Workers look at the Image repository once a second; the Director's new root is served at once.
        assert eventually(follows, what="both roots in the vehicle")
        findings = installation.must("doctor")["findings"]
        assert {each["level"] for each in findings if each["check"] == "director root"} == {"ok"}
        assert not installation.log_events("request_refused"), "no request met a signer without its keys"
