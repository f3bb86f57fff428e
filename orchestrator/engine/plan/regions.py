"""Rules of regions in a plan file: defaults at the top level, what single regions have otherwise, and the way back.

Owns zone, windows, freeze days, consent, offline permits, `follow` and a region's own caps: `zone`, `windows`,
`freeze`, `consent` and `offline_permit` at the top level hold for every region, also for those that the plan does not
name; what stands under `regions` replaces them, each field as a whole. What they mean while a rollout runs is the
matter of `windows`, `regions` and `permits`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from orchestrator.engine.plan import calendar, words
from orchestrator.engine.plan import readers as read
from orchestrator.engine.plan.fields import Field, Group, Places
from orchestrator.engine.plan.nodes import Place
from orchestrator.engine.plan.values import write_duration, write_rate
from orchestrator.model.ids import NAME_PATTERN
from orchestrator.model.plan import Consent, Purpose, RegionRules

OFFLINE_PERMIT = "offline_permit"
"""The field that says how long offline permits are."""
_SECOND, _DAY = 1_000, 86_400_000
_COUNT_MAX = 100_000_000
_RATE_MAX = 10**15
_REGION_WANTED = "a mapping such as {in_flight: 200}"
_REGIONS_WANTED = "a mapping such as {eu: {}, us: {in_flight: 200}}"
_CONSENT_WORDS = tuple(consent.value for consent in Consent)

_ConsentRule = Consent | Mapping[Purpose, Consent]
_consent_word = read.mapped(read.one_of(_CONSENT_WORDS), Consent)
_PURPOSES = Group(
    "consent",
    tuple(
        Field(purpose.value, _consent_word, Consent.NONE, f"For releases of purpose {purpose}.") for purpose in Purpose
    ),
    "Whether the owner is told or asked.",
    wanted=f"one of {', '.join(_CONSENT_WORDS)}, or a mapping such as {{security: notice, feature: required}}",
)


def _read_consent(place: Place) -> _ConsentRule | None:
    if not place.mapping:
        return _consent_word(place)
    known = len(place.faults)
    section = _PURPOSES.at(place)
    found = {
        Purpose(field.name): field.of(section)
        for field in _PURPOSES.fields
        if isinstance(field, Field) and field.name in section
    }
    return found if len(place.faults) == known else None


_ZONE = Field("zone", words.zone, "UTC", "Time zone of vehicles whose inventory names none.")
_WINDOWS = Field("windows", calendar.windows, (), "When installations may begin, by the vehicle's clock.")
_FREEZE = Field("freeze", calendar.freezes, (), "Days on which no installation begins.")
_CONSENT: Field[_ConsentRule] = Field(
    "consent",
    read.Reader(_read_consent, {"anyOf": [_consent_word.schema, _PURPOSES.schema]}),
    Consent.NONE,
    _PURPOSES.meaning,
)
_NO_OFFLINE_PERMIT = "none"
_OFFLINE_PERMIT = Field(
    OFFLINE_PERMIT,
    read.or_word(read.duration(_SECOND, _DAY), _NO_OFFLINE_PERMIT, 0),
    0,
    "How long a permit may be for a vehicle that installs out of reach; nothing calls it back.",
)
DEFAULT_FIELDS: tuple[Field[Any], ...] = (_ZONE, _WINDOWS, _FREEZE, _CONSENT, _OFFLINE_PERMIT)
"""Fields of the top level that hold for every region."""

_IN_FLIGHT = Field("in_flight", read.count(1, _COUNT_MAX), 0, "Attempts of this region that hold a slot at once.")
_FOLLOW = Field("follow", read.name, "", "The region that must be through with a wave before it begins here.")
_STARTS = Field("starts_per_minute", read.count(1, _COUNT_MAX), 0, "Permits to install a minute in this region.")
_BANDWIDTH = Field(
    "bandwidth", words.rate(1, _RATE_MAX), 0, "What downloads of this region may ask of links and mirrors."
)
_REGION = Group("region", (_IN_FLIGHT, _FOLLOW, _STARTS, _BANDWIDTH, *DEFAULT_FIELDS), "Rules of one region.")


def _read_regions(place: Place) -> dict[str, Place] | None:
    entries = place.entries(_REGIONS_WANTED)
    if entries is None:
        return None
    for region, below in entries.items():
        if not NAME_PATTERN.fullmatch(region):
            below.fault(f"`{region[:40]}` is not a name of a region", f"write {NAME_PATTERN.pattern}")
    return entries


REGIONS: Field[dict[str, Place]] = Field(
    "regions",
    read.Reader(
        _read_regions,
        {
            "type": "object",
            "propertyNames": {"pattern": f"^(?:{NAME_PATTERN.pattern})$"},
            "additionalProperties": {"anyOf": [{"type": "null"}, _REGION.schema]},
        },
    ),
    {},
    "Which regions walk the waves, each on its own; default: every region that the target matches, at the start.",
)


def region_defaults(fields: Places, in_flight_max: int, purpose: Purpose) -> RegionRules:
    """Rules of a region that the plan does not name.

    Args:
        fields: Of the top level.
        in_flight_max: Of all regions together, which is the most that one may have; 0 when that is left to the start.
        purpose: Of the plan.
    """
    return _rules(fields, RegionRules(in_flight_max=in_flight_max), purpose)


def regions(fields: Places, defaults: RegionRules, purpose: Purpose) -> dict[str, RegionRules]:
    """The plan's own regions; empty when it names none.

    Args:
        fields: Of the top level.
        defaults: As `region_defaults` gave them.
        purpose: Of the plan.
    """
    found: dict[str, RegionRules] = {}
    followers: dict[str, Place] = {}
    for region, below in REGIONS.of(fields).items():
        section = {} if below.nothing else below.fields(_REGION.names, _REGION_WANTED)
        found[region] = _region(section, defaults, purpose)
        if _FOLLOW.name in section:
            followers[region] = section[_FOLLOW.name]
    _check_follow(found, followers)
    return found


def rules_document(rules: RegionRules) -> dict[str, Any]:
    """What stands in a file for the fields of the top level, every default written out."""
    return {
        _ZONE.name: rules.zone,
        _WINDOWS.name: calendar.windows_document(rules.windows),
        _FREEZE.name: calendar.freezes_document(rules.freezes),
        _CONSENT.name: rules.consent.value,
        _OFFLINE_PERMIT.name: write_duration(rules.offline_permit_ms)
        if rules.offline_permit_ms
        else _NO_OFFLINE_PERMIT,
    }


def region_document(rules: RegionRules) -> dict[str, Any]:
    """What stands in a file under one region, every default written out."""
    document: dict[str, Any] = {_IN_FLIGHT.name: rules.in_flight_max} if rules.in_flight_max else {}
    if rules.follow:
        document[_FOLLOW.name] = rules.follow
    if rules.starts_per_minute_max:
        document[_STARTS.name] = rules.starts_per_minute_max
    if rules.bandwidth_bytes_per_s:
        document[_BANDWIDTH.name] = write_rate(rules.bandwidth_bytes_per_s)
    return document | rules_document(rules)


def _region(section: Places, defaults: RegionRules, purpose: Purpose) -> RegionRules:
    return replace(
        _rules(section, defaults, purpose),
        in_flight_max=_IN_FLIGHT.of(section) or defaults.in_flight_max,
        follow=_FOLLOW.of(section),
        starts_per_minute_max=_STARTS.of(section),
        bandwidth_bytes_per_s=_BANDWIDTH.of(section),
    )


def _rules(fields: Places, defaults: RegionRules, purpose: Purpose) -> RegionRules:
    return replace(
        defaults,
        zone=read.take(fields, _ZONE.name, _ZONE.reader, defaults.zone),
        windows=read.take(fields, _WINDOWS.name, _WINDOWS.reader, defaults.windows),
        freezes=read.take(fields, _FREEZE.name, _FREEZE.reader, defaults.freezes),
        consent=_consent(fields, defaults.consent, purpose),
        offline_permit_ms=read.take(fields, _OFFLINE_PERMIT.name, _OFFLINE_PERMIT.reader, defaults.offline_permit_ms),
    )


def _consent(fields: Places, default: Consent, purpose: Purpose) -> Consent:
    otherwise: _ConsentRule = default
    rule = read.take(fields, _CONSENT.name, _CONSENT.reader, otherwise)
    if isinstance(rule, Consent):
        return rule
    if purpose not in rule:
        fields[_CONSENT.name].fault(
            f"the plan's purpose is `{purpose}`, and no consent is named for it",
            f"add `{purpose}: {Consent.NONE}`, `{Consent.NOTICE}` or `{Consent.REQUIRED}`, or write another `purpose`",
        )
    return rule.get(purpose, default)


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
