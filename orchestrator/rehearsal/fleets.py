"""The modelled fleets that rules are judged on.

`FLEET_13` is the one that the reference rule was simulated with (docs/rehearsal-model.md). `HABITS` has vehicles that
differ in how often they call. The others have different delays: what was tuned on the first two must hold there as
well.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.model.fleet import Cell
from orchestrator.rehearsal.fleet import DAY_H, CallPattern, Delays, FleetModel

FLEET_13 = FleetModel(
    name="1.3",
    size=100_000,
    patterns=(
        CallPattern("day", share=0.8, gap_h=DAY_H),
        CallPattern("fortnight", share=0.2, gap_h=14 * DAY_H),
    ),
)

_ABSENCES_PER_H = 1 / 1500
"""One absence, of a week in the mean, in two months on the road: a tenth of all vehicles is away at any time."""


def _pattern(name: str, share: float, gap_h: float, spread: float, scatter: float, *, sleeps: bool) -> CallPattern:
    return CallPattern(name, share, gap_h, spread, scatter, gap_h * _ABSENCES_PER_H, sleeps)


HABITS = FleetModel(
    name="habits",
    size=100_000,
    patterns=(
        _pattern("hourly", 0.40, 1.0, 0.3, 0.35, sleeps=False),
        _pattern("few-hourly", 0.25, 3.5, 0.4, 0.6, sleeps=True),
        _pattern("daily", 0.25, 20.0, 0.3, 0.6, sleeps=True),
        _pattern("weekly", 0.10, 120.0, 0.4, 0.7, sleeps=True),
    ),
    delays=Delays(install_median_h=1.0, install_sigma=0.5, stays_in_touch=False, garage_share=0.0),
    waits_when_refused=False,
    silence_known=(0.117, 0.025),
)

HABITS_SLOW = replace(
    HABITS,
    name="habits-slow",
    patterns=(
        _pattern("hourly", 0.20, 1.3, 0.5, 0.6, sleeps=True),
        _pattern("few-hourly", 0.30, 5.0, 0.5, 0.8, sleeps=True),
        _pattern("daily", 0.35, 26.0, 0.4, 0.8, sleeps=True),
        _pattern("weekly", 0.15, 150.0, 0.5, 0.8, sleeps=True),
    ),
    delays=Delays(install_median_h=1.5, install_sigma=0.7, stays_in_touch=False, garage_share=0.0, lost_share=0.002),
)
"""Held out: fewer frequent callers, wider scatter, longer installs."""

HABITS_FAST = replace(
    HABITS,
    name="habits-fast",
    patterns=(
        _pattern("hourly", 0.60, 0.8, 0.2, 0.3, sleeps=False),
        _pattern("few-hourly", 0.25, 3.0, 0.3, 0.4, sleeps=True),
        _pattern("daily", 0.10, 22.0, 0.3, 0.5, sleeps=True),
        _pattern("weekly", 0.05, 168.0, 0.3, 0.5, sleeps=True),
    ),
    delays=Delays(install_median_h=0.5, install_sigma=0.4, stays_in_touch=False, garage_share=0.0),
)
"""Held out: a connected fleet."""

FLEET_13_SLOW = replace(
    FLEET_13,
    name="1.3-slow",
    delays=Delays(install_median_h=3.0, install_sigma=1.2, garage_share=0.08, lost_share=0.002),
    silence_known=(0.12, 0.085),
)
"""Held out: 1.3 with slower words and more garages."""

FLEETS = {fleet.name: fleet for fleet in (FLEET_13, HABITS, FLEET_13_SLOW, HABITS_SLOW, HABITS_FAST)}

VARIANT = replace(
    FLEET_13,
    name="1.3-variant",
    cells=((Cell("all", "usual", "general"), 0.995), (Cell("all", "variant", "general"), 0.005)),
)
"""As 1.3, with a hardware variant that is one vehicle in two hundred."""
