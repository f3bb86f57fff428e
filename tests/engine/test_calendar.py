"""The calendar of a plan: it says when each region can move, and warns of what never would."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import date

from orchestrator.engine.calendar import OpenWindow
from orchestrator.engine.preview import preview
from orchestrator.model.attempt import AttemptState
from orchestrator.model.plan import Consent, Freeze, RegionRules, Window
from tests.builders import (
    DAY_MS,
    DEADLINES_MS,
    HOUR_MS,
    NOW,
    a_plan,
    a_release,
    a_vehicle,
    a_wave,
    after,
    some_limits,
)

EVERY_DAY = tuple(range(7))
NIGHT = Window(weekdays=EVERY_DAY, start_minute=22 * 60, end_minute=5 * 60)
OPEN = RegionRules(in_flight_max=10_000)
NIGHTS = replace(OPEN, zone="Europe/Berlin", windows=(NIGHT,))
WAVES = (a_wave("canary", cohorts=("canary",)), a_wave("general"))


def fleet(*groups) -> Counter:
    """Profiles by (count, vehicle fields)."""
    counts: Counter = Counter()
    for count, fields in groups:
        counts[a_vehicle(**fields).profile("1.0.0")] += count
    return counts


EU = fleet((100, {"cohort": "canary"}), (400, {"cohort": "general"}))
BOTH = EU + fleet((100, {"cohort": "canary", "region": "us"}), (400, {"cohort": "general", "region": "us"}))


def previewed(profiles=EU, now=NOW, **changes):
    """The preview of a plan of two waves with room for everybody."""
    changes = {
        "regions": {"eu": OPEN},
        "waves": WAVES,
        "limits": some_limits(blast_budget=500, in_flight_max=10_000),
    } | changes
    return preview(a_plan(**changes), profiles, a_release(), now)


def said(**changes) -> str:
    """What is said about region eu."""
    return {one.region: one for one in previewed(**changes).regions}["eu"].message


def warned(**changes) -> str:
    """All warnings."""
    return " | ".join(previewed(**changes).warnings)


def test_region_without_rules_moves_at_once():
    """A plan of six lines has an empty calendar."""
    [eu] = previewed().regions
    assert (eu.region, eu.targeted, eu.follow, eu.consent, eu.windows) == ("eu", 500, "", Consent.NONE, ())
    assert eu.message == "begins at the start; vehicles install at any time"


def test_openings_are_given_zone_by_zone():
    """A region has one rule and many clocks; who watches wants to know which night begins when."""
    profiles = EU + fleet((50, {"cohort": "general", "zone": "Asia/Kathmandu"}))
    [eu] = previewed(profiles, after(9 * HOUR_MS), regions={"eu": NIGHTS}).regions
    kathmandu, berlin = "Asia/Kathmandu", "Europe/Berlin"
    assert eu.windows[:2] == (
        OpenWindow(kathmandu, 50, after(16 * HOUR_MS + HOUR_MS // 4), after(23 * HOUR_MS + HOUR_MS // 4)),
        OpenWindow(berlin, 500, after(21 * HOUR_MS), after(28 * HOUR_MS)),
    )
    assert len(eu.windows) == 6
    assert "vehicles install from 2026-01-01 22:00 Asia/Kathmandu to 2026-01-02 05:00" in eu.message
    assert eu.message.endswith("first in 7 h 15 min")


def test_open_window_is_said_to_be_open():
    """At 01:00 in Berlin there is nothing to wait for."""
    assert "vehicles may install now to 2026-01-01 05:00 Europe/Berlin" in said(regions={"eu": NIGHTS})


def test_bound_region_says_what_it_waits_for():
    """Followed region, approval and consent in one sentence."""
    follower = replace(OPEN, follow="us", consent=Consent.REQUIRED)
    waves = (replace(WAVES[0], approvals=2), WAVES[1])
    assert said(profiles=BOTH, regions={"us": OPEN, "eu": follower}, waves=waves) == (
        "begins when region us is through with wave canary, in 1 d at the earliest and after 2 approvals of wave "
        "canary; vehicles install at any time; each owner has to agree"
    )
    assert said(regions={"eu": replace(OPEN, consent=Consent.NOTICE)}).endswith("owners are told")
    assert (
        said(profiles=fleet((5, {"region": "us"})), regions={"eu": OPEN, "us": OPEN}) == "no targeted vehicle is in it"
    )


def test_shortest_time_counts_followed_regions_and_the_first_opening():
    """Nobody should promise a Friday that the plan itself excludes."""
    alone = previewed(BOTH, regions={"eu": OPEN, "us": OPEN}).shortest_ms
    assert alone == (1 + 3) * DAY_MS
    follower = replace(OPEN, follow="eu")
    assert previewed(BOTH, regions={"eu": OPEN, "us": follower}).shortest_ms == alone + DAY_MS
    # Nine in the morning in Berlin: thirteen hours until the night.
    waits = previewed(EU, after(8 * HOUR_MS), regions={"eu": NIGHTS})
    assert waits.shortest_ms == 4 * DAY_MS + 13 * HOUR_MS
    # A region without vehicles holds nobody up.
    only_us = fleet((99, {"cohort": "general", "region": "us"}))
    assert previewed(only_us, regions={"eu": OPEN, "us": follower}).shortest_ms == alone


def test_warns_of_a_freeze_over_everything():
    """The rollout would stand, and every tick would look well."""
    frozen = replace(NIGHTS, freezes=(Freeze(date(2025, 1, 1), date(2099, 1, 1)),))
    assert "freeze days cover every opening of the next 400 days for 500 vehicles in Europe/Berlin" in warned(
        regions={"eu": frozen}
    )
    assert "no vehicle may install in the next 400 days" in said(regions={"eu": frozen})


def test_warns_where_utc_is_assumed():
    """Windows at night in Greenwich are noon in Auckland."""
    utc = replace(NIGHTS, zone="UTC")
    profiles = EU + fleet((7, {"zone": "Europe/Paris"}))
    assert "UTC is assumed for 500 vehicles of region eu" in warned(profiles=profiles, regions={"eu": utc})
    assert "UTC is assumed" not in warned(profiles=profiles, regions={"eu": NIGHTS})
    assert "UTC is assumed" not in warned(profiles=profiles, regions={"eu": OPEN})


def test_warns_of_waits_longer_than_an_attempt_lives():
    """Deferred on Monday for a window on Sunday, timed out on Thursday."""
    sundays = replace(NIGHTS, windows=(Window((6,), 0, 600),))
    short = {**DEADLINES_MS, AttemptState.DEFERRED: 3 * DAY_MS}
    found = warned(regions={"eu": sundays}, deadlines_ms=short)
    assert "vehicles in Europe/Berlin wait up to 6 d 14 h for an opening, longer than deadlines.deferred (3 d)" in found
    assert "for an opening" not in warned(regions={"eu": sundays})


def test_warns_when_patience_is_shorter_than_the_wait_for_an_opening():
    """The last wave would be over before the first Sunday."""
    sundays = replace(NIGHTS, windows=(Window((6,), 0, 600),))
    limits = some_limits(blast_budget=500, in_flight_max=10_000, patience_ms=2 * DAY_MS)
    assert "longer than limits.patience (2 d): the last wave may end without them" in warned(
        regions={"eu": sundays}, limits=limits
    )


def test_warns_of_approvals_and_of_what_following_adds():
    """Nobody should be surprised on a Friday that a wave needs two colleagues."""
    waves = (replace(WAVES[0], approvals=1), replace(WAVES[1], approvals=2))
    assert "waves canary (1), general (2) begin only after approvals" in warned(waves=waves)
    rules = {"eu": OPEN, "us": replace(OPEN, follow="eu")}
    assert "following adds at least 1 d: us follows eu" in warned(profiles=BOTH, regions=rules)


def test_good_plan_warns_of_nothing():
    """Warnings that always come are read by nobody."""
    assert previewed(regions={"eu": NIGHTS}).warnings == ()
