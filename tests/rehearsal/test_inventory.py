"""Who is rehearsed: exactly as many as asked for, or exactly those of the file."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from orchestrator.engine import selection
from orchestrator.engine.plan.file import read_plan
from orchestrator.model.fleet import Cell
from orchestrator.model.ids import VehicleId
from orchestrator.rehearsal.inventory import FleetFileError, apportioned, cohort_shares, invented, read_inventory

PLAN = """\
release: 1.1.0
target: {model: [S], tags: {none: [hold]}, installed: ">=1.0.0"}
waves:
  - {name: canary, cohorts: [internal, canary]}
  - {name: all}
regions: {eu: {}, us: {}}
"""
HEADER = "vehicle_id,model,hardware,region,cohort,tags,ecu_serial,hardware_id,primary,public_key,zone"


def a_row(vehicle_id: str, *, model: str = "S", region: str = "eu", tags: str = "", zone: str = "") -> str:
    return f"{vehicle_id},{model},g1,{region},canary,{tags},{vehicle_id}-gw,h,true,AAAA,{zone}"


@given(size=some.integers(0, 5000), shares=some.lists(some.floats(0.001, 1.0), min_size=1, max_size=12))
def test_parts_are_whole_add_up_and_are_off_by_less_than_one(size: int, shares: list[float]) -> None:
    """A vehicle more or less is a stratum more or less in a small fleet."""
    counts = apportioned(size, shares)
    assert sum(counts) == size
    assert all(abs(count - size * share / sum(shares)) < 1 for count, share in zip(counts, shares, strict=True))


def test_an_invented_fleet_has_what_the_plan_names() -> None:
    """Rings at their usual sizes, regions evenly, so that a plan can be tried before there is a fleet."""
    found = invented(read_plan(PLAN), 10_000, regions={}, hardware={}, cohorts={})
    assert found.size == 10_000
    by_cohort = dict.fromkeys(("internal", "canary", "general"), 0)
    for cell, count in found.counts().items():
        by_cohort[cell.cohort] += count
    assert by_cohort == {"internal": 10, "canary": 100, "general": 9890}
    assert found.regions == ("eu", "us")
    assert found.draws(b"salt") is None


def test_given_shares_win() -> None:
    """Whoever knows the fleet says so."""
    found = invented(
        read_plan("release: 1.1.0"), 10, regions={"a": 0.7, "b": 0.3}, hardware={"g": 1.0}, cohorts={"c": 1.0}
    )
    assert found.counts() == {Cell("a", "g", "c"): 7, Cell("b", "g", "c"): 3}


def test_a_fleet_of_one_is_one_vehicle() -> None:
    """In the largest cell, and no other."""
    found = invented(read_plan(PLAN), 1, regions={}, hardware={}, cohorts={})
    assert (found.size, len(found.cells), found.cells[0].cohort) == (1, 1, "general")


def test_the_last_ring_takes_the_rest_when_no_wave_is_for_anybody_else() -> None:
    """Otherwise most of the fleet would be in a ring that the plan never lets in."""
    plan = read_plan("release: 1.1.0\nwaves: [{name: a, cohorts: [canary]}, {name: b, cohorts: [fleet]}]\n")
    shares = cohort_shares(plan)
    assert shares == {"canary": 0.01, "fleet": pytest.approx(0.99)}


def test_many_rings_still_add_up() -> None:
    """Thirty rings of five percent are more than a fleet."""
    names = [f"ring-{number}" for number in range(30)]
    plan = read_plan(f"release: 1.1.0\nwaves: [{{name: a, cohorts: [{', '.join(names)}]}}, {{name: b}}]\n")
    shares = cohort_shares(plan)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert min(shares.values()) > 0


def test_a_fleet_file_gives_those_whom_the_plan_is_for() -> None:
    """One row a control unit: a vehicle with three is one. `installed` cannot be known, and is not looked at."""
    lines = [
        HEADER,
        a_row("v2", zone="Europe/Berlin"),
        a_row("v1"),
        a_row("v1"),
        a_row("v3", region="us"),
        a_row("x1", model="X"),
        a_row("x2", tags="beta;hold"),
        a_row("x3", region="cn"),
    ]
    found = read_inventory(lines, read_plan(PLAN))
    assert found.ids == ("v1", "v2", "v3")
    assert found.registered == 6
    assert found.excluded == {"model": 1, "tags_none": 1, "region_not_in_plan": 1}
    assert [found.homes[index] for index in found.home] == [("eu", ""), ("eu", "Europe/Berlin"), ("us", "")]
    assert [found.cells[index].region for index in found.cell] == ["eu", "eu", "us"]


def test_vehicles_of_a_file_have_the_draws_of_a_real_rollout() -> None:
    """Whom a wave reaches first is then no model at all."""
    found = read_inventory([HEADER, a_row("v1"), a_row("v2")], read_plan(PLAN))
    draws = found.draws(b"0123456789abcdef")
    assert draws is not None
    wanted = [selection.draw(b"0123456789abcdef", VehicleId(one)) / selection.DRAW_RANGE for one in ("v1", "v2")]
    assert np.allclose(draws, wanted, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "no column `vehicle_id`"),
        (["id,model"], "no column `vehicle_id`"),
        ([HEADER], "none of its 0 vehicles is targeted"),
        ([HEADER, a_row("v1", model="X")], "most are left out by `model`"),
        ([HEADER, 'v1,"S'], "not CSV"),
    ],
)
def test_a_file_that_cannot_be_rehearsed_says_why(lines: list[str], says: str) -> None:
    """The remedy depends on it."""
    with pytest.raises(FleetFileError, match=says):
        read_inventory(lines, read_plan(PLAN))
