"""A supplier signs at home for its own control unit, and a real agent installs it beside an image of ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from outrider.v1 import rollout_pb2

from tests.e2e.test_minimal_agent import UPDATE_TIMEOUT_S, attempts, provisioned, running, runs
from tests.evidence import believe, evidence_fields
from tests.processes import (
    CALL_TIMEOUT_S,
    PRIMARY_HARDWARE,
    SECONDARY_HARDWARE,
    CliOutcome,
    Installation,
    an_installation,
    eventually,
    run_cli,
)
from tests.vehicles import AVehicle

pytestmark = pytest.mark.processes

RELEASE = "2.0.0"
PATH = f"acme/brake-{RELEASE}.img"
OURS, THEIRS = b"gateway by us".ljust(20, b"."), b"brake by acme".ljust(20, b".")


class Supplier:
    """A supplier with a folder, a key, and no way to the installation but what is carried."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.key = folder / "acme.pem"
        self("keys", "make", self.key, "--unencrypted")

    def __call__(self, *arguments: str | Path) -> CliOutcome:
        return run_cli("--data", self.folder / "nothing", *arguments)

    def release(self, name: str, hardware_id: str, path: str, content: bytes) -> Path:
        (self.folder / Path(path).name).write_bytes(content)
        file = self.folder / f"{name}.yaml"
        image = f"{{file: {Path(path).name}, hardware_id: {hardware_id}, path: {path}, release_counter: 5}}"
        file.write_text(f"version: {RELEASE}\nimages: [{image}]\n")
        return file


def trusted(installation: Installation, supplier: Supplier) -> None:
    """The ceremony: our key for releases says what the supplier may, its own key that it is the supplier."""
    installation.must(
        *("keys", "delegate", "acme", f"acme={supplier.key}"),
        *("--path", "acme/*", "--hardware-id", SECONDARY_HARDWARE),
    )
    change = installation.data / "pending" / "image.json"
    for key in (installation.data / "keys" / "image" / "targets.pem", supplier.key):
        installation.must("keys", "sign", change, "--key", key, "--yes")
    installation.must("keys", "publish", change)


@pytest.mark.timeout(400)
@pytest.mark.uptane("M2", "M11", "I2")
def test_an_agent_installs_what_a_supplier_signed(tmp_path: Path) -> None:
    """Its list, its key, its bytes; our key for releases is not even there when it is published."""
    (tmp_path / "ours").mkdir()
    with an_installation(tmp_path / "ours", scale=60, poll_s=60, poll_live_s=60) as installation:
        supplier = Supplier(tmp_path / "acme")
        trusted(installation, supplier)
        sheet = supplier.folder / "acme.json"
        installation.must("keys", "renew", "image", "acme", "--out", sheet)

        wrong = supplier.release("wrong", PRIMARY_HARDWARE, "acme/gateway.img", b"not yours")
        refused = supplier("release", "supply", wrong, sheet)
        assert refused.exit_code == 4
        assert f"is for {PRIMARY_HARDWARE}; acme may speak for {SECONDARY_HARDWARE} only" in refused.stderr

        right = supplier.release("right", SECONDARY_HARDWARE, PATH, THEIRS)
        assert supplier("release", "supply", right, sheet).exit_code == 0
        signed = supplier("keys", "sign", sheet, "--key", supplier.key, "--yes")
        assert signed.exit_code == 0, signed.stderr

        ours = installation.data / "keys" / "image" / "targets.pem"
        away = ours.rename(tmp_path / "targets.pem")
        installation.must("keys", "publish", sheet)
        away.rename(ours)

        believe(installation.data)
        (tmp_path / "gw.img").write_bytes(OURS)
        (tmp_path / "brake.img").write_bytes(THEIRS)
        file = tmp_path / "release.yaml"
        file.write_text(
            f"version: {RELEASE}\nimages:\n"
            f"  - {{file: gw.img, hardware_id: {PRIMARY_HARDWARE}, release_counter: 5,"
            f" {evidence_fields(tmp_path / 'gw.img', version=RELEASE)}}}\n"
            f"  - {{supplier: acme, path: {PATH}, hardware_id: {SECONDARY_HARDWARE},"
            f" {evidence_fields(tmp_path / 'brake.img', version=RELEASE)}}}\n"
        )
        installation.must("release", "publish", file)
        status = installation.must("keys", "status")
        (role,) = (each for each in status["roles"] if each["role"] == "acme")
        assert (role["keys"][0].split()[0], role["state"]) == ("acme", "ok")

        vehicle = AVehicle("eu-1", region="eu")
        home = provisioned(installation, tmp_path / "vehicle", vehicle)
        plan = f"release: {RELEASE}\nholdout: 0%\nwaves: [{{name: all}}]\n"
        request = rollout_pb2.CreateRolloutRequest(plan=plan, rollout_id="eu", reason="test")
        installation.api().rollouts.CreateRollout(request, timeout=CALL_TIMEOUT_S)
        with running(home):
            assert eventually(
                lambda: attempts(installation, vehicle) == ["SUCCEEDED"], timeout_s=UPDATE_TIMEOUT_S, what="success"
            )
        assert runs(home, vehicle) == {vehicle.primary: OURS, vehicle.secondary: THEIRS}
        shown = installation.must("release", "show", RELEASE)
        assert [each.get("fault", "") for each in shown["evidence"]] == ["", ""]
