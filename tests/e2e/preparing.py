"""A data folder with keys, releases and an enrolled fleet, made once a test session and copied for each test."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from outrider.v1 import fleet_pb2

from agent_sim.evidence import write_evidence
from agent_sim.fleet import build_fleet
from agent_sim.images import build_image, image_path, release_counter
from agent_sim.scenario import load_scenario
from tests.e2e.load import FACTORY, IMAGE_BYTES, SMALL, Load
from tests.e2e.rolling import Road
from tests.evidence import believe
from tests.processes import CALL_TIMEOUT_S, Installation, an_installation, eventually

FACTORY_TIMEOUT_S = 180.0


def prepared(shared: Path, load: Load = SMALL) -> Path:
    """The prepared folder, made by whoever comes first: test processes share it."""
    shared.mkdir(exist_ok=True)
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "made").exists():
            shutil.rmtree(shared / "fleet", ignore_errors=True)
            prepare(shared / "fleet", load)
            (shared / "made").touch()
    return shared / "fleet"


def prepare(folder: Path, load: Load, **more: object) -> None:
    """Make an installation with releases and a fleet that has enrolled and attested; `more` are settings."""
    folder.mkdir()
    scenario_file = folder / "scenario.toml"
    scenario_file.write_text(load.scenario())
    scenario = load_scenario(scenario_file)
    settings = {
        "scale": load.scale,
        "evaluator_tick_s": load.tick_s,
        "workers": load.workers,
        "connection_age_s": load.connection_age_s,
    }
    with an_installation(folder, poll_s=300, poll_live_s=60, **settings, **more) as installation:
        fleet = build_fleet(scenario, folder / "vehicles")
        api = installation.api()
        request = fleet_pb2.ImportVehiclesRequest(csv=fleet.csv.read_bytes(), reason="test")
        assert api.fleet.ImportVehicles(request, timeout=CALL_TIMEOUT_S).added_count == load.size
        tokens = api.fleet.CreateEnrollmentTokens(
            fleet_pb2.CreateEnrollmentTokensRequest(reason="test"), timeout=CALL_TIMEOUT_S
        ).tokens
        lines = [json.dumps({"vehicle_id": each.vehicle_id, "token": each.token}) for each in tokens]
        (folder / "tokens.jsonl").write_text("\n".join(lines))
        for version in load.releases:
            contents = {
                hardware_id: image.file.read_bytes()
                if version == FACTORY
                else build_image(hardware_id, version, IMAGE_BYTES, scenario.seed)
                for hardware_id, image in fleet.factory.items()
            }
            publish(installation, version, contents)
        road = Road(folder, installation, load)
        with road.driving("--tokens", str(folder / "tokens.jsonl")):
            eventually(
                lambda: sum(each["manifest_submitted"] for each in road.vehicles().values()) == load.size,
                timeout_s=FACTORY_TIMEOUT_S,
                what="every vehicle has enrolled and attested",
            )
        installation.terminate()
    # The copies choose ports of their own: several of them serve at once.
    (folder / "data" / "endpoints.json").unlink()
    (folder / "simulator.json").unlink()


def publish(installation: Installation, version: str, contents: Mapping[str, bytes], *options: str) -> None:
    """Sign and register a release whose images simulated vehicles understand."""
    folder = installation.data.parent / f"release-{version}"
    folder.mkdir()
    images = []
    for hardware_id, content in sorted(contents.items()):
        file = folder / f"{hardware_id}.img"
        file.write_bytes(content)
        images.append(
            {
                "file": f"{hardware_id}.img",
                "hardware_id": hardware_id,
                "path": image_path(hardware_id, version),
                "release_counter": release_counter(version),
                **{kind: str(each) for kind, each in write_evidence(file, name=hardware_id, version=version).items()},
            }
        )
    believe(installation.data)
    # JSON is YAML.
    (folder / "release.yaml").write_text(json.dumps({"version": version, "notes": "", "images": images}))
    installation.must("release", "publish", folder / "release.yaml", *options)
