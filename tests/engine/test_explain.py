"""Explain: for any vehicle at any moment the one reason that is true, with its values."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.admission import Candidate
from orchestrator.engine.explain import GRANT, NOT_ENROLLED, SILENT, Explanation, explain
from orchestrator.engine.targets import compile_target
from orchestrator.model.attempt import LIVE_STATES, AttemptState
from orchestrator.model.plan import Consent, Preconditions, RegionRules, Target, Window
from orchestrator.model.rollout import Brake, BrakeKind, RolloutStatus
from orchestrator.model.vehicle import EVERY_ROLLOUT, Conditions, Exclusion, LinkType
from tests.builders import (
    DAY_MS,
    DEADLINES_MS,
    HOUR_MS,
    MINUTE_MS,
    NOW,
    a_plan,
    a_record,
    a_release,
    a_rollout,
    a_try,
    a_vehicle,
    after,
    an_attempt,
)

S, R = AttemptState, RolloutStatus
GOOD = Conditions(link=LinkType.WIFI, battery_percent=80, parked=True)
WANTED = Preconditions(unmetered=True, parked=True, battery_percent_min=30)
NIGHT = Window(weekdays=tuple(range(7)), start_minute=22 * 60, end_minute=5 * 60)
NOON = after(12 * HOUR_MS)
QUARANTINE = Exclusion(scope=EVERY_ROLLOUT, actor="eve", reason="crash test", at=NOW)


def ruled(*, status=R.RUNNING, fence=0, preconditions=Preconditions(), **rules):  # noqa: B008 - a frozen value
    """A rollout whose region eu has these rules."""
    plan = a_plan(regions={"eu": RegionRules(in_flight_max=10, **rules)}, preconditions=preconditions)
    return a_rollout(plan=plan, status=status, fence=fence, actor="bob", reason="lunch")


def explained(record, rollout=None, now=NOON) -> Explanation:
    """What a person is told."""
    rollout = rollout or a_rollout()
    answer = explain(record, Candidate(rollout, a_release(), compile_target(rollout.plan.target)), now)
    assert answer.message
    return answer


def heard(**changes):
    """A vehicle that called an hour ago, well and parked."""
    return a_record(**({"last_seen_at": after(11 * HOUR_MS), "conditions": GOOD} | changes))


def trying(state: AttemptState, *, code: str = "", **changes):
    """A vehicle with an attempt in a state, since NOW."""
    return heard(attempt=an_attempt(state, failure_code=code), tries={"spring": a_try(state)}, **changes)


def test_vehicle_whose_turn_it_is_is_granted_at_its_next_call():
    """Nothing is missing but the call."""
    answer = explained(heard())
    assert answer.reason == GRANT
    assert "granted at its next call: region eu is in wave canary" in answer.message


def test_vehicle_that_does_not_call_is_silent_and_not_about_to_be_granted():
    """The rule would admit it: the true reason is that nobody hears it."""
    answer = explained(heard(last_seen_at=NOW), now=after(3 * DAY_MS))
    assert answer.reason == SILENT
    assert answer.message.startswith("silent since 2026-01-01T00:00:00Z, for 3 d")
    assert explained(heard(last_seen_at=None)).message.startswith("it was never heard")
    assert explained(heard(last_seen_at=NOW), now=after(DAY_MS - 1)).reason == GRANT
    assert explained(heard(last_seen_at=NOW), now=after(DAY_MS)).reason == SILENT


def test_vehicle_that_never_enrolled_cannot_call():
    """Whoever waits for its call waits for ever."""
    assert explained(heard(enrolled=False, last_seen_at=None)).reason == NOT_ENROLLED


def test_reason_against_a_grant_is_told_also_of_a_silent_vehicle():
    """Calling would not help it."""
    target = a_rollout(plan=a_plan(target=Target(model=("X",))))
    assert explained(heard(last_seen_at=None), target).reason == "not_targeted"


@pytest.mark.parametrize(
    ("status", "reason"), [(R.PAUSED, "rollout_paused"), (R.HELD, "rollout_held"), (R.HALTED, "rollout_halted")]
)
def test_stopped_rollout_is_the_reason_before_and_after_the_download(status, reason):
    """With who stopped it, and why; a download goes on meanwhile, and says so."""
    for record in (heard(), trying(S.DOWNLOADED)):
        answer = explained(record, ruled(status=status))
        assert answer.reason == reason
        assert "by bob: lunch" in answer.message
    assert explained(trying(S.DOWNLOADING), ruled(status=status)).reason == "downloading"


def test_closed_window_is_the_reason_once_all_is_downloaded():
    """Not before: windows bind the permit; and with the instant at which it opens."""
    answer = explained(trying(S.DOWNLOADED), ruled(windows=(NIGHT,)))
    assert answer.reason == "window_closed"
    assert "the next opens at 2026-01-01 22:00 UTC, in 10 h" in answer.message
    assert answer.changes_at == after(22 * HOUR_MS)
    assert explained(trying(S.DOWNLOADING), ruled(windows=(NIGHT,))).reason == "downloading"
    assert explained(heard(), ruled(windows=(NIGHT,))).reason == GRANT


@pytest.mark.parametrize(
    ("code", "reason", "said"),
    [
        ("consent_pending", "consent_missing", "waits for its owner to agree since 2026-01-01T00:00:00Z, for 12 h"),
        ("link_metered", "link_metered", "cellular link, metered"),
        ("battery_low", "battery_low", "waits for more battery (at least 30 %) since"),
        ("not_parked", "not_parked", "not parked"),
        ("watched", "watched", "watched as a control since 2026-01-01T00:00:00Z, for 12 h: its permit comes at a"),
        ("quota_spent", "quota_spent", "stood aside as a control, and waits for a place in a wave since"),
        ("sunspots", "deferred", "waits, and asks for a permit when it goes on (sunspots)"),
    ],
)
def test_deferred_attempt_says_what_the_vehicle_waits_for(code, reason, said):
    """As the vehicle told it, with how it stood at its last call."""
    told = Conditions(link=LinkType.CELLULAR, metered=True, battery_percent=12, parked=False)
    answer = explained(trying(S.DEFERRED, code=code, conditions=told), ruled(preconditions=WANTED))
    assert answer.reason == reason
    assert said in answer.message
    assert answer.facts["state"] == "deferred"


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (replace(GOOD, metered=True), "link_metered"),
        (replace(GOOD, battery_percent=29), "battery_low"),
        (replace(GOOD, parked=False), "not_parked"),
        (None, "link_metered"),
        (GOOD, "downloaded"),
    ],
)
def test_downloaded_attempt_waits_for_the_plans_conditions(told, reason):
    """Judged by what the vehicle last told, as its permit would be."""
    answer = explained(trying(S.DOWNLOADED, conditions=told), ruled(preconditions=WANTED))
    assert answer.reason == reason


def test_metered_link_keeps_a_download_waiting_only_where_the_plan_says_so():
    """Of the conditions only this one binds the download; what is unknown does not."""
    metered = replace(GOOD, metered=True)
    for state in (S.OFFERED, S.DOWNLOADING):
        assert explained(trying(state, conditions=metered), ruled(preconditions=WANTED)).reason == "link_metered"
        assert explained(trying(state, conditions=metered), ruled()).reason == state.value
        assert explained(trying(state, conditions=None), ruled(preconditions=WANTED)).reason == state.value


def test_required_consent_is_the_last_thing_that_is_missing():
    """After the window, since owners are asked when they can say yes to something."""
    asks = ruled(consent=Consent.REQUIRED)
    assert explained(trying(S.DOWNLOADED), asks).reason == "consent_missing"
    assert explained(trying(S.DOWNLOADED), ruled(consent=Consent.REQUIRED, windows=(NIGHT,))).reason == "window_closed"
    assert explained(trying(S.DOWNLOADED), ruled(consent=Consent.NOTICE)).reason == "downloaded"


@pytest.mark.parametrize("state", [S.PERMITTED, S.INSTALLING, S.REBOOTING, S.VERIFYING])
def test_exposed_attempt_says_since_when_and_until_when(state):
    """Nothing holds it any more: not the window, not the status, not a quarantine."""
    rollout = ruled(status=R.ABORTED, fence=9, windows=(NIGHT,), preconditions=WANTED, consent=Consent.REQUIRED)
    answer = explained(trying(state, exclusions=(QUARANTINE,)), rollout)
    assert answer.reason == state.value
    assert "since 2026-01-01T00:00:00Z, for 12 h; it times out at" in answer.message
    assert answer.changes_at == NOW + DEADLINES_MS[state]


def test_vehicle_whose_last_contact_is_not_written_yet_was_heard_by_its_attempt():
    """Contacts are written a second late: whoever was granted this moment has called this moment."""
    record = trying(AttemptState.DEFERRED, code="consent_pending", last_seen_at=None)
    assert explained(record).reason == "consent_missing"


def test_silent_vehicle_with_an_attempt_is_silent():
    """What it does was true when it was last heard."""
    answer = explained(trying(S.INSTALLING), now=after(3 * DAY_MS))
    assert answer.reason == SILENT
    assert "silent since 2026-01-01T11:00:00Z, for 2 d 13 h; attempt 1 is installing" in answer.message


def test_fenced_attempt_is_withdrawn_at_its_next_call():
    """Aborted while it downloads; what has a permit runs on."""
    answer = explained(trying(S.DOWNLOADING), ruled(status=R.ABORTED, fence=2))
    assert answer.reason == "fenced"
    assert "withdrawn at its next call: the rollout is aborted" in answer.message


def test_attempt_in_a_halted_part_is_withdrawn_although_the_rollout_runs():
    """Which part, or the operator would look for a halt of the whole that there is not."""
    answer = explained(trying(S.DOWNLOADING), replace(ruled(), fences={"eu/gen2": 2}))
    assert answer.reason == "fenced"
    assert "the rollout is halted in eu/gen2" in answer.message
    assert explained(trying(S.DOWNLOADING), replace(ruled(), fences={"eu/gen1": 2})).reason == "downloading"


def test_downloaded_attempt_in_a_part_that_stands_waits_for_it():
    """With who paused it and why."""
    brake = Brake("eu", BrakeKind.PAUSED, NOW, "bob", "carnival")
    answer = explained(trying(S.DOWNLOADED), replace(ruled(), brakes=(brake,)))
    assert answer.reason == "rollout_paused"
    assert all(word in answer.message for word in ("eu is paused", "bob", "carnival"))


def test_quarantined_vehicle_is_told_so_before_and_during_an_attempt():
    """By whom and why, whatever its download does."""
    for record in (heard(exclusions=(QUARANTINE,)), trying(S.DOWNLOADED, exclusions=(QUARANTINE,))):
        answer = explained(record, ruled(windows=(NIGHT,)))
        assert answer.reason == "quarantined"
        assert "by eve: crash test" in answer.message


def test_failed_attempt_is_told_with_the_vehicles_own_code():
    """The code is what a technician asks for."""
    failed = an_attempt(S.FAILED, exposed=True, failure_code="flash_write_failed")
    record = heard(attempt=failed, tries={"spring": a_try(S.FAILED, exposed=True)})
    answer = explained(record)
    assert answer.reason == "attempt_settled"
    assert answer.message.endswith("the vehicle says flash_write_failed")


def test_retry_says_when():
    """Time alone changes it."""
    record = heard(tries={"spring": a_try(S.FAILED, state_at=NOON)})
    answer = explained(record)
    assert answer.reason == "retry_later"
    assert answer.changes_at is not None
    assert NOON + 10 * MINUTE_MS <= answer.changes_at < NOON + 15 * MINUTE_MS


def test_other_rollouts_attempt_is_not_taken_for_this_ones():
    """An attempt of rollout winter is why spring waits."""
    record = heard(attempt=an_attempt(S.DOWNLOADING, rollout_id="winter"))
    assert explained(record).reason == "other_rollout_first"


@pytest.mark.parametrize("status", [R.ABORTED, R.COMPLETED])
def test_rollout_that_is_over_says_why_it_never_reached_the_vehicle(status):
    """That it is over says when, not why."""
    never = explained(heard(vehicle=a_vehicle(cohort="general")), ruled(status=status))
    assert never.reason == "wave_not_reached"
    assert never.message.startswith(f"the rollout is {status} since 2026-01-01T00:00:00Z; ")
    late = explained(heard(), ruled(status=status))
    assert late.reason == "rollout_over"
    assert "its turn had come" not in never.message
    assert "the vehicle's turn had come" in late.message
    done = explained(heard(installed="1.1.0"), ruled(status=status))
    assert done.reason == "already_installed"


@given(
    state=st.sampled_from([None, *S]),
    status=st.sampled_from(R),
    code=st.sampled_from(["", "consent_pending", "battery_low", "x"]),
    told=st.none() | st.builds(Conditions, metered=st.booleans(), parked=st.booleans()),
    seen=st.none() | st.integers(0, 5 * DAY_MS).map(after),
    consent=st.sampled_from(Consent),
    windows=st.sampled_from([(), (NIGHT,)]),
    hours=st.integers(0, 200),
    fence=st.integers(0, 2),
)
def test_any_vehicle_has_a_reason(state, status, code, told, seen, consent, windows, hours, fence):
    """Whatever the state of things: one word, one sentence, values; and what changes by itself lies ahead."""
    rollout = ruled(status=status, fence=fence, consent=consent, windows=windows, preconditions=WANTED)
    record = heard(last_seen_at=seen, conditions=told)
    if state is not None:
        record = trying(state, code=code, last_seen_at=seen, conditions=told)
    now = after(hours * HOUR_MS)
    answer = explained(record, rollout, now)
    assert answer.reason
    assert answer.facts
    live = state in LIVE_STATES
    if answer.reason in ("window_closed", "retry_later"):
        assert answer.changes_at is not None
        assert answer.changes_at > now
    if answer.reason == GRANT:
        assert not live
        assert status is R.RUNNING


def test_vehicle_with_an_offline_permit_is_out_of_reach_and_not_silent():
    """Nobody is to be sent after a car that stands in a garage; but somebody has to know until when it may begin."""
    away = an_attempt(S.PERMITTED, permitted_at=NOW, state_at=NOW, offline_ms=18 * HOUR_MS)
    record = heard(attempt=away, tries={"spring": a_try(S.PERMITTED, exposed=True)}, last_seen_at=NOW)
    answer = explained(record, now=after(17 * HOUR_MS))
    assert (answer.reason, answer.changes_at) == ("permitted", after(18 * HOUR_MS))
    assert "offline permit" in answer.message
    assert "until 2026-01-01T18:00:00Z" in answer.message
    assert explained(record, now=after(18 * HOUR_MS + DAY_MS)).reason == SILENT
    started = replace(away, state=S.INSTALLING)
    assert "offline" not in explained(replace(record, attempt=started), now=after(HOUR_MS)).message
