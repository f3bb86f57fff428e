"""Roads: when modelled vehicles can be reached at all, and may install: windows, freeze days, outages.

Owns moving a moment that does not suit to the next one that does. Windows are those of the plan, by the clock on each
vehicle's dashboard (`engine/windows`); outages are the scenario's. A region that is out of reach neither calls nor is
heard; the service sees that its calls stop, and the region is dark until they are back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.engine import windows
from orchestrator.model.ids import FleetTime
from orchestrator.model.plan import RegionRules
from orchestrator.rehearsal.vehicles import Floats, Ints

HOUR_MS = 3_600_000
NOTICED_AFTER_H = 1.0
"""A region is known to be dark after a whole half hour without its calls, which begins up to half an hour late."""
FORGOTTEN_AFTER_H = 1.0
"""The same at its end."""

_OPENINGS_MAX = 4096
_CROWD_H = 0.5
"""Vehicles that waited for a moment come within so much of it, not all at once."""


@dataclass(frozen=True, slots=True)
class Outage:
    """A region that is out of reach for a while."""

    region: str
    from_h: float
    """Since the start."""
    until_h: float


@dataclass(frozen=True, slots=True)
class Spans:
    """Times in which something holds, apart from each other and in order; hours since the start."""

    starts: Floats
    ends: Floats

    def holds(self, at_h: Floats) -> np.typing.NDArray[np.bool_]:
        """Whether it holds at each moment."""
        index = np.searchsorted(self.ends, at_h, side="right")
        inside = index < len(self.ends)
        return inside & (self.starts[np.minimum(index, len(self.starts) - 1)] <= at_h) if len(self.ends) else inside

    def after(self, at_h: Floats) -> Floats:
        """The end of the span that each moment lies in; only where it holds."""
        return self.ends[np.minimum(np.searchsorted(self.ends, at_h, side="right"), len(self.ends) - 1)]

    def next(self, at_h: Floats) -> tuple[Floats, Floats]:
        """Start and end of the span that each moment lies in, or of the next one; inf when none comes."""
        if not len(self.ends):
            return np.full(len(at_h), np.inf), np.full(len(at_h), np.inf)
        index = np.searchsorted(self.ends, at_h, side="right")
        known = index < len(self.ends)
        index = np.minimum(index, len(self.ends) - 1)
        return np.where(known, self.starts[index], np.inf), np.where(known, self.ends[index], np.inf)


ALWAYS = Spans(np.array([-np.inf]), np.array([np.inf]))


class Roads:
    """Where every vehicle is, and when it can be reached there.

    Args:
        regions: Names, by index.
        region: By cell: index into `regions`.
        cell: By vehicle: which cell it is in.
        open: By place (region and zone): when installations may begin.
        place: By vehicle: index into `open`.
        outages: Of the scenario.
        seed: Of when waiting vehicles come.
    """

    def __init__(
        self,
        *,
        regions: Sequence[str],
        region: Ints,
        cell: Ints,
        open: Sequence[Spans],
        place: Ints,
        outages: Sequence[Outage],
        seed: int,
    ) -> None:
        self._region_of_cell, self._region = region, region[cell]
        self._place, self._open = place, tuple(open)
        self._out = [spans_of(outages, name) for name in regions]
        self._dark = [_dark(spans) for spans in self._out]
        self._regions = tuple(regions)
        self._rng = np.random.default_rng([seed, 2])
        self.windows = any(spans is not ALWAYS for spans in self._open)
        """Whether there are times at which some may not install."""
        self.outages = bool(outages)
        """Whether anybody is ever out of reach."""

    def may_install(self, who: Ints, when_h: Floats) -> Floats:
        """When vehicles that call and would install then may; inf when never.

        Args:
            who: Which vehicles.
            when_h: When each calls; it is in reach then.
        """
        later = when_h.copy()
        for index, spans in enumerate(self._open):
            here = np.flatnonzero(self._place[who] == index)
            if spans is ALWAYS or not len(here):
                continue
            start, end = spans.next(later[here])
            never = ~np.isfinite(start)
            length = np.where(never, 0.0, end - np.where(never, 0.0, start))
            crowd = np.minimum(_CROWD_H, length / 2) * self._rng.random(len(here))
            later[here] = np.where(start <= later[here], later[here], start + crowd)
        return later

    def heard(self, who: Ints, at_h: Floats) -> Floats:
        """When a call or a word of each vehicle arrives that would have come at `at_h`; inf stays."""
        later = at_h.copy()
        for index, spans in enumerate(self._out):
            if not len(spans.ends):
                continue
            here = np.flatnonzero(self._region[who] == index)
            out = here[spans.holds(later[here])]
            later[out] = spans.after(later[out]) + _CROWD_H * self._rng.random(len(out))
        return later

    def checkpoint(self, cells: Ints, due_h: Floats) -> Floats:
        """When a checkpoint is looked at that is due then: that of a dark region is put off until it is light.

        Args:
            cells: Of each exposure or control.
            due_h: When each would be looked at.
        """
        later = due_h.copy()
        for index, spans in enumerate(self._dark):
            here = np.flatnonzero(self._region_of_cell[cells] == index)
            if len(here) and len(spans.ends):
                dark = spans.holds(later[here])
                later[here] = np.where(dark, spans.after(later[here]), later[here])
        return later

    def dark(self, at_h: float) -> frozenset[str]:
        """Regions that the service knows to be dark."""
        moment = np.array([at_h])
        return frozenset(
            name for name, spans in zip(self._regions, self._dark, strict=True) if spans.holds(moment).any()
        )


def spans_of(outages: Sequence[Outage], region: str) -> Spans:
    """When a region is out of reach: its outages, those that touch as one."""
    merged: list[list[float]] = []
    for outage in sorted(outages, key=lambda one: one.from_h):
        if outage.region != region:
            continue
        if merged and outage.from_h <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], outage.until_h)
        else:
            merged.append([outage.from_h, outage.until_h])
    return Spans(np.array([low for low, _ in merged]), np.array([high for _, high in merged]))


def openings(rules: RegionRules, zone: str, start: FleetTime, horizon_h: float) -> Spans:
    """When installations may begin in a zone of a region.

    Args:
        rules: Of the region.
        zone: By the inventory of the vehicles; empty for that of the region.
        start: When the rollout starts.
        horizon_h: How far to look.
    """
    if not rules.windows and not rules.freezes:
        return ALWAYS
    starts, ends = [], []
    for span in windows.openings(rules, windows.zone_among(zone, rules), start, _OPENINGS_MAX):
        begins_h = (span.start - start) / HOUR_MS
        if begins_h > horizon_h:
            break
        starts.append(begins_h)
        ends.append((span.end - start) / HOUR_MS if span.end is not None else np.inf)
    return Spans(np.array(starts), np.array(ends))


def places(
    rules: Mapping[str, RegionRules], homes: Sequence[tuple[str, str]], start: FleetTime, horizon_h: float
) -> list[Spans]:
    """Openings by place.

    Args:
        rules: By region.
        homes: Region and zone of each place.
        start: When the rollout starts.
        horizon_h: How far to look.
    """
    return [openings(rules[region], zone, start, horizon_h) for region, zone in homes]


def _dark(out: Spans) -> Spans:
    """When a region that is out of reach is known to be: later, and a little longer."""
    long = out.ends - out.starts > NOTICED_AFTER_H
    return Spans(out.starts[long] + NOTICED_AFTER_H, out.ends[long] + FORGOTTEN_AFTER_H)
