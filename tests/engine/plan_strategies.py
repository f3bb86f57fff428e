"""Plans as files could give them, for property tests."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from orchestrator.model.attempt import AttemptState
from orchestrator.model.fleet import Habit
from orchestrator.model.plan import (
    Consent,
    Freeze,
    OnHalt,
    Preconditions,
    Purpose,
    RegionRules,
    Retries,
    Target,
    Wave,
    Window,
)
from orchestrator.model.vehicle import LinkType
from tests.builders import DAY_MS, DEADLINES_MS, HOUR_MS, a_gate, a_plan, some_limits

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", fullmatch=True)
name_lists = st.lists(names, max_size=3, unique=True).map(tuple)
shares = st.integers(1, 10_000).map(lambda number: number / 10_000)
seconds = st.integers(1, 90 * 86_400).map(lambda number: number * 1000)
whole = st.integers(1, 100_000)
links = st.lists(st.sampled_from([LinkType.CELLULAR, LinkType.WIFI, LinkType.WIRED]), max_size=3, unique=True)
rollout_ids = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)
windows = st.builds(
    Window,
    weekdays=st.sets(st.integers(0, 6), min_size=1).map(lambda days: tuple(sorted(days))),
    start_minute=st.integers(0, 1439),
    end_minute=st.integers(1, 1440),
).filter(lambda window: window.start_minute != window.end_minute)
freezes = st.tuples(st.dates(), st.dates()).map(lambda days: Freeze(min(days), max(days)))
rules = st.builds(
    RegionRules,
    in_flight_max=whole,
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"]),
    windows=st.lists(windows, max_size=2, unique=True).map(tuple),
    freezes=st.lists(freezes, max_size=2).map(tuple),
    consent=st.sampled_from(Consent),
    offline_permit_ms=st.sampled_from([0, HOUR_MS, 24 * HOUR_MS]),
)
region_rules = st.builds(
    replace,
    rules,
    starts_per_minute_max=st.integers(0, 1000),
    bandwidth_bytes_per_s=st.one_of(
        st.just(0), st.integers(1, 10**12), st.integers(1, 10**6).map(lambda kb: kb * 1000)
    ),
)
conditions = st.builds(
    Preconditions,
    unmetered=st.booleans(),
    parked=st.booleans(),
    battery_percent_min=st.integers(0, 100),
    storage_free_bytes_min=st.integers(0, 10**12),
    links=links.map(tuple),
)


@st.composite
def gates(draw):
    """Gates that agree with themselves."""
    checkpoints = sorted(draw(st.lists(seconds, min_size=1, max_size=3, unique=True)))
    younger = st.lists(st.integers(1, checkpoints[0] // 1000).map(lambda age: age * 1000), max_size=2, unique=True)
    ages = {
        habit: tuple(sorted(age for age in draw(younger) if age < checkpoints[0]))
        for habit in (Habit.OFTEN, Habit.DAILY, Habit.SELDOM)
    }
    return a_gate(
        failure_ratio_max=draw(shares) * 0.4,
        sample_min=draw(whole),
        stratum_sample_min=draw(st.integers(0, 1000)),
        checkpoints_ms=tuple(checkpoints),
        silence_reference=tuple(draw(shares) * 0.5 for _ in checkpoints),
        alpha=draw(shares) * 0.5,
        habit_ages_ms={habit: own for habit, own in ages.items() if own},
        hold_final_ms=checkpoints[0] + draw(seconds),
        safety_critical=draw(st.booleans()),
    )


@st.composite
def plans(draw):
    """Plans as a file could give them."""
    wave_names = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    wave_shares = sorted(draw(st.lists(shares, min_size=len(wave_names), max_size=len(wave_names), unique=True)))
    pairs = zip(wave_names, wave_shares, strict=True)
    holdout = draw(shares) * 0.5
    if len(wave_shares) > 1 and wave_shares[-2] >= 1.0 - holdout:
        holdout = 0.0
    regions = draw(st.dictionaries(names, region_rules, max_size=3))
    leader, *others = [*regions, ""]
    followed = {region: replace(regions[region], follow=draw(st.sampled_from(["", leader]))) for region in others[:-1]}
    in_flight_max = draw(whole)
    permit_valid_ms = draw(st.integers(1, 3600)) * 1000
    none_tags = draw(name_lists)
    wanted = tuple(dict.fromkeys((*draw(name_lists), *regions)))
    return a_plan(
        release=draw(st.sampled_from(["1.1.0", "0.0.1", "2.0.0-rc.1", "1.0.0+build.5"])),
        regions=regions | followed,
        region_defaults=replace(draw(rules), in_flight_max=in_flight_max),
        preconditions=draw(conditions),
        waves=[Wave(name, (), share, draw(seconds), draw(st.integers(0, 5))) for name, share in pairs],
        name=draw(rollout_ids),
        target=Target(
            model=draw(name_lists),
            hardware=draw(name_lists),
            region=draw(st.sampled_from([(), wanted])),
            cohort=draw(name_lists),
            tags_all=tuple(tag for tag in draw(name_lists) if tag not in none_tags),
            tags_none=none_tags,
            installed=draw(st.sampled_from(["", "<1.1.0", ">=1.0.0,<1.1.0", "!= 1.0.5"])),
        ),
        gate=draw(gates()),
        limits=some_limits(
            in_flight_max=in_flight_max,
            blast_budget=draw(st.integers(0, 1000)),
            permit_valid_ms=permit_valid_ms,
            patience_ms=draw(seconds),
        ),
        deadlines_ms={**DEADLINES_MS, AttemptState.PERMITTED: permit_valid_ms + draw(st.integers(0, 99)) * 1000},
        holdout_share=holdout,
        purpose=draw(st.sampled_from(Purpose)),
        priority=draw(st.integers(0, 1000)),
        approvals=draw(st.integers(0, 5)),
        supersedes=draw(st.sampled_from(["", "the-one-before-all-others"])),
        requires=draw(st.sampled_from(["", ">=1.0.0", "!=0.9.1"])),
        on_halt=draw(st.sampled_from(OnHalt)),
        retries=Retries(
            never=tuple(draw(st.lists(st.from_regex(r"[a-z0-9_]{1,9}\*?", fullmatch=True), max_size=3, unique=True))),
            longest_ms=DAY_MS + draw(seconds),
        ),
    )
