"""Permits: may this vehicle install at this moment, as far as the plan and the vehicle itself decide it.

Owns what is asked at the point of no return of one vehicle: exclusions, window and freeze days, conditions, consent.
Harm begins at a permit, so these bind it and not the grant nor the download. What many vehicles share (status, fence,
start quota, blast budget, dead-man) is taken by the store, in one atomic step, after this said yes.

The order, from what only a person changes to what the vehicle can mend by itself:

1. QUARANTINED, DENIED                    a person keeps it out
   OFFLINE_NOT_ALLOWED                    it wants to install out of reach, and the plan gives no permit for that here
2. FREEZE_DAY, WINDOW_CLOSED              its dashboard shows another time, or too little of the window is left
3. LINK_METERED, LINK_UNSUITABLE, STORAGE_LOW, BATTERY_LOW, NOT_PARKED
                                          a condition does not hold, or the vehicle does not tell whether it does
4. CONSENT_MISSING                        its owner has not agreed to this attempt
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from orchestrator.engine import selection, windows
from orchestrator.engine.wording import duration, instant
from orchestrator.model.attempt import Attempt
from orchestrator.model.decision import Refusal, RefusalReason
from orchestrator.model.ids import FleetTime
from orchestrator.model.plan import Consent, Preconditions, RegionRules
from orchestrator.model.rollout import Rollout
from orchestrator.model.vehicle import EVERY_ROLLOUT, Conditions, Exclusion, VehicleRecord

RETRY_MS = 600_000
"""After which a vehicle asks again when nothing says when its answer may change."""
VALID_MIN_MS = 60_000
"""Shortest permit worth giving: of a window that ends earlier a vehicle would make nothing. A plan may ask for less."""
SPREAD_SHARE = 0.25
"""Part of a window over which the first asking of a fleet is spread."""
SPREAD_MAX_MS = 1_800_000
"""Longest such spread."""


@dataclass(frozen=True, slots=True)
class Clear:
    """As far as plan and vehicle decide it, it may install."""

    valid_ms: int
    """How long a permit is good for, from when it was given (now, unless it was before): the plan's `permit_valid`, cut
    to the end of the window.
    """
    offline_ms: int = 0
    """The same of an offline permit: the region's `offline_permit`, cut likewise; 0: an ordinary one is asked for."""


@dataclass(frozen=True, slots=True)
class NotNow:
    """It may not install now."""

    refusal: Refusal
    retry_after_ms: int | None
    """When to ask again; None: not for this attempt."""


def may_install(
    record: VehicleRecord,
    attempt: Attempt,
    rollout: Rollout,
    conditions: Conditions | None,
    consented: bool,
    now: FleetTime,
    *,
    offline: bool = False,
) -> Clear | NotNow:
    """May a vehicle install now, as far as the plan and the vehicle itself decide it?

    Args:
        record: The vehicle as it stands now: its zone, its exclusions.
        attempt: The one that asks; the rules are those of the region in which it was granted.
        rollout: Of the attempt.
        conditions: As the vehicle told them when it asked, or at its last contact; None when it told none.
        consented: Whether its owner agreed to this attempt.
        now: Fleet time.
        offline: Whether it will install where it cannot be reached. Then `parked` and `battery` are left to the
            vehicle, which looks when it begins: it asks on the way there.
    """
    rules = rules_of(attempt.cell.region, rollout)
    if attempt.permitted_at is not None:
        # What has a permit runs on: it is only told again, for as long as it was good from the beginning.
        return Clear(_valid_ms(record, rules, rollout, attempt.permitted_at), attempt.offline_ms)
    refusal = excluded(record, rollout) or (_offline(rules, attempt.cell.region) if offline else None)
    if refusal is not None:
        return NotNow(refusal, RETRY_MS)
    closed = _closed(record, rules, rollout, now)
    if closed is not None:
        return closed
    wanted = rollout.plan.preconditions
    wanted = replace(wanted, parked=False, battery_percent_min=0) if offline else wanted
    refusal = unmet(wanted, conditions) or _consent(rules, consented)
    if refusal is not None:
        return NotNow(refusal, RETRY_MS)
    offline_ms = _in_window(record, rules, rules.offline_permit_ms, now) if offline else 0
    return Clear(_valid_ms(record, rules, rollout, now), offline_ms)


