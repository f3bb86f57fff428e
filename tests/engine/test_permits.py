"""Permits: window, conditions, consent and exclusions bind here, with the values, and say when to ask again."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.permits import RETRY_MS, SPREAD_MAX_MS, VALID_MIN_MS, Clear, NotNow, may_install, unmet
from orchestrator.model.attempt import AttemptState
from orchestrator.model.decision import RefusalReason
from orchestrator.model.plan import Consent, Freeze, Preconditions, RegionRules, Window
from orchestrator.model.vehicle import EVERY_ROLLOUT, Conditions, Exclusion, LinkType
from tests.builders import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    NOW,
    SECOND_MS,
    a_cell,
    a_plan,
    a_record,
    a_rollout,
    a_vehicle,
    after,
    an_attempt,
    some_limits,
)

Reason = RefusalReason
EVERY_DAY = tuple(range(7))
NIGHT = Window(weekdays=EVERY_DAY, start_minute=22 * 60, end_minute=5 * 60)
VALID_MS = 15 * MINUTE_MS
GOOD = Conditions(link=LinkType.WIFI, battery_percent=80, parked=True)
PLAN_CONDITIONS = Preconditions(unmetered=True, parked=True, battery_percent_min=30)


def ruled(*, preconditions=Preconditions(), permit_valid_ms=VALID_MS, **rules):  # noqa: B008 - a frozen value
    """A rollout whose region eu has these rules."""
    plan = a_plan(
        regions={"eu": RegionRules(in_flight_max=10, **rules)},
        limits=some_limits(permit_valid_ms=permit_valid_ms),
        preconditions=preconditions,
    )
    return a_rollout(plan=plan)


def asked(rollout, now=NOW, *, record=None, conditions=GOOD, consented=False, attempt=None, offline=False):
    """The answer to vehicle v-1, downloaded."""
    attempt = attempt or an_attempt(AttemptState.DOWNLOADED)
    return may_install(record or a_record(), attempt, rollout, conditions, consented, now, offline=offline)


def refused(*args, **kwargs) -> NotNow:
    """A refusal."""
    answer = asked(*args, **kwargs)
    assert isinstance(answer, NotNow)
    assert answer.refusal.message
    assert answer.refusal.facts
    return answer


def test_without_rules_a_permit_is_good_for_the_plans_time():
    """A plan of six lines asks nothing of the vehicle, not even that it tells how it stands."""
    assert asked(ruled(), conditions=None) == Clear(VALID_MS)


def test_permit_does_not_outlast_its_window():
    """Ten minutes before five a permit is good for ten minutes."""
    assert asked(ruled(windows=(NIGHT,)), after(4 * HOUR_MS + 50 * MINUTE_MS)) == Clear(10 * MINUTE_MS)
    assert asked(ruled(windows=(NIGHT,)), after(4 * HOUR_MS)) == Clear(VALID_MS)


def test_rest_of_a_window_too_short_for_a_permit_is_closed():
    """A permit of thirty seconds would only spend the budget; the vehicle comes back at the next opening."""
    now = after(5 * HOUR_MS - 30 * SECOND_MS)
    answer = refused(ruled(windows=(NIGHT,)), now)
    assert answer.refusal.reason is Reason.WINDOW_CLOSED
    assert answer.refusal.facts["left_ms"] == "30000"
    assert "in 30 s: a permit needs 1 min" in answer.refusal.message
    assert answer.retry_after_ms is not None
    assert now + answer.retry_after_ms >= after(22 * HOUR_MS)
    assert asked(ruled(windows=(NIGHT,)), after(5 * HOUR_MS - VALID_MIN_MS)) == Clear(VALID_MIN_MS)
    # A plan whose permits are shorter than that by themselves is content with less.
    assert asked(ruled(windows=(NIGHT,), permit_valid_ms=20 * SECOND_MS), now) == Clear(20 * SECOND_MS)


def test_closed_window_says_when_it_opens_by_the_dashboard():
    """The owner in Kathmandu and the operator in Berlin read the same sentence."""
    rollout = ruled(windows=(NIGHT,), zone="Europe/Berlin")
    record = a_record(a_vehicle(zone="Asia/Kathmandu"))
    answer = refused(rollout, record=record)
    assert answer.refusal.reason is Reason.WINDOW_CLOSED
    assert answer.refusal.message == (
        "no window is open at 2026-01-01 05:45 Asia/Kathmandu; "
        "the next opens at 2026-01-01 22:00 Asia/Kathmandu, in 16 h 15 min"
    )
    assert answer.refusal.facts["opens_at"] == "2026-01-01T16:15:00Z"
    # The same instant, for a vehicle by its region's clock: 01:00 in Berlin.
    assert asked(rollout) == Clear(VALID_MS)


def test_freeze_day_is_said_and_waited_out():
    """Not ten minutes later, again and again, over Christmas."""
    frozen = ruled(windows=(NIGHT,), freezes=(Freeze(date(2026, 1, 1), date(2026, 1, 2)),))
    answer = refused(frozen)
    assert answer.refusal.reason is Reason.FREEZE_DAY
    assert answer.retry_after_ms is not None
    assert 0 <= answer.retry_after_ms - 2 * DAY_MS - 22 * HOUR_MS <= SPREAD_MAX_MS


def test_window_that_never_opens_says_so():
    """A freeze over everything is not searched for an end."""
    answer = refused(ruled(freezes=(Freeze(date(2020, 1, 1), date(2090, 1, 1)),)))
    assert "none opens" in answer.refusal.message
    assert answer.retry_after_ms == RETRY_MS


@given(number=st.integers(0, 10_000), minutes=st.integers(1, 600))
def test_fleet_does_not_arrive_in_one_second(number, minutes):
    """Each vehicle comes at its own moment of the first quarter, within half an hour, always the same one."""
    start = 12 * 60
    window = Window(weekdays=EVERY_DAY, start_minute=start, end_minute=start + minutes)
    record = a_record(a_vehicle(f"v-{number}"))
    early, late = (refused(ruled(windows=(window,)), after(at), record=record) for at in (0, HOUR_MS))
    assert early.retry_after_ms is not None
    assert late.retry_after_ms is not None
    assert early.retry_after_ms == late.retry_after_ms + HOUR_MS
    beyond = early.retry_after_ms - start * MINUTE_MS
    assert 0 <= beyond <= min(SPREAD_MAX_MS, minutes * MINUTE_MS / 4)


def test_spread_uses_its_room():
    """A hundred vehicles, one window: they are not all in the same minute of it."""
    waits = [
        refused(ruled(windows=(NIGHT,)), after(6 * HOUR_MS), record=a_record(a_vehicle(f"v-{n}"))) for n in range(99)
    ]
    minutes = {(answer.retry_after_ms or 0) // MINUTE_MS for answer in waits}
    assert len(minutes) > 20


@pytest.mark.parametrize(
    ("conditions", "reason", "said"),
    [
        (replace(GOOD, metered=True), Reason.LINK_METERED, "on a metered link"),
        (replace(GOOD, battery_percent=29), Reason.BATTERY_LOW, "at 29 %"),
        (replace(GOOD, parked=False), Reason.NOT_PARKED, "not parked"),
        (None, Reason.LINK_METERED, "does not tell"),
        (replace(GOOD, battery_percent=30), None, ""),
    ],
)
def test_conditions_of_the_plan_bind(conditions, reason, said):
    """The first that does not hold is named with its value; what is not told does not hold."""
    rollout = ruled(preconditions=PLAN_CONDITIONS)
    if reason is None:
        assert asked(rollout, conditions=conditions) == Clear(VALID_MS)
        return
    answer = refused(rollout, conditions=conditions)
    assert answer.refusal.reason is reason
    assert said in answer.refusal.message
    assert answer.retry_after_ms == RETRY_MS


LINKS = Preconditions(links=(LinkType.WIFI, LinkType.WIRED))
ROOM = Preconditions(storage_free_bytes_min=2_000_000_000)


@pytest.mark.parametrize(
    ("preconditions", "told", "reason", "said"),
    [
        (LINKS, {"link": LinkType.WIRED}, None, ""),
        (LINKS, {"link": LinkType.CELLULAR}, Reason.LINK_UNSUITABLE, "a link by wifi, wired, the vehicle is connected"),
        (LINKS, {"link": LinkType.UNKNOWN}, Reason.LINK_UNSUITABLE, "connected by unknown"),
        (ROOM, {"storage_free_bytes": 2_000_000_000}, None, ""),
        (ROOM, {"storage_free_bytes": 1_999_999_999}, Reason.STORAGE_LOW, "2000000000 bytes of free storage"),
    ],
)
def test_link_and_storage_bind(preconditions, told, reason, said):
    """What would fail in the middle is not begun; a link that nobody knows is none of those that will do."""
    refusal = unmet(preconditions, replace(GOOD, **told))
    assert (refusal.reason if refusal else None) is reason
    assert refusal is None or said in refusal.message


@pytest.mark.parametrize(
    ("preconditions", "reason"),
    [
        (LINKS, Reason.LINK_UNSUITABLE),
        (ROOM, Reason.STORAGE_LOW),
        (Preconditions(battery_percent_min=1), Reason.BATTERY_LOW),
        (Preconditions(parked=True), Reason.NOT_PARKED),
        (Preconditions(unmetered=True), Reason.LINK_METERED),
    ],
)
def test_unknown_conditions_are_refused_only_where_asked_for(preconditions, reason):
    """Missing data never means yes, and never stops a plan that does not ask."""
    assert refused(ruled(preconditions=preconditions), conditions=None).refusal.reason is reason
    bad = Conditions(metered=True, battery_percent=0, parked=False)
    assert asked(ruled(), conditions=bad) == Clear(VALID_MS)


@pytest.mark.parametrize(
    ("consent", "consented", "clear"),
    [
        (Consent.NONE, False, True),
        (Consent.NOTICE, False, True),
        (Consent.REQUIRED, False, False),
        (Consent.REQUIRED, True, True),
    ],
)
def test_consent_binds_where_it_is_required(consent, consented, clear):
    """No without a yes; telling the owner is not asking."""
    answer = asked(ruled(consent=consent), consented=consented)
    assert isinstance(answer, Clear) is clear
    if isinstance(answer, NotNow):
        assert answer.refusal.reason is Reason.CONSENT_MISSING


def test_excluded_vehicle_gets_no_permit():
    """A quarantine also holds a vehicle that has downloaded already; one of another rollout does not."""
    denied = Exclusion(scope="spring", actor="bob", reason="lab car", at=NOW)
    record = a_record(exclusions=(denied,))
    assert refused(ruled(), record=record).refusal.reason is Reason.DENIED
    record = replace(record, exclusions=(Exclusion(EVERY_ROLLOUT, "eve", "crash test", NOW), denied))
    answer = refused(ruled(), record=record)
    assert answer.refusal.reason is Reason.QUARANTINED
    assert answer.refusal.message == "quarantined since 2026-01-01T00:00:00Z by eve: crash test"
    assert asked(ruled(), record=a_record(exclusions=(replace(denied, scope="other"),))) == Clear(VALID_MS)


def test_permit_that_was_given_is_only_told_again():
    """The reply was lost and the window closed since: what has a permit runs on, for as long as it was good."""
    rollout = ruled(windows=(NIGHT,), consent=Consent.REQUIRED, preconditions=PLAN_CONDITIONS)
    given_at = after(4 * HOUR_MS + 50 * MINUTE_MS)
    attempt = an_attempt(AttemptState.PERMITTED, permitted_at=given_at)
    later = after(5 * HOUR_MS)
    assert asked(rollout, later, attempt=attempt, conditions=None) == Clear(10 * MINUTE_MS)


def test_rules_are_those_of_the_region_of_the_grant():
    """A vehicle moved to another region while it downloads: the attempt is counted, and ruled, where it was granted."""
    rollout = ruled(windows=(NIGHT,))
    record = a_record(a_vehicle(region="us"))
    noon = after(12 * HOUR_MS)
    assert refused(rollout, noon, record=record).refusal.reason is Reason.WINDOW_CLOSED
    moved = an_attempt(AttemptState.DOWNLOADED, cell=a_cell(region="us"))
    assert asked(rollout, noon, record=record, attempt=moved) == Clear(VALID_MS)


def test_offline_permit_needs_the_plan_and_the_wish():
    """A day in which nothing calls a permit back is given to nobody by default, and to nobody who does not ask."""
    assert refused(ruled(), offline=True).refusal.reason is Reason.OFFLINE_NOT_ALLOWED
    assert refused(ruled(), offline=True).retry_after_ms == RETRY_MS
    allowed = ruled(offline_permit_ms=12 * HOUR_MS)
    assert asked(allowed) == Clear(VALID_MS)
    assert asked(allowed, offline=True) == Clear(VALID_MS, offline_ms=12 * HOUR_MS)


def test_offline_permit_does_not_outlast_its_window():
    """Out of reach it is nobody's but the vehicle's to look at the clock; a window still binds."""
    allowed = ruled(offline_permit_ms=12 * HOUR_MS, windows=(NIGHT,))
    assert asked(allowed, offline=True) == Clear(VALID_MS, offline_ms=5 * HOUR_MS)
    assert refused(allowed, after(12 * HOUR_MS), offline=True).refusal.reason is Reason.WINDOW_CLOSED


def test_offline_permit_is_asked_for_on_the_way():
    """It is driven there, and charged there: what the vehicle looks at when it begins is not asked before."""
    strict = Preconditions(unmetered=True, parked=True, battery_percent_min=30, storage_free_bytes_min=5)
    allowed = ruled(offline_permit_ms=12 * HOUR_MS, preconditions=strict, consent=Consent.REQUIRED)
    driven = Conditions(link=LinkType.CELLULAR, battery_percent=10, parked=False, storage_free_bytes=5)
    assert asked(allowed, conditions=driven, offline=True, consented=True) == Clear(VALID_MS, 12 * HOUR_MS)
    assert refused(allowed, conditions=driven, consented=True).refusal.reason is Reason.BATTERY_LOW
    assert refused(allowed, conditions=driven, offline=True).refusal.reason is Reason.CONSENT_MISSING
    for lacks, reason in (
        (replace(driven, metered=True), Reason.LINK_METERED),
        (replace(driven, storage_free_bytes=4), Reason.STORAGE_LOW),
        (None, Reason.LINK_METERED),
    ):
        assert refused(allowed, conditions=lacks, offline=True, consented=True).refusal.reason is reason


def test_offline_permit_is_told_again_as_it_was_given():
    """A lost reply; also when the plan's rules, the window or the wish are others by then."""
    held = an_attempt(AttemptState.PERMITTED, permitted_at=NOW, offline_ms=5 * HOUR_MS)
    for offline in (False, True):
        assert asked(ruled(), after(HOUR_MS), attempt=held, offline=offline) == Clear(VALID_MS, offline_ms=5 * HOUR_MS)


def test_nobody_is_let_out_of_reach_whom_a_person_keeps_out():
    """Exclusions come first."""
    kept_out = a_record(exclusions=(Exclusion(scope=EVERY_ROLLOUT, actor="eve", reason="crash test", at=NOW),))
    assert refused(ruled(), record=kept_out, offline=True).refusal.reason is Reason.QUARANTINED
