"""The pace of a plan: how long each wave takes with this fleet, and which limit starves it.

Owns an estimate, and its assumptions as constants: how fast vehicles call, how long one of them holds a slot. What a
plan allows at best, whatever the fleet does, is the matter of `calendar`; a whole run with chance in it, of `rehearse`.

A wave lasts until most of it has called and was let through by starts, slots and bandwidth, in as many rounds of the
first checkpoint as the blast budget and the gate's ramp take. What a plan cannot know is whether some vehicles call
seldom: where they do, the last wave waits for them as long as `patience` says, and so does the holdout; where all call
often, neither waits. So the end is told twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from math import ceil

from orchestrator.engine import calendar as calendars
from orchestrator.engine import windows
from orchestrator.engine.calendar import Calendar
from orchestrator.engine.gates.budget import (
    FIRST_YOUNG,
    FIRST_YOUNG_SHARE,
    GROWTH,
    blast_upper,
    permit_allowance,
)
from orchestrator.engine.openings import OVER_OPEN
from orchestrator.engine.plan.values import write_rate, write_size
from orchestrator.engine.promotion import REACHED_SHARE_MIN
from orchestrator.engine.wording import duration
from orchestrator.model.ids import FleetTime
from orchestrator.model.tally import AgeGroup

DAILY_SHARE = 0.8
"""Part of a fleet that calls within a day. Source: docs/rehearsal-model.md, fleet 1.3."""
OFTEN_PART = 4
"""Vehicles call often that all call within this part of the first checkpoint: in 3 h, where that is after 12 h."""
SLOT_OFTEN_MS, SLOT_SELDOM_MS = 2 * 3_600_000, 6 * 3_600_000
"""How long one vehicle is taken to hold a slot, from its grant until it is heard of again: in the mean of a fleet whose
vehicles all call often, and of one in which some call seldom.
"""
ROUNDS_MAX = 10_000
"""Rounds of the blast budget after which its pace is not followed any further."""
STARVED_MS = 86_400_000
"""A wave that a limit makes this much longer than its vehicles would is worth a warning."""

_DAY_MS, _MINUTE_MS = 86_400_000, 60_000
_LOOKED_AHEAD_MS = 28 * _DAY_MS
_NEXT_OPENINGS = 7


@dataclass(frozen=True, slots=True)
class Pace:
    """A plan beside the fleet, and what a vehicle fetches."""

    calendar: Calendar
    transfer_bytes: int
    """What one vehicle fetches at most: every image of the release."""

    @property
    def last_wave(self) -> int:
        """Index of the last wave."""
        return len(self.calendar.plan.waves) - 1


@dataclass(frozen=True, slots=True)
class _Limit:
    """How long a wave takes in a region by one limit alone."""

    words: str
    """The limit, for people."""
    vehicles: int
    """That it counts: of the region, or of all regions together."""
    takes_ms: int


def expected_ms(pace: Pace, *, often: bool) -> int | None:
    """Fleet time to the end as it is expected when nothing is wrong with the release, approvals left aside.

    Args:
        pace: The plan beside the fleet.
        often: Whether all vehicles call often; else most call within a day, and some once in weeks.

    Returns:
        None when it cannot be told: vehicles of some region may never install.
    """
    calendar, plan = pace.calendar, pace.calendar.plan
    populated = [region for region in calendar.rules if calendar.vehicles(region)]
    if not populated:
        return 0
    if any(calendar.opens_in_ms(region) is None for region in populated):
        return None
    begins = calendars.begins_ms(calendar, lambda region, wave: _lasts_ms(pace, region, wave, often))
    last_age = plan.gate.checkpoints_ms[-1]
    through = max(begins[region][-1] + _ends_ms(pace, region, often) for region in populated)
    waits_ms = _often_ms(pace) if often else plan.limits.patience_ms
    holdout = last_age + waits_ms if plan.holdout_share > 0 else 0
    return through + last_age + holdout


def budget_rounds(pace: Pace, before: int, needed: int) -> int:
    """Rounds of the first checkpoint until `needed` more are exposed, if none fails and silence is as expected.

    A round adds what the blast budget allows, but never many more than are known to be well (the ramp of the gate).

    Args:
        pace: The plan.
        before: Exposures that have aged.
        needed: Exposures to be added.
    """
    plan = pace.calendar.plan
    reference, budget = plan.gate.silence_reference[0], plan.limits.blast_budget
    first = max(FIRST_YOUNG, FIRST_YOUNG_SHARE * budget)
    aged, rounds = before, 0
    while aged < before + needed and rounds < ROUNDS_MAX:
        upper = blast_upper(0, AgeGroup(exposed=aged, silent=round(reference * aged)), reference)
        aged += max(1, min(permit_allowance(budget, upper, 0), ceil(max(first, GROWTH * aged))))
        rounds += 1
    return rounds


def warnings(pace: Pace) -> Iterator[str]:
    """Limits that starve a wave, the worst wave of each region, and limits that are never reached; for people."""
    calendar = pace.calendar
    starving: dict[str, None] = {}
    for region in sorted(calendar.rules):
        if not calendar.vehicles(region):
            continue
        yield from _unreached(pace, region)
        waves = range(len(calendar.plan.waves))
        starved = [(limit, wave) for wave in waves if (limit := _starved(pace, region, wave)) is not None]
        if starved:
            limit, wave = max(starved, key=lambda pair: pair[0].takes_ms)
            # A limit over all regions is told once.
            starving[
                f"wave {calendar.plan.waves[wave].name} is starved: {limit.words} takes about "
                f"{duration(limit.takes_ms)} for {limit.vehicles} vehicles"
            ] = None
    yield from starving


def _unreached(pace: Pace, region: str) -> Iterator[str]:
    rules, limits = pace.calendar.rules[region], pace.calendar.plan.limits
    for name, own, most in (
        ("in_flight", rules.in_flight_max, limits.in_flight_max),
        ("starts_per_minute", rules.starts_per_minute_max, limits.starts_per_minute_max),
    ):
        if own > most:
            yield f"region {region}: {name} {own} > limits.{name} {most}: the plan's own limit binds first"


def _starved(pace: Pace, region: str, wave: int) -> _Limit | None:
    """The limit that makes a wave much longer than calls and aging do; None when none does."""
    worst = max(_limits(pace, region, wave, often=False), key=lambda limit: limit.takes_ms, default=None)
    plan = pace.calendar.plan
    usual = max(plan.waves[wave].soak_ms, _called_ms(pace, region, wave, often=False) + calendars.aging_ms(plan, wave))
    if wave == pace.last_wave:
        usual = max(usual, plan.limits.patience_ms)
    return worst if worst is not None and worst.takes_ms > usual + STARVED_MS else None


def _lasts_ms(pace: Pace, region: str, wave: int, often: bool) -> int:
    """How long a region is expected to stay in a wave before the next one begins."""
    plan = pace.calendar.plan
    if not pace.calendar.added(region, wave):
        return plan.waves[wave].soak_ms
    rounds = max(1, _rounds(pace, wave, REACHED_SHARE_MIN))
    aging = (rounds - 1) * plan.gate.checkpoints_ms[0] + calendars.aging_ms(plan, wave)
    let_through = REACHED_SHARE_MIN * max(
        (limit.takes_ms for limit in _limits(pace, region, wave, often=often)), default=0
    )
    called = _called_ms(pace, region, wave, often=often)
    return max(plan.waves[wave].soak_ms, max(called, ceil(let_through)) + aging)


def _ends_ms(pace: Pace, region: str, often: bool) -> int:
    """How long a region is expected to stay in the last wave, until it waits for nobody any more."""
    plan, wave = pace.calendar.plan, pace.last_wave
    if not pace.calendar.added(region, wave):
        return plan.waves[wave].soak_ms
    carried = max((limit.takes_ms for limit in _limits(pace, region, wave, often=often)), default=0)
    budget = _rounds(pace, wave, 1.0) * plan.gate.checkpoints_ms[0]
    waits_ms = _often_ms(pace) + _wait_ms(pace, region) if often else plan.limits.patience_ms
    return max(plan.waves[wave].soak_ms, waits_ms, carried, budget)


def _rounds(pace: Pace, wave: int, share: float) -> int:
    """Rounds of the blast budget, which all regions share, for a share of what a wave adds."""
    sizes = [sum(added.values()) for _, added in pace.calendar.sizes]
    return budget_rounds(pace, sum(sizes[:wave]), ceil(share * sizes[wave]))


def _often_ms(pace: Pace) -> int:
    """Until all have called, where all call often."""
    plan = pace.calendar.plan
    return min(plan.limits.patience_ms, plan.gate.checkpoints_ms[0] // OFTEN_PART)


def _called_ms(pace: Pace, region: str, wave: int, *, often: bool) -> int:
    """Until so many have called that the wave can be promoted, and stood in an opening."""
    if often:
        return _often_ms(pace) + _wait_ms(pace, region)
    plan, targeted = pace.calendar.plan, sum(pace.calendar.vehicles(region).values())
    reached = sum(pace.calendar.added(region, index) for index in range(wave + 1)) / targeted
    callers = REACHED_SHARE_MIN * reached / min(1.0, OVER_OPEN * reached) if reached else 0.0
    return min(plan.limits.patience_ms, ceil(callers / DAILY_SHARE * _DAY_MS)) + _wait_ms(pace, region)


def _limits(pace: Pace, region: str, wave: int, *, often: bool) -> Iterator[_Limit]:
    """How long a wave takes in a region by each limit that counts vehicles or bytes."""
    calendar, rules, bounds = pace.calendar, pace.calendar.rules[region], pace.calendar.plan.limits
    added, together = calendar.added(region, wave), sum(calendar.sizes[wave][1].values())
    share, slot_ms = _open_share(pace, region), min(bounds.patience_ms, SLOT_OFTEN_MS if often else SLOT_SELDOM_MS)
    if not added or not share:
        return
    for name, count, most, each_ms in (
        ("limits.starts_per_minute", together, bounds.starts_per_minute_max, _MINUTE_MS),
        (f"regions.{region}.starts_per_minute", added, rules.starts_per_minute_max, _MINUTE_MS),
        ("limits.in_flight", together, bounds.in_flight_max, slot_ms),
        (f"regions.{region}.in_flight", added, rules.in_flight_max, slot_ms),
    ):
        if most:
            within = f", with windows open {share:.0%} of the time," if share < 1.0 else ""
            yield _Limit(f"{name} {most}{within}", count, ceil(count / most * each_ms / share))
    rate = rules.bandwidth_bytes_per_s
    if rate:
        takes_ms = ceil(added * pace.transfer_bytes * 1000 / rate)
        size = write_size(pace.transfer_bytes)
        yield _Limit(f"regions.{region}.bandwidth {write_rate(rate)} at up to {size} a vehicle", added, takes_ms)


def _open_share(pace: Pace, region: str) -> float:
    """Part of the next weeks in which most vehicles of a region may install."""
    now = pace.calendar.now
    until = now + _LOOKED_AHEAD_MS
    spans = _spans(pace, region, 10 * _LOOKED_AHEAD_MS // _DAY_MS)
    near = takewhile(lambda span: span.start < until, spans)
    return sum(min(until, span.end if span.end is not None else until) - span.start for span in near) / _LOOKED_AHEAD_MS


def _wait_ms(pace: Pace, region: str) -> int:
    """The longest wait between the next openings of most vehicles of a region."""
    spans = _spans(pace, region, _NEXT_OPENINGS)
    return calendars.longest_wait_ms(spans, pace.calendar.now) if spans else 0


def _spans(pace: Pace, region: str, count: int) -> tuple[windows.Span, ...]:
    """The next openings by the clock of most vehicles of a region."""
    vehicles: Mapping[str, int] = pace.calendar.vehicles(region)
    now: FleetTime = pace.calendar.now
    return windows.openings(pace.calendar.rules[region], next(iter(vehicles), "UTC"), now, count)