def rules_of(region: str, rollout: Rollout) -> RegionRules:
    """The rules of a region, also of one that the rollout does not run in (a vehicle that moved): the defaults."""
    return rollout.plan.regions.get(region, rollout.plan.region_defaults)


def excluded(record: VehicleRecord, rollout: Rollout) -> Refusal | None:
    """Why a person keeps a vehicle out of a rollout; None when nobody does. A quarantine comes before a denial."""
    by_scope = {exclusion.scope: exclusion for exclusion in record.exclusions}
    quarantine, denial = by_scope.get(EVERY_ROLLOUT), by_scope.get(rollout.rollout_id)
    if quarantine is not None:
        return _excluded(RefusalReason.QUARANTINED, "quarantined", quarantine)
    if denial is not None:
        return _excluded(RefusalReason.DENIED, f"kept out of rollout {rollout.rollout_id}", denial)
    return None


def unmet(wanted: Preconditions, conditions: Conditions | None) -> Refusal | None:
    """The first of the plan's conditions that does not hold; None when all do. What is unknown does not hold."""
    if wanted.unmetered and (conditions is None or conditions.metered):
        return _unmet(RefusalReason.LINK_METERED, "an unmetered link", "on a metered link", "link", conditions)
    links = ", ".join(wanted.links)
    if wanted.links and (conditions is None or conditions.link not in wanted.links):
        found = f"connected by {conditions.link}" if conditions else ""
        return _unmet(RefusalReason.LINK_UNSUITABLE, f"a link by {links}", found, "link", conditions)
    room = wanted.storage_free_bytes_min
    if room and (conditions is None or conditions.storage_free_bytes < room):
        found = f"at {conditions.storage_free_bytes} bytes free" if conditions else ""
        return _unmet(RefusalReason.STORAGE_LOW, f"{room} bytes of free storage", found, "storage", conditions)
    least = wanted.battery_percent_min
    if least and (conditions is None or conditions.battery_percent < least):
        found = f"at {conditions.battery_percent} %" if conditions else ""
        return _unmet(RefusalReason.BATTERY_LOW, f"a battery of at least {least} %", found, "battery", conditions)
    if wanted.parked and (conditions is None or not conditions.parked):
        return _unmet(RefusalReason.NOT_PARKED, "a parked vehicle", "not parked", "parked", conditions)
    return None


def window_refusal(
    record: VehicleRecord, rules: RegionRules, now: FleetTime
) -> tuple[Refusal, FleetTime | None] | None:
    """Why a vehicle's window is closed, and when it opens (None: never in sight); None when it is open."""
    zone = windows.zone_of(record.vehicle, rules)
    state = windows.at(rules, zone, now)
    if isinstance(state, windows.Open):
        return None
    local = windows.local_time(zone, now)
    facts = {"zone": zone, "local_time": local, "region_zone": rules.zone}
    what = "a freeze day holds" if state.why is RefusalReason.FREEZE_DAY else "no window is open"
    if state.opens_at is None:
        never = f"in the next {windows.HORIZON_DAYS} days none opens"
        return Refusal(state.why, f"{what} at {local}; {never}", facts), None
    opens = windows.local_time(zone, state.opens_at)
    facts |= {"opens_at": instant(state.opens_at), "opens_at_ms": str(state.opens_at), "opens_local": opens}
    message = f"{what} at {local}; the next opens at {opens}, in {duration(state.opens_at - now)}"
    return Refusal(state.why, message, facts), state.opens_at


def _valid_ms(record: VehicleRecord, rules: RegionRules, rollout: Rollout, given_at: FleetTime) -> int:
    return _in_window(record, rules, rollout.plan.limits.permit_valid_ms, given_at)


