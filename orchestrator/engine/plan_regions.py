"""Rules of regions in a plan file: defaults at the top level, what single regions have otherwise, and the way back.

Owns zone, windows, freeze days, consent, `follow` and a region's own cap: `zone`, `windows`, `freeze` and `consent` at
the top level hold for every region, also for those that the plan does not name; what stands under `regions` replaces
them, each field as a whole. What they mean while a rollout runs is the matter of `windows`, `regions` and `permits`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any

from orchestrator.engine import plan_readers as read
from orchestrator.engine.plan_nodes import Place
from orchestrator.model.ids import NAME_PATTERN
from orchestrator.model.plan import Consent, Freeze, RegionRules, Window

DEFAULT_FIELDS = ("zone", "windows", "freeze", "consent")
"""Fields of the top level that hold for every region."""
ALWAYS = "always"
"""What `windows` says where installations may begin at any time."""
NONE = "none"
"""What `freeze` says where no day is frozen."""
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_REGION_FIELDS = ("in_flight", "follow", *DEFAULT_FIELDS)
_COUNT_MAX = 100_000_000
_MOST = 100
_WINDOW_WANTED = 'a window such as {days: [mon, tue], from: "22:00", to: "05:00"}'
_FREEZE_WANTED = "a day such as 2026-12-24, or {from: 2026-12-24, to: 2026-12-26}"


def region_defaults(fields: Mapping[str, Place], in_flight_max: int) -> RegionRules:
    """Rules of a region that the plan does not name.

    Args:
        fields: Of the top level.
        in_flight_max: Of all regions together, which is the most that one may have.
    """
    return _rules(fields, RegionRules(in_flight_max=in_flight_max))


def regions(fields: Mapping[str, Place], defaults: RegionRules) -> dict[str, RegionRules]:
    """The plan's own regions; empty when it names none.

    Args:
        fields: Of the top level.
        defaults: As `region_defaults` gave them.
    """
    place = fields.get("regions")
    entries = place.entries("a mapping such as {eu: {}, us: {in_flight: 200}}") if place is not None else None
    found: dict[str, RegionRules] = {}
    followers: dict[str, Place] = {}
    for region, below in (entries or {}).items():
        if not NAME_PATTERN.fullmatch(region):
            below.fault(f"`{region[:40]}` is not a name of a region", f"write {NAME_PATTERN.pattern}")
        section = {} if below.nothing else below.fields(_REGION_FIELDS, "a mapping such as {in_flight: 200}")
        found[region] = _region(section, defaults)
        if "follow" in section:
            followers[region] = section["follow"]
    _check_follow(found, followers)
    return found


def rules_document(rules: RegionRules) -> dict[str, Any]:
    """What stands in a file for the fields of the top level, every default written out."""
    return {
        "zone": rules.zone,
        "windows": [_window_document(window) for window in rules.windows] or ALWAYS,
        "freeze": [_freeze_document(freeze) for freeze in rules.freezes] or NONE,
        "consent": rules.consent.value,
    }


def region_document(rules: RegionRules) -> dict[str, Any]:
    """What stands in a file under one region, every default written out."""
    followed = {"follow": rules.follow} if rules.follow else {}
    return {"in_flight": rules.in_flight_max, **followed, **rules_document(rules)}


def days_of(weekdays: tuple[int, ...]) -> list[str]:
    """Weekdays (0 is Monday) as the file writes them."""
    return [DAYS[weekday] for weekday in weekdays]


def clock_time(minute: int) -> str:
    """A minute of the local day as the file writes it, for example `22:00`."""
    return f"{minute // 60:02}:{minute % 60:02}"


def _region(section: Mapping[str, Place], defaults: RegionRules) -> RegionRules:
    in_flight = read.take(section, "in_flight", read.count(1, _COUNT_MAX), defaults.in_flight_max)
    follow = read.take(section, "follow", read.name, "")
    return replace(_rules(section, defaults), in_flight_max=in_flight, follow=follow)


def _rules(fields: Mapping[str, Place], defaults: RegionRules) -> RegionRules:
    consents = tuple(consent.value for consent in Consent)
    return replace(
        defaults,
        zone=read.take(fields, "zone", read.zone, defaults.zone),
        windows=read.take(fields, "windows", _windows, defaults.windows),
        freezes=read.take(fields, "freeze", _freezes, defaults.freezes),
        consent=Consent(read.take(fields, "consent", read.one_of(consents), defaults.consent.value)),
    )


def _windows(place: Place) -> tuple[Window, ...] | None:
    if place.word == ALWAYS:
        return ()
    return read.several(_window, f"a list of windows, or the word `{ALWAYS}`", most=_MOST)(place)


def _window(place: Place) -> Window | None:
    known = len(place.faults)
    section = place.fields(("days", "from", "to"), _WINDOW_WANTED)
    for field in ("from", "to"):
        if place.mapping and field not in section:
            place.fault(f"the window has no `{field}`", f"write {_WINDOW_WANTED}")
    days = read.take(section, "days", _days, tuple(range(7)))
    begin = read.take(section, "from", read.clock_time(0, 1439), 0)
    end = read.take(section, "to", read.clock_time(1, 1440), 1440)
    if len(place.faults) > known:
        return None
    if begin == end:
        place.fault(
            f"the window is empty: it ends at {clock_time(end)}, when it begins",
            'write from: "00:00" and to: "24:00" for the whole day',
        )
        return None
    return Window(weekdays=days, start_minute=begin, end_minute=end)


def _days(place: Place) -> tuple[int, ...] | None:
    names = read.several(read.one_of(DAYS), f"a list of days such as [{DAYS[0]}, {DAYS[1]}]", most=_MOST)(place)
    if names is None:
        return None
    for name in sorted({name for name in names if names.count(name) > 1}):
        place.fault(f"`{name}` is listed twice", "remove one")
    return tuple(sorted({DAYS.index(name) for name in names}))


def _freezes(place: Place) -> tuple[Freeze, ...] | None:
    if place.word == NONE:
        return ()
    # One alone may stand without its list.
    if place.mapping or place.word:
        freeze = _freeze(place)
        return None if freeze is None else (freeze,)
    return read.several(_freeze, f"a list of days, or the word `{NONE}`", most=_MOST)(place)


def _freeze(place: Place) -> Freeze | None:
    if not place.mapping:
        day = read.day(_FREEZE_WANTED)(place)
        return None if day is None else Freeze(first=day, last=day)
    known = len(place.faults)
    section = place.fields(("from", "to"), _FREEZE_WANTED)
    for field in ("from", "to"):
        if field not in section:
            place.fault(f"the freeze has no `{field}`", f"write {_FREEZE_WANTED}")
    wanted = read.day("a day such as 2026-12-24")
    first, last = (read.take(section, field, wanted, date.min) for field in ("from", "to"))
    if len(place.faults) > known:
        return None
    if last < first:
        section["to"].fault(f"the freeze ends on {last} before it begins on {first}", "write the earlier day as `from`")
        return None
    return Freeze(first=first, last=last)


def _check_follow(found: Mapping[str, RegionRules], followers: Mapping[str, Place]) -> None:
    """Refuse to follow what never leads: a region that is not there, itself, or a ring; each ring once."""
    ringed: set[str] = set()
    for region, place in followers.items():
        followed = found[region].follow
        if not followed:
            continue
        if followed not in found:
            close = difflib.get_close_matches(followed, found, n=1)
            remedy = f"did you mean `{close[0]}`?" if close else f"regions of the plan are {', '.join(found)}"
            place.fault(f"region `{region}` follows `{followed}`, which is not a region of the plan", remedy)
            continue
        chain = [region]
        while found[chain[-1]].follow in found and found[chain[-1]].follow not in chain:
            chain.append(found[chain[-1]].follow)
        if found[chain[-1]].follow == region and not ringed & set(chain):
            ringed |= set(chain)
            ring = " follows ".join((*chain, region))
            place.fault(f"{ring}: none of them would ever begin", "let one of them follow nobody")


def _window_document(window: Window) -> dict[str, Any]:
    return {
        "days": days_of(window.weekdays),
        "from": clock_time(window.start_minute),
        "to": clock_time(window.end_minute),
    }


def _freeze_document(freeze: Freeze) -> dict[str, str]:
    return {"from": freeze.first.isoformat(), "to": freeze.last.isoformat()}
