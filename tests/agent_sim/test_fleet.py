"""Fleets on disk: the same from the same seed, complete for import, and refused when they do not fit."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_sim.cli import DEMO_SCENARIO
from agent_sim.errors import FleetFolderError
from agent_sim.fleet import CSV_FIELDS, build_fleet, dealt, load_fleet, make_vehicles
from agent_sim.images import ImageError, build_image, image_path, release_counter, version_of
from agent_sim.scenario import Scenario, load_scenario, parse_scenario
from signing.keys import public_key_from_base64
from tests.agent_sim.test_scenario import GOOD


def a_scenario(*, seed: int = 1) -> Scenario:
    return parse_scenario(f"seed = {seed}\n" + GOOD)


def test_same_seed_makes_the_same_vehicles() -> None:
    """A run that failed can be repeated."""
    scenario = load_scenario(DEMO_SCENARIO)
    assert make_vehicles(scenario) == make_vehicles(scenario)
    other = scenario.model_copy(update={"seed": scenario.seed + 1})
    assert make_vehicles(scenario) != make_vehicles(other)


def test_demo_fleet_has_the_shares_it_declares() -> None:
    """200 vehicles, 3 regions, 4 cohorts, 2 variants, each with a Primary and a Secondary."""
    vehicles = make_vehicles(load_scenario(DEMO_SCENARIO))
    assert Counter(vehicle.region for vehicle in vehicles) == {"eu": 80, "us": 80, "apac": 40}
    assert Counter(vehicle.cohort for vehicle in vehicles) == {
        "internal": 10,
        "canary": 20,
        "early": 50,
        "general": 120,
    }
    assert Counter(vehicle.hardware for vehicle in vehicles) == {"gen1": 120, "gen2": 80}
    assert Counter(vehicle.tags for vehicle in vehicles) == {(): 180, ("beta",): 20}
    assert {tuple(ecu.primary for ecu in vehicle.ecus) for vehicle in vehicles} == {(True, False)}


@given(st.integers(0, 9), st.lists(st.integers(1, 100), min_size=1, max_size=6), st.integers(1, 300))
def test_shares_are_dealt_exactly_to_one(seed: int, weights: list[int], count: int) -> None:
    """No cohort gets more or less than it must, whatever the numbers."""
    shares = [(index, weight / sum(weights)) for index, weight in enumerate(weights)]
    values = Counter(dealt(seed, "test", shares, count))
    assert sum(values.values()) == count
    assert all(abs(values[index] - share * count) < 1 + 1e-9 for index, share in shares)


@pytest.mark.uptane("D7")
def test_csv_is_what_import_reads(tmp_path: Path) -> None:
    """One row a control unit, with a public key that the server can use."""
    fleet = build_fleet(a_scenario(), tmp_path / "fleet")
    rows = list(csv.DictReader(fleet.csv.read_text().splitlines()))
    assert tuple(rows[0]) == CSV_FIELDS
    assert len(rows) == 10
    assert len({row["ecu_serial"] for row in rows}) == 10
    assert {row["primary"] for row in rows} == {"true"}
    assert all(public_key_from_base64(row["public_key"]) for row in rows)


def test_keys_are_private_and_never_from_the_seed(tmp_path: Path) -> None:
    """Two fleets of one scenario have the same vehicles and different secrets."""
    first, second = (build_fleet(a_scenario(), tmp_path / name) for name in ("a", "b"))
    assert first.vehicles == second.vehicles
    keys = [fleet.home("sim-000000").path / "sim-000000-e0.pem" for fleet in (first, second)]
    assert keys[0].read_bytes() != keys[1].read_bytes()
    assert keys[0].stat().st_mode & 0o077 == 0


def test_fleet_is_not_overwritten(tmp_path: Path) -> None:
    """Keys that were imported must not vanish by a repeated command."""
    build_fleet(a_scenario(), tmp_path)
    with pytest.raises(FleetFolderError, match="holds a fleet already; remove it or choose another folder"):
        build_fleet(a_scenario(), tmp_path)


def test_fleet_of_another_scenario_is_refused(tmp_path: Path) -> None:
    """Faults may change between runs, vehicles may not."""
    build_fleet(a_scenario(seed=1), tmp_path)
    with pytest.raises(FleetFolderError, match="made from a scenario with another fleet"):
        load_fleet(a_scenario(seed=2), tmp_path)


def test_missing_fleet_says_how_to_make_one(tmp_path: Path) -> None:
    """The remedy is a command."""
    with pytest.raises(FleetFolderError, match="run `outrider-sim fleet SCENARIO --out"):
        load_fleet(a_scenario(), tmp_path / "none")


def test_image_says_what_it_is_and_repeats() -> None:
    """Real bytes of the asked size, the same for the same arguments."""
    image = build_image("acme-gw-1", "1.2.3", 10_000, 5)
    assert len(image) == 10_000
    assert image == build_image("acme-gw-1", "1.2.3", 10_000, 5) != build_image("acme-gw-1", "1.2.3", 10_000, 6)
    assert json.loads(image.partition(b"\n")[0]) == {"hardware_id": "acme-gw-1", "version": "1.2.3", "seed": 5}


def test_image_that_has_no_room_to_say_what_it_is_is_not_made() -> None:
    """A size of a scenario that cannot be had is named."""
    with pytest.raises(ImageError, match="no room for the header"):
        build_image("acme-gw-1", "1.0.0", 10, 1)


def test_names_and_counters_follow_the_version() -> None:
    """Paths are readable, counters rise with versions."""
    assert image_path("acme-gw-1", "1.1.0") == "acme/gw-1-1.1.0.img"
    assert version_of(image_path("acme-gw-1", "1.1.0")) == "1.1.0"
    assert release_counter("1.1.0") < release_counter("1.1.1") < release_counter("1.2.0") < release_counter("2.0.0")
    with pytest.raises(ImageError, match=r"'1\.1' is not major\.minor\.patch"):
        release_counter("1.1")
