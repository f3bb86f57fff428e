"""The pace of a plan: what starves a wave is named with the days it takes, and the end is told as expected."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import date

import pytest

from orchestrator.engine.plan.file import DEFAULT_WAVES, read_plan
from orchestrator.engine.preview import preview
from orchestrator.model.plan import Freeze, RegionRules, Window
from tests.builders import DAY_MS, HOUR_MS, MINUTE_MS, NOW, a_gate, a_plan, a_release, a_wave, some_limits
from tests.engine.test_calendar import NIGHT, fleet

GENERAL = {"cohort": "general"}
BIG = fleet((100_000, GENERAL))
WIDE = RegionRules(in_flight_max=100_000)
OWN = RegionRules(in_flight_max=3000)
FAST = some_limits(in_flight_max=100_000, starts_per_minute_max=10_000, blast_budget=200)
ONE_WAVE = (a_wave("all"),)
RELEASE = replace(a_release(), images=tuple(replace(image, length_bytes=500_000_000) for image in a_release().images))


def previewed(profiles=BIG, release=RELEASE, **changes):
    changes = {"regions": {"eu": WIDE}, "limits": FAST, "waves": DEFAULT_WAVES} | changes
    return preview(a_plan(**changes), profiles, release, NOW)


def warned(**changes) -> str:
    return " | ".join(previewed(**changes).warnings)


def test_good_default_plan_ends_when_the_simulated_one_does():
    """The reference rule was simulated with these waves and this fleet: 95 % are done after about 19 days.

    What follows then is patience with the last 5 % and the last checkpoint, so the end lies a week behind.
    """
    expected = previewed().expected_ms
    assert expected is not None
    assert 19 * DAY_MS < expected < 30 * DAY_MS


def test_ends_are_told_in_their_order():
    """Numbers that contradict each other would all be doubted."""
    for waves in (DEFAULT_WAVES, ONE_WAVE):
        for budget in (1, 20, 2000):
            found = previewed(waves=waves, limits=replace(FAST, blast_budget=budget))
            assert found.shortest_ms <= found.expected_often_ms <= found.expected_ms


def test_every_limit_makes_the_end_later():
    """A limit that the estimate forgets is found out in the third week."""
    plain = previewed(limits=replace(FAST, blast_budget=2000))
    slow = {
        "blast budget": {"limits": replace(FAST, blast_budget=5)},
        "starts": {"limits": replace(FAST, blast_budget=2000, starts_per_minute_max=1)},
        "starts of a region": {"regions": {"eu": replace(WIDE, starts_per_minute_max=1)}},
        "slots": {"regions": {"eu": replace(WIDE, in_flight_max=10)}},
        "bandwidth": {"regions": {"eu": replace(WIDE, bandwidth_bytes_per_s=10_000_000)}},
        "patience": {"limits": replace(FAST, blast_budget=2000, patience_ms=100 * DAY_MS)},
        "holdout": {"holdout_share": 0.01},
        "soak": {"waves": (a_wave("first", share=0.1, soak_ms=50 * DAY_MS), a_wave("all"))},
    }
    for name, changes in slow.items():
        found = previewed(**({"limits": replace(FAST, blast_budget=2000)} | changes))
        assert found.expected_ms is not None
        assert found.expected_ms > plain.expected_ms, name
        # Patience is with vehicles that do not call: where all do, it takes nothing.
        assert (found.expected_often_ms > plain.expected_often_ms) == (name != "patience"), name


def test_safety_critical_plan_waits_longer_for_its_first_promotions():
    """The first two waves are looked at until the last checkpoint."""
    two = (a_wave("first", share=0.1), a_wave("all"))
    plain, careful = (previewed(waves=two, gate=a_gate(safety_critical=critical)) for critical in (False, True))
    assert careful.shortest_ms - plain.shortest_ms == 2 * DAY_MS
    assert careful.expected_ms - plain.expected_ms == 2 * DAY_MS


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"regions": {"eu": replace(WIDE, bandwidth_bytes_per_s=50_000_000)}},
            "wave all is starved: regions.eu.bandwidth 50MB/s at up to 1GB a vehicle takes about 23 d 3 h "
            "for 100000 vehicles",
        ),
        (
            {"regions": {"eu": replace(WIDE, starts_per_minute_max=2)}},
            "regions.eu.starts_per_minute 2 takes about 34 d 17 h for 100000 vehicles",
        ),
        ({"limits": replace(FAST, starts_per_minute_max=4)}, "limits.starts_per_minute 4 takes about 17 d 8 h"),
        ({"regions": {"eu": replace(WIDE, in_flight_max=600)}}, "regions.eu.in_flight 600 takes about 41 d 16 h"),
        (
            {"regions": {"eu": replace(WIDE, in_flight_max=3000, windows=(NIGHT,))}},
            "regions.eu.in_flight 3000, with windows open 29% of the time, takes about 28 d",
        ),
        ({"limits": replace(FAST, in_flight_max=50)}, "region eu: in_flight 100000 > limits.in_flight 50"),
    ],
)
def test_warns_of_the_limit_that_starves_a_wave(changes, text):
    """Which number to raise, and what it costs as it is."""
    assert text in warned(waves=ONE_WAVE, **changes)


def test_limit_over_all_regions_is_told_once():
    """One number to raise is one line to read; the waves before the last are measured by their own days."""
    both = BIG + fleet((100_000, {**GENERAL, "region": "us"}))
    tight = replace(FAST, in_flight_max=3000)
    found = [
        warning
        for warning in previewed(both, regions={"eu": OWN, "us": OWN}, limits=tight).warnings
        if "starved" in warning
    ]
    assert found == ["wave half is starved: limits.in_flight 3000 takes about 6 d 16 h for 80000 vehicles"]


def test_slots_that_starved_a_rehearsal_are_warned_about_and_those_of_a_start_are_not():
    """With 1000 slots a rehearsal of 100,000 vehicles was not through after six weeks; with a tenth nothing waits."""
    said = warned(regions={}, limits=replace(FAST, in_flight_max=1000))
    assert "wave half is starved: limits.in_flight 1000 takes about 10 d for 40000 vehicles" in said
    filled = read_plan("release: 1.1.0")
    assert "starved" not in " | ".join(preview(filled, BIG, RELEASE, NOW).warnings)


def test_wave_that_its_vehicles_pace_is_not_warned_about():
    """A warning that always comes is read by nobody."""
    assert "starved" not in warned()
    assert "starved" not in warned(
        waves=ONE_WAVE, regions={"eu": replace(WIDE, bandwidth_bytes_per_s=1_000_000_000, starts_per_minute_max=100)}
    )


def test_end_is_not_told_where_vehicles_may_never_install():
    """A number would be a lie."""
    forever = Freeze(first=date(2025, 1, 1), last=date(2099, 1, 1))
    never, nobody = previewed(regions={"eu": replace(WIDE, freezes=(forever,))}), previewed(profiles={}, regions={})
    assert (never.expected_often_ms, never.expected_ms) == (None, None)
    assert (nobody.expected_often_ms, nobody.expected_ms) == (0, 0)


def test_plan_of_minutes_is_not_expected_to_take_weeks():
    """A simulated fleet calls every few minutes; its patience says so."""
    text = """
