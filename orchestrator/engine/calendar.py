"""The calendar of a plan: when each region can move, before anything does.

Owns what `preview` says about zones, windows, freeze days, followed regions, approvals and consent with this fleet, and
the shortest time that they allow. It is what can be known ahead: soak, checkpoints and openings, not how soon people
approve. How fast vehicles call and what budgets carry is estimated by `pace`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from orchestrator.engine import windows
from orchestrator.engine.promotion import CAREFUL_PROMOTIONS
from orchestrator.engine.wording import duration
from orchestrator.model.attempt import AttemptState
from orchestrator.model.ids import FleetTime
from orchestrator.model.plan import Consent, Plan, RegionRules

OPENINGS_SHOWN = 3
"""Openings of each zone in a preview."""
ZONES_SHOWN = 8
"""Zones of a region in a preview; the others have fewer vehicles than these."""
OPENINGS_LOOKED_AT = 30
"""Openings between which the longest wait is looked for: a month of nights, half a year of weekends."""

_DAY_MS = 86_400_000

Sizes = tuple[tuple[str, Mapping[str, int]], ...]
"""By wave, in order: its name and how many vehicles it is expected to add, by region."""


@dataclass(frozen=True, slots=True)
class OpenWindow:
    """A span of time in which vehicles of one zone may install."""

    zone: str
    vehicles: int
    """Targeted vehicles of this zone in the region."""
    start: FleetTime
    end: FleetTime | None
    """The first instant after it; None when no end is in sight."""


@dataclass(frozen=True, slots=True)
class RegionPreview:
    """When one region can move."""

    region: str
    targeted: int
    follow: str
    """The region that it follows; empty when none."""
    consent: Consent
    windows: tuple[OpenWindow, ...]
    """The next openings, zone by zone, earliest first; empty when its vehicles may install at any time."""
    message: str
    """When it can move, for people."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """A plan's rules beside the fleet, at one moment."""

    plan: Plan
    rules: Mapping[str, RegionRules]
    """Of every region that it runs in."""
    zones: Mapping[tuple[str, str], int]
    """Targeted vehicles by region and zone of the inventory; the zone may be empty."""
    sizes: Sizes
    now: FleetTime

    def vehicles(self, region: str) -> Mapping[str, int]:
        """Targeted vehicles of a region by the zone whose clock they show, most first."""
        found: dict[str, int] = {}
        for (name, own), count in self.zones.items():
            if name == region and count > 0:
                zone = windows.zone_among(own, self.rules[region])
                found[zone] = found.get(zone, 0) + count
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def added(self, region: str, wave: int) -> int:
        """Vehicles that a wave (index) is expected to add in a region."""
        return self.sizes[wave][1][region]

    def opens_in_ms(self, region: str) -> int | None:
        """How long until the first vehicles of a region may install; None when never in sight."""
        spans = [windows.openings(self.rules[region], zone, self.now, 1) for zone in self.vehicles(region)]
        return min((found[0].start - self.now for found in spans if found), default=None)


def regions(calendar: Calendar) -> tuple[RegionPreview, ...]:
    """When each region can move, by name."""
    begins = _begins(calendar)
    return tuple(_region(calendar, region, begins[region]) for region in sorted(calendar.rules))


def shortest_ms(calendar: Calendar) -> int:
    """Fleet time until the last region is through, at best: soak, checkpoints, followed regions and first openings."""
    plan = calendar.plan
    last_age = plan.gate.checkpoints_ms[-1]
    longest = 0
    for region, begins in _begins(calendar).items():
        added = calendar.added(region, len(plan.waves) - 1)
        longest = max(longest, begins[-1] + max(plan.waves[-1].soak_ms, last_age if added else 0))
    return longest + (last_age if plan.holdout_share > 0 else 0)


def aging_ms(plan: Plan, wave: int) -> int:
    """How old the exposures of a wave (index) must be before the next one begins."""
    ages = plan.gate.checkpoints_ms
    return ages[-1] if plan.gate.safety_critical and wave < CAREFUL_PROMOTIONS else ages[0]


def begins_ms(calendar: Calendar, lasts: Callable[[str, int], int]) -> dict[str, list[int]]:
    """By region: how long after the start each of its waves begins, in milliseconds.

    Args:
        calendar: The plan and the fleet.
        lasts: How long a region stays in a wave (index), in milliseconds.
    """
    begins: dict[str, list[int]] = {}
    left: dict[str, list[int]] = {}
    for region in sorted(calendar.rules, key=lambda name: (len(_chain(calendar.rules, name)), name)):
        leader = left.get(calendar.rules[region].follow)
        own = calendar.opens_in_ms(region) or 0
        begins[region], left[region] = [], []
        for index, _ in enumerate(calendar.plan.waves):
            begin = max(own if index == 0 else left[region][-1], leader[index] if leader else 0)
            begins[region].append(begin)
            left[region].append(begin + lasts(region, index))
        if not calendar.vehicles(region):
            # A region without vehicles holds nobody up.
            left[region] = [0 for _ in calendar.plan.waves]
    return begins


def warnings(calendar: Calendar) -> Iterator[str]:
    """What cannot work as written with this fleet, or deserves a second look, for people."""
    yield from _approval_warnings(calendar.plan)
    for region in sorted(calendar.rules):
        if calendar.vehicles(region):
            yield from _zone_warnings(calendar, region)
            yield from _window_warnings(calendar, region)
    yield from _follow_warnings(calendar)


def _chain(rules: Mapping[str, RegionRules], region: str) -> list[str]:
    """A region and those that it follows, nearest first."""
    chain = [region]
    while rules[chain[-1]].follow in rules and rules[chain[-1]].follow not in chain:
        chain.append(rules[chain[-1]].follow)
    return chain


