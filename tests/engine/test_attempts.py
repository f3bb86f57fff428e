"""The transition table: total, never regressing, exposed by a permit only."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.attempts import (
    EXPOSED_LIVE_STATES,
    TRANSITIONS,
    UNEXPOSED_LIVE_STATES,
    advance,
    case_cause,
)
from orchestrator.model.attempt import LIVE_STATES, TERMINAL_STATES, VEHICLE_EVENTS, AttemptEvent, AttemptState
from tests.builders import DEADLINES_MS, HOUR_MS, NOW, after, an_attempt

S, E = AttemptState, AttemptEvent
LATER = after(HOUR_MS)
CELLS = list(product(AttemptState, (False, True), AttemptEvent))
ORDER = {
    state: rank
    for rank, state in enumerate(
        (S.OFFERED, S.DOWNLOADING, S.DOWNLOADED, S.PERMITTED, S.INSTALLING, S.REBOOTING, S.VERIFYING)
    )
}


def possible(state: AttemptState, exposed: bool) -> bool:
    """Whether an attempt can be in a state with, or without, a permit."""
    return state not in (UNEXPOSED_LIVE_STATES if exposed else EXPOSED_LIVE_STATES)


@pytest.mark.parametrize(("state", "exposed", "event"), CELLS)
def test_every_cell_is_ignored_or_a_sound_step(state, exposed, event):
    """No event in no state may crash, regress an attempt, or make exposures appear or vanish."""
    attempt = an_attempt(state, exposed=exposed)
    changed = advance(attempt, event, now=LATER, failure_code="code")
    if changed is None:
        return
    reached = changed.attempt
    assert possible(state, exposed), "an attempt cannot be here"
    assert possible(reached.state, reached.exposed)
    assert reached.state is not state or state is S.DEFERRED, "only what it waits for may change without a step"
    assert not (state.terminal and not reached.state.terminal), "nothing comes back to life"
    assert changed.transition.correction is state.terminal
    assert reached.exposed == (exposed or event is E.PERMIT_ISSUED)
    assert reached.permitted_at == (LATER if event is E.PERMIT_ISSUED else attempt.permitted_at)
    assert reached.state_at == LATER
    assert reached.failure_code == "code"
    if reached.state.terminal:
        assert reached.deadline_at is None
    else:
        assert reached.deadline_at == LATER + DEADLINES_MS[reached.state]


@pytest.mark.parametrize(("state", "exposed", "event"), [cell for cell in CELLS if cell in TRANSITIONS])
def test_progress_goes_forward_only(state, exposed, event):
    """Late and repeated events must never move an attempt back; only DEFERRED may be left for where it came from."""
    reached = TRANSITIONS[state, exposed, event].state
    if state in ORDER and reached in ORDER:
        assert ORDER[reached] > ORDER[state]


def test_table_is_plain_data():
    """The Redis function library is rendered from it, so it must not hold anything that cannot be written down."""
    for (state, exposed, event), transition in TRANSITIONS.items():
        assert isinstance(state, AttemptState)
        assert isinstance(exposed, bool)
        assert isinstance(event, AttemptEvent)
        assert isinstance(transition.state, AttemptState)
        assert isinstance(transition.correction, bool)
    with pytest.raises(TypeError):
        TRANSITIONS[S.SUCCEEDED, True, E.FAILED] = None  # type: ignore[index]


@pytest.mark.parametrize(
    ("state", "event", "reached"),
    [
        (S.OFFERED, E.DOWNLOAD_STARTED, S.DOWNLOADING),
        (S.DOWNLOADING, E.DOWNLOAD_FINISHED, S.DOWNLOADED),
        (S.DOWNLOADED, E.PERMIT_ISSUED, S.PERMITTED),
        (S.PERMITTED, E.INSTALL_STARTED, S.INSTALLING),
        (S.INSTALLING, E.REBOOT_STARTED, S.REBOOTING),
        (S.REBOOTING, E.VERIFY_STARTED, S.VERIFYING),
        (S.VERIFYING, E.ATTESTED_RELEASE, S.SUCCEEDED),
        (S.OFFERED, E.DOWNLOAD_FINISHED, S.DOWNLOADED),
        (S.PERMITTED, E.REBOOT_STARTED, S.REBOOTING),
        (S.PERMITTED, E.VERIFY_STARTED, S.VERIFYING),
        (S.INSTALLING, E.VERIFY_STARTED, S.VERIFYING),
        (S.DEFERRED, E.DOWNLOAD_STARTED, S.DOWNLOADING),
        (S.DEFERRED, E.DOWNLOAD_FINISHED, S.DOWNLOADED),
        (S.DOWNLOADED, E.DEFERRED, S.DEFERRED),
        (S.DEFERRED, E.DEFERRED, S.DEFERRED),
        (S.REBOOTING, E.ATTESTED_OTHER, S.ROLLED_BACK),
        (S.VERIFYING, E.ATTESTED_OTHER, S.ROLLED_BACK),
        (S.VERIFYING, E.ROLLED_BACK, S.ROLLED_BACK),
        (S.DOWNLOADED, E.ATTESTED_RELEASE, S.SUCCEEDED),
    ],
)
def test_the_way_of_an_attempt(state, event, reached):
    """The path of a healthy vehicle, of one that loses events, and of one that rolls back."""
    changed = advance(an_attempt(state), event, now=LATER)
    assert changed is not None
    assert changed.attempt.state is reached
    assert not changed.transition.correction


@pytest.mark.parametrize("event", [E.INSTALL_STARTED, E.REBOOT_STARTED, E.VERIFY_STARTED, E.ROLLED_BACK])
@pytest.mark.parametrize("state", UNEXPOSED_LIVE_STATES)
def test_install_without_a_permit_is_ignored(state, event):
    """A vehicle cannot talk itself into an exposure; what it really runs, its manifest will tell."""
    assert advance(an_attempt(state), event, now=LATER) is None


@pytest.mark.parametrize("event", [E.WITHDRAWN, E.WITHDRAWAL_OBEYED, E.REJECTED, E.DEFERRED, E.PERMIT_ISSUED])
@pytest.mark.parametrize("state", EXPOSED_LIVE_STATES)
def test_nothing_takes_an_exposure_back(state, event):
    """An abort never touches a running install, and no word of the vehicle makes it uncounted."""
    assert advance(an_attempt(state), event, now=LATER) is None


@pytest.mark.parametrize("state", [S.OFFERED, S.DOWNLOADING])
def test_permit_needs_a_finished_download(state):
    """A permit counts as harm that may happen: it is not spent on a vehicle that cannot install yet."""
    assert advance(an_attempt(state), E.PERMIT_ISSUED, now=LATER) is None


@pytest.mark.parametrize("state", sorted(LIVE_STATES))
def test_every_live_state_times_out(state):
    """A lease that never ends would hold its slot for ever."""
    changed = advance(an_attempt(state), E.DEADLINE_PASSED, now=LATER)
    assert changed is not None
    assert changed.attempt.state is S.TIMED_OUT


@pytest.mark.parametrize("exposed", [False, True])
@pytest.mark.parametrize("state", sorted(TERMINAL_STATES - {S.SUCCEEDED}))
def test_manifest_with_the_release_corrects_any_end(state, exposed):
    """Truth is what the vehicle attests: a late proof of success wins over whatever was believed."""
    if not possible(state, exposed) or (exposed and state in (S.REJECTED, S.WITHDRAWN)):
        return
    if state is S.ROLLED_BACK and not exposed:
        return
    changed = advance(an_attempt(state, exposed=exposed), E.ATTESTED_RELEASE, now=LATER)
    assert changed is not None
    assert changed.attempt.state is S.SUCCEEDED
    assert changed.transition.correction


@pytest.mark.parametrize(
    ("state", "event", "reached"),
    [
        (S.TIMED_OUT, E.FAILED, S.FAILED),
        (S.TIMED_OUT, E.ROLLED_BACK, S.ROLLED_BACK),
        (S.TIMED_OUT, E.ATTESTED_OTHER, S.ROLLED_BACK),
        (S.SUCCEEDED, E.ATTESTED_OTHER, S.ROLLED_BACK),
    ],
)
def test_late_words_correct_an_exposure(state, event, reached):
    """A vehicle that comes back after its time-out, or reverts after its success, is counted as what it is."""
    changed = advance(an_attempt(state, exposed=True), event, now=LATER)
    assert changed is not None
    assert changed.attempt.state is reached
    assert changed.transition.correction
    assert advance(an_attempt(state, exposed=False), event, now=LATER) is None


@pytest.mark.parametrize("state", [*UNEXPOSED_LIVE_STATES, S.PERMITTED, S.INSTALLING])
def test_manifest_of_the_old_release_says_nothing_before_the_reboot(state):
    """Vehicles attest at every boot; the old software before the install is no roll-back."""
    assert advance(an_attempt(state), E.ATTESTED_OTHER, now=LATER) is None


@pytest.mark.parametrize("state", AttemptState)
def test_cases_open_for_exposures_only(state):
    """A case is a vehicle that an update hurt; without a permit nothing was installed by us."""
    assert case_cause(state, exposed=False) is None
    expected = {S.FAILED: "failed", S.ROLLED_BACK: "rolled_back", S.TIMED_OUT: "timed_out"}.get(state)
    assert case_cause(state, exposed=True) == expected


@given(events=st.lists(st.sampled_from(sorted(AttemptEvent)), max_size=30))
def test_any_history_ends_in_a_state_that_can_be(events):
    """Events come duplicated, reordered and late: whatever comes, the record stays one that can be true."""
    attempt = an_attempt(S.OFFERED)
    permits = 0
    for number, event in enumerate(events):
        changed = advance(attempt, event, now=after(number))
        if changed is None:
            continue
        permits += event is E.PERMIT_ISSUED
        attempt = changed.attempt
        assert possible(attempt.state, attempt.exposed)
        assert (attempt.deadline_at is None) == attempt.state.terminal
    assert attempt.exposed == (permits == 1)
    assert permits <= 1


@given(events=st.lists(st.sampled_from(sorted(VEHICLE_EVENTS)), max_size=30))
def test_a_vehicle_cannot_succeed_or_be_exposed_by_its_word(events):
    """Claims move an attempt, but only a permit exposes and only a manifest settles it well."""
    attempt = an_attempt(S.OFFERED)
    for number, event in enumerate(events):
        changed = advance(attempt, event, now=after(number))
        attempt = changed.attempt if changed else attempt
    assert not attempt.exposed
    assert attempt.state is not S.SUCCEEDED


def test_failure_code_goes_when_the_state_goes():
    """A code tells why the attempt is where it is, not why it once was elsewhere."""
    deferred = advance(an_attempt(S.OFFERED), E.DEFERRED, now=NOW, failure_code="battery_low")
    assert deferred is not None
    assert deferred.attempt.failure_code == "battery_low"
    parked = advance(deferred.attempt, E.DEFERRED, now=LATER, failure_code="not_parked")
    assert parked is not None
    assert parked.attempt.failure_code == "not_parked", "what it waits for now"
    resumed = advance(deferred.attempt, E.DOWNLOAD_STARTED, now=LATER)
    assert resumed is not None
    assert resumed.attempt.failure_code == ""
