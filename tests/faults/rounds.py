"""One release after another to the same fleet: each is published when its turn comes."""

from __future__ import annotations

from agent_sim.images import build_image
from agent_sim.scenario import load_scenario
from tests.e2e.load import IMAGE_BYTES
from tests.e2e.preparing import publish
from tests.e2e.rolling import Road

FIRST_MINOR = 3
"""Those before are published with the fleet."""


def version_of_round(number: int) -> str:
    """The release of a round, counted from 0."""
    return f"1.{number + FIRST_MINOR}.0"


def begin_round(road: Road, number: int) -> str:
    """Publish a release that nobody has yet, and start a rollout of it to the whole fleet; the rollout's id."""
    version = version_of_round(number)
    scenario = load_scenario(road.folder / "scenario.toml")
    hardware = sorted({ecu for variant in scenario.hardware for ecu in variant.ecus})
    contents = {name: build_image(name, version, IMAGE_BYTES, scenario.seed) for name in hardware}
    # The one before may have been aborted: no way back could be signed.
    publish(road.installation, version, contents, "--no-revert")
    return road.start_rollout(version)