def _begins(calendar: Calendar) -> dict[str, list[int]]:
    """By region: how long after the start each of its waves can begin at best, in milliseconds."""
    plan = calendar.plan

    def lasts(region: str, wave: int) -> int:
        return max(plan.waves[wave].soak_ms, aging_ms(plan, wave) if calendar.added(region, wave) else 0)

    return begins_ms(calendar, lasts)


def _region(calendar: Calendar, region: str, begins: Sequence[int]) -> RegionPreview:
    rules, vehicles = calendar.rules[region], calendar.vehicles(region)
    spans: list[OpenWindow] = []
    if rules.windows or rules.freezes:
        for zone in list(vehicles)[:ZONES_SHOWN]:
            spans += [
                OpenWindow(zone=zone, vehicles=vehicles[zone], start=span.start, end=span.end)
                for span in windows.openings(rules, zone, calendar.now, OPENINGS_SHOWN)
            ]
    return RegionPreview(
        region=region,
        targeted=sum(vehicles.values()),
        follow=rules.follow,
        consent=rules.consent,
        windows=tuple(sorted(spans, key=lambda span: (span.start, span.zone))),
        message=_message(calendar, region, begins[0], spans) if vehicles else "no targeted vehicle is in it",
    )


def _message(calendar: Calendar, region: str, begins_in_ms: int, spans: Sequence[OpenWindow]) -> str:
    rules, first = calendar.rules[region], calendar.plan.waves[0]
    bound = []
    if rules.follow in calendar.rules:
        soonest = f", in {duration(begins_in_ms)} at the earliest" if begins_in_ms else ""
        bound.append(f"when region {rules.follow} is through with wave {first.name}{soonest}")
    if first.approvals:
        bound.append(f"after {_counted(first.approvals, 'approval')} of wave {first.name}")
    begins = f"begins {' and '.join(bound)}" if bound else "begins at the start"
    asks = {
        Consent.NONE: "",
        Consent.NOTICE: "; owners are told",
        Consent.REQUIRED: "; each owner has to agree",
    }[rules.consent]
    return f"{begins}; {_installs(calendar, rules, spans)}{asks}"


def _installs(calendar: Calendar, rules: RegionRules, spans: Sequence[OpenWindow]) -> str:
    if not rules.windows and not rules.freezes:
        return "vehicles install at any time"
    if not spans:
        return f"no vehicle may install in the next {windows.HORIZON_DAYS} days"
    soonest = min(spans, key=lambda span: (span.start, span.zone))
    until = ""
    if soonest.end is not None:
        until = f" to {windows.local_time(soonest.zone, soonest.end)}"
    if soonest.start <= calendar.now:
        return f"vehicles may install now{until or ' and from then on'}"
    wait = duration(soonest.start - calendar.now)
    return f"vehicles install from {windows.local_time(soonest.zone, soonest.start)}{until}, first in {wait}"


def _approval_warnings(plan: Plan) -> Iterator[str]:
    gated = [f"{wave.name} ({wave.approvals})" for wave in plan.waves if wave.approvals]
    if gated:
        one = len(gated) == 1
        yield (
            f"wave{'' if one else 's'} {', '.join(gated)} {'begins' if one else 'begin'} "
            "only after approvals by people other than whoever starts the rollout: it stands until they are there"
        )


def _zone_warnings(calendar: Calendar, region: str) -> Iterator[str]:
    rules = calendar.rules[region]
    if not rules.windows and not rules.freezes:
        return
    nowhere = calendar.zones.get((region, ""), 0)
    if nowhere and windows.zone_among("", rules) == "UTC":
        yield (
            f"UTC is assumed for {nowhere} vehicles of region {region}, whose inventory names no zone: "
            "its windows may be open at their noon. Give the region or the vehicles a `zone`"
        )


def _window_warnings(calendar: Calendar, region: str) -> Iterator[str]:
    rules, plan = calendar.rules[region], calendar.plan
    for zone, count in calendar.vehicles(region).items():
        spans = windows.openings(rules, zone, calendar.now, OPENINGS_LOOKED_AT)
        if not spans:
            yield (
                f"region {region}: freeze days cover every opening of the next {windows.HORIZON_DAYS} days "
                f"for {count} vehicles in {zone}: none of them can install"
            )
            continue
        longest, deadline = longest_wait_ms(spans, calendar.now), plan.deadlines_ms[AttemptState.DEFERRED]
        if longest > deadline:
            yield (
                f"region {region}: vehicles in {zone} wait up to {duration(longest)} for an opening, "
                f"longer than deadlines.deferred ({duration(deadline)}): their attempts would time out"
            )
        if longest > plan.limits.patience_ms:
            yield (
                f"region {region}: vehicles in {zone} wait up to {duration(longest)} for an opening, longer than "
                f"limits.patience ({duration(plan.limits.patience_ms)}): the last wave may end without them"
            )


def longest_wait_ms(spans: Sequence[windows.Span], now: FleetTime) -> int:
    """The longest time between openings, the first one counted from now."""
    waits = [later.start - earlier.end for earlier, later in pairwise(spans) if earlier.end is not None]
    return max([spans[0].start - now, *waits])


def _follow_warnings(calendar: Calendar) -> Iterator[str]:
    chains = [_chain(calendar.rules, region) for region in sorted(calendar.rules)]
    longest = max(chains, key=len, default=[])
    if len(longest) < 2:
        return
    alone = {region: replace(rules, follow="") for region, rules in calendar.rules.items()}
    apart = Calendar(calendar.plan, alone, calendar.zones, calendar.sizes, calendar.now)
    added_ms = shortest_ms(calendar) - shortest_ms(apart)
    if added_ms >= _DAY_MS:
        yield f"following adds at least {duration(added_ms)}: {' follows '.join(longest)}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