release: 1.1.0
waves: [{name: first, share: 10%, soak: 6m}, {name: all, soak: 6m}]
gate: {checkpoints: [15m, 30m]}
limits: {patience: 1h, blast_budget: 500}
holdout: 0%
"""
    found = preview(read_plan(text), Counter(fleet((500, GENERAL))), a_release(), NOW)
    assert found.expected_ms is not None
    assert found.expected_ms < 4 * HOUR_MS
    assert found.expected_ms > 60 * MINUTE_MS


def test_the_ramp_of_the_gate_takes_its_rounds():
    """A budget that never binds does not open all at once: what is not seen in a few is not tried on many."""
    wide = replace(FAST, blast_budget=20_000)
    few, many = (previewed(fleet((size, GENERAL)), waves=ONE_WAVE, limits=wide) for size in (2_000, 100_000))
    assert many.expected_often_ms - few.expected_often_ms >= 2 * 24 * HOUR_MS


def test_weekend_windows_add_the_wait_for_the_weekend():
    """Whoever calls on Monday installs on Saturday."""
    weekends = replace(WIDE, windows=(Window((5,), 0, 1440),))
    plain, waiting = previewed(waves=ONE_WAVE), previewed(waves=ONE_WAVE, regions={"eu": weekends})
    two = (a_wave("first", share=0.1), a_wave("all"))
    assert waiting.expected_ms > plain.expected_ms
    assert previewed(waves=two, regions={"eu": weekends}).expected_ms > previewed(waves=two).expected_ms + 5 * DAY_MS


def test_vehicle_of_its_own_zone_is_looked_at_by_its_own_clock():
    """Estimates follow the clock of most vehicles, not that of the plan."""
    nights = {"eu": replace(WIDE, windows=(NIGHT,))}
    away, home = (
        previewed(fleet((1000, {**GENERAL, "zone": zone})), regions=nights, waves=ONE_WAVE)
        for zone in ("Pacific/Auckland", "UTC")
    )
    # Midnight in UTC is one in the afternoon there.
    assert away.expected_ms == home.expected_ms + 9 * HOUR_MS