def _in_window(record: VehicleRecord, rules: RegionRules, valid_ms: int, given_at: FleetTime) -> int:
    """A validity, cut to the end of the vehicle's window."""
    state = windows.at(rules, windows.zone_of(record.vehicle, rules), given_at)
    until = state.until if isinstance(state, windows.Open) else None
    return valid_ms if until is None else min(valid_ms, until - given_at)


def _closed(record: VehicleRecord, rules: RegionRules, rollout: Rollout, now: FleetTime) -> NotNow | None:
    found = window_refusal(record, rules, now)
    if found is not None:
        refusal, opens_at = found
        return NotNow(refusal, _until(record, rules, rollout, opens_at, now))
    least_ms = min(rollout.plan.limits.permit_valid_ms, VALID_MIN_MS)
    left_ms = _valid_ms(record, rules, rollout, now)
    if left_ms >= least_ms:
        return None
    zone, until = windows.zone_of(record.vehicle, rules), FleetTime(now + left_ms)
    spans = windows.openings(rules, zone, until, 1)
    closes = windows.local_time(zone, until)
    refusal = Refusal(
        RefusalReason.WINDOW_CLOSED,
        f"the window closes at {closes}, in {duration(left_ms)}: a permit needs {duration(least_ms)}",
        {
            "zone": zone,
            "local_time": windows.local_time(zone, now),
            "left_ms": str(left_ms),
            "needed_ms": str(least_ms),
        },
    )
    return NotNow(refusal, _until(record, rules, rollout, spans[0].start if spans else None, now))


def _until(
    record: VehicleRecord, rules: RegionRules, rollout: Rollout, opens_at: FleetTime | None, now: FleetTime
) -> int:
    """How long to wait for an opening, so that a fleet does not arrive in one second.

    A vehicle's place in the spread is its draw: the same at each asking, another in each rollout.
    """
    if opens_at is None:
        return RETRY_MS
    zone = windows.zone_of(record.vehicle, rules)
    span = windows.openings(rules, zone, opens_at, 1)[0]
    room_ms = SPREAD_MAX_MS if span.end is None else min(SPREAD_MAX_MS, round((span.end - opens_at) * SPREAD_SHARE))
    place = selection.draw(rollout.salt, record.vehicle.vehicle_id) / selection.DRAW_RANGE
    return max(1, opens_at - now + int(place * room_ms))


def _excluded(reason: RefusalReason, what: str, exclusion: Exclusion) -> Refusal:
    return Refusal(
        reason,
        f"{what} since {instant(exclusion.at)} by {exclusion.actor}: {exclusion.reason}",
        {"since": instant(exclusion.at), "actor": exclusion.actor, "reason": exclusion.reason},
    )


def _unmet(reason: RefusalReason, wanted: str, found: str, fact: str, conditions: Conditions | None) -> Refusal:
    if conditions is None:
        return Refusal(reason, f"the plan asks for {wanted}, and the vehicle does not tell", {fact: "unknown"})
    values = {
        "link": f"{conditions.link.value}, {'metered' if conditions.metered else 'unmetered'}",
        "battery": f"{conditions.battery_percent} %",
        "parked": str(conditions.parked).lower(),
        "storage": f"{conditions.storage_free_bytes} bytes",
    }
    return Refusal(reason, f"the plan asks for {wanted}, the vehicle is {found}", {"wanted": wanted, **values})


def _offline(rules: RegionRules, region: str) -> Refusal | None:
    if rules.offline_permit_ms:
        return None
    return Refusal(
        RefusalReason.OFFLINE_NOT_ALLOWED,
        f"the plan gives no permit in {region} to install out of reach: ask where the installation can begin at once",
        {"region": region},
    )


def _consent(rules: RegionRules, consented: bool) -> Refusal | None:
    if rules.consent is not Consent.REQUIRED or consented:
        return None
    return Refusal(
        RefusalReason.CONSENT_MISSING,
        "the plan asks for the owner's consent, and the owner has not agreed to this attempt",
        {"consent": rules.consent.value, "consented": "false"},
    )
