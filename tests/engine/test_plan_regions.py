"""Rules of regions in plan files: what is refused, where, with which remedy, and what replaces what."""

from __future__ import annotations

import pytest

from orchestrator.engine.plan.file import effective_plan, read_plan
from orchestrator.model.plan import RegionRules, Window
from tests.builders import DAY_MS
from tests.engine.test_plan_file import faults, message


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("release: 1.1.0\nzone: Europe/Berln", (2, 7, "zone")),
        ("release: 1.1.0\nzone: localtime", (2, 7, "zone")),
        ("release: 1.1.0\nwindows: [{from: 10:00}]", (2, 11, "windows[0]")),
        ("release: 1.1.0\nwindows: [{from: 10:00, to: 10:00}]", (2, 11, "windows[0]")),
        ("release: 1.1.0\nwindows: [{from: 24:00, to: 10:00}]", (2, 18, "windows[0].from")),
        ("release: 1.1.0\nwindows: [{from: 10:60, to: 12:00}]", (2, 18, "windows[0].from")),
        ("release: 1.1.0\nwindows: [{from: 10:00, to: 24:30}]", (2, 29, "windows[0].to")),
        ("release: 1.1.0\nwindows: [{days: [mon, mon], from: 10:00, to: 12:00}]", (2, 18, "windows[0].days")),
        ("release: 1.1.0\nwindows: [{days: [], from: 10:00, to: 12:00}]", (2, 18, "windows[0].days")),
        ("release: 1.1.0\nwindows: [{days: [moon], from: 10:00, to: 12:00}]", (2, 19, "windows[0].days[0]")),
        ("release: 1.1.0\nwindows: []", (2, 10, "windows")),
        ("release: 1.1.0\nwindows: never", (2, 10, "windows")),
        ("release: 1.1.0\nfreeze: {from: 2026-12-26, to: 2026-12-24}", (2, 32, "freeze.to")),
        ("release: 1.1.0\nfreeze: {from: 2026-12-26}", (2, 9, "freeze")),
        ("release: 1.1.0\nfreeze: [2026-02-29]", (2, 10, "freeze[0]")),
        ("release: 1.1.0\nfreeze: christmas", (2, 9, "freeze")),
        ("release: 1.1.0\nconsent: maybe", (2, 10, "consent")),
        ("release: 1.1.0\nconditions: {battery: 30}", (2, 23, "conditions.battery")),
        ("release: 1.1.0\nconditions: {battery: 101%}", (2, 23, "conditions.battery")),
        ("release: 1.1.0\nconditions: {parked: yes}", (2, 22, "conditions.parked")),
        ("release: 1.1.0\nfollow: eu", (2, 1, "follow")),
        ("release: 1.1.0\nregions: {eu: {follow: eu}}", (2, 24, "regions.eu.follow")),
        ("release: 1.1.0\nregions: {eu: {follow: us}}", (2, 24, "regions.eu.follow")),
        ("release: 1.1.0\nregions: {eu: {follow: us}, us: {follow: eu}}", (2, 24, "regions.eu.follow")),
        ("release: 1.1.0\nregions: {a: {follow: b}, b: {follow: c}, c: {follow: b}}", (2, 39, "regions.b.follow")),
    ],
)
def test_refused_with_line_and_column(text, where):
    """A person finds the place at once, and nothing was changed."""
    assert faults(text) == [where]


def test_remedies_name_what_is_close():
    """A fault about a name that is nearly right says the right one."""
    assert "did you mean `Europe/Berlin`?" in message("release: 1.1.0\nzone: Europe/Berln")
    assert "did you mean `Europe/Berlin`?" in message("release: 1.1.0\nzone: berlin")
    assert "did you mean `mon`?" in message("release: 1.1.0\nwindows: [{days: [Mon], from: 1:00, to: 2:00}]")
    assert "did you mean `eu-1`?" in message("release: 1.1.0\nregions: {eu-1: {}, us: {follow: eu-2}}")
    ring = "b follows c follows b: none of them would ever begin"
    assert ring in message("release: 1.1.0\nregions: {a: {follow: b}, b: {follow: c}, c: {follow: b}}")


def test_regions_replace_defaults_as_a_whole():
    """Half of an inherited window list would be a rule that nobody wrote; two words take it away."""
    plan = read_plan(
        """
release: 1.1.0
zone: Europe/Berlin
windows: [{from: 22:00, to: 05:00}]
freeze: 2026-12-24
regions:
  eu:
  us: {windows: [{days: [sat], from: 8:00, to: 24:00}]}
  cn: {windows: always, freeze: none, zone: Asia/Shanghai}
"""
    )
    eu, us, cn = (plan.regions[region] for region in ("eu", "us", "cn"))
    assert eu == plan.region_defaults
    assert us.windows == (Window((5,), 480, 1440),)
    assert (us.zone, us.freezes) == (eu.zone, eu.freezes)
    assert cn == RegionRules(0, zone="Asia/Shanghai")
    assert read_plan(effective_plan(plan)) == plan


def test_offline_permits_are_for_who_asks_for_them_in_the_plan():
    """By default none; a region may have its own, also none where the others have some."""
    assert read_plan("release: 1.1.0").region_defaults.offline_permit_ms == 0
    plan = read_plan("release: 1.1.0\noffline_permit: 24h\nregions: {eu: {}, us: {offline_permit: none}}")
    assert plan.region_defaults.offline_permit_ms == DAY_MS
    assert {region: rules.offline_permit_ms for region, rules in plan.regions.items()} == {"eu": DAY_MS, "us": 0}
    assert read_plan(effective_plan(plan)) == plan
