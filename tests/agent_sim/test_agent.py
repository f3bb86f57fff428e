"""The pure agent alone: what it may never do, whatever is lost, repeated, late, or taken back."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from agent_sim.actions import (
    AuthorizeCall,
    CallFailed,
    CheckInCall,
    DiscardImages,
    FetchBroken,
    FetchImage,
    ImageFetched,
    ImageRefused,
    ManifestReplied,
    PermitReplied,
    Persist,
    PollReplied,
    Reboot,
    SubmitManifestCall,
    VerificationFailed,
    Verify,
    WriteSlots,
)
from agent_sim.messages import EventKind, PermitReply, PollReply, WithdrawDirective
from agent_sim.persisted import Phase, state_from_json
from tests.agent_sim.builders import NEW, NEW_BRAKE, START, a_state, an_agent
from tests.agent_sim.fake_orchestrator import HOUR_MS
from tests.agent_sim.talk import (
    OFFER,
    Talk,
    a_reply,
    at_checking,
    at_downloaded,
    at_downloading,
    at_installing,
    at_rebooting,
    the,
)


@pytest.mark.uptane("A15")
def test_events_are_persisted_before_they_are_sent() -> None:
    """A number that was sent and then forgotten would be used twice for different events."""
    talk = at_downloading()
    kinds = [type(action) for action in talk.actions]
    assert kinds.index(Persist) == 0
    persist, call = the(Persist, talk.actions), the(CheckInCall, talk.actions)
    assert persist.state.outbox.batch == call.poll.events
    assert [event.number for event in call.poll.events] == [1]


def test_only_acknowledged_events_are_forgotten() -> None:
    """A reply that acknowledges the first of two leaves the second, and sends it at once."""
    talk = at_checking()
    call = the(Verify, talk.actions)
    talk.agent.handle(VerificationFailed(call.token, "rollback"), talk.now)
    talk.actions = ()
    state = talk.agent.state
    assert [event.number for event in state.outbox.events] == [1]
    two = replace(state, outbox=state.outbox.add("a1", EventKind.FAILED, at=talk.now), manifest=None)
    again = Talk(an_agent(two))
    again.polled(acknowledged=1)
    assert [event.number for event in the(CheckInCall, again.actions).poll.events] == [2]


def test_number_that_was_never_given_begins_a_fresh_outbox() -> None:
    """The orchestrator knows a later memory of this vehicle: what is pending is told anew, under another name."""
    talk = at_checking()
    call = the(Verify, talk.actions)
    talk.agent.handle(VerificationFailed(call.token, "rollback"), talk.now)
    talk.actions = ()
    before = replace(talk.agent.state, manifest=None)
    again = Talk(an_agent(before))
    again.polled(acknowledged=7)
    poll = the(CheckInCall, again.actions).poll
    assert poll.outbox_id != before.outbox.outbox_id
    assert [(event.number, event.kind) for event in poll.events] == [(1, EventKind.REJECTED)]


def test_repeated_reply_changes_nothing() -> None:
    """A network may deliver an answer twice; the second is not waited for any more."""
    talk = Talk()
    call = the(CheckInCall, talk.actions)
    answer = PollReplied(call.token, a_reply(call, OFFER))
    talk.agent.handle(answer, talk.now)
    state = talk.agent.state
    assert talk.agent.handle(answer, talk.now) == ()
    assert talk.agent.state == state


def test_answer_from_before_a_reboot_is_ignored() -> None:
    """Tokens are never used again, so a late answer cannot be taken for a new one."""
    tokens = itertools.count(1)
    before = an_agent(tokens=tokens)
    call = the(CheckInCall, before.start(START))
    after = an_agent(before.state, tokens=tokens)
    after.start(START)
    after.handle(PollReplied(call.token, a_reply(call, OFFER)), START)
    assert after.state.progress is None


def at_downloaded_and_told_to_wait() -> Talk:
    talk = at_downloaded()
    call = the(AuthorizeCall, talk.actions)
    refusal = PermitReply(False, "", reason="rollout_paused", retry_after_ms=10 * HOUR_MS)
    talk.actions = talk.agent.handle(PermitReplied(call.token, refusal), talk.now)
    return talk


@pytest.mark.parametrize("stage", [at_checking, at_downloading, at_downloaded_and_told_to_wait])
def test_withdrawal_before_the_permit_is_obeyed_and_said(stage: Callable[[], Talk]) -> None:
    """Abort reaches every attempt that has no permit."""
    talk = stage().polled(WithdrawDirective("a1"))
    assert talk.phase is None
    assert talk.told[-1] is EventKind.WITHDRAWAL_OBEYED
    assert any(isinstance(action, DiscardImages) for action in talk.actions)
    talk.polled(OFFER)
    assert talk.phase is None


def test_withdrawal_after_the_permit_interrupts_nothing() -> None:
    """Nothing interrupts a running install."""
    talk = at_installing().polled(WithdrawDirective("a1"))
    assert talk.phase is Phase.INSTALLING
    assert EventKind.WITHDRAWAL_OBEYED not in talk.told


def test_withdrawal_of_an_attempt_that_never_arrived_is_said_once() -> None:
    """The directive was lost and the attempt taken back: the slot must not wait for its deadline."""
    talk = Talk().polled(WithdrawDirective("a1"))
    assert talk.told == [EventKind.WITHDRAWAL_OBEYED]
    talk.polled(WithdrawDirective("a1"))
    assert talk.told == []
    talk.polled(OFFER)
    assert talk.phase is None


def test_new_attempt_takes_the_place_of_an_older_one() -> None:
    """The orchestrator gave up on the first; results of its download mean nothing for the second."""
    talk = at_downloading()
    fetch = the(FetchImage, talk.actions)
    talk.polled(replace(OFFER, attempt_id="a2"))
    assert talk.agent.state.progress is not None
    assert talk.agent.state.progress.attempt_id == "a2"
    talk.agent.handle(ImageFetched(fetch.token), talk.now)
    assert talk.agent.state.progress.fetched == 0


def test_new_attempt_waits_for_a_running_install() -> None:
    """What has a permit runs to its end."""
    talk = at_installing().polled(replace(OFFER, attempt_id="a2"))
    assert talk.agent.state.progress is not None
    assert talk.agent.state.progress.attempt_id == "a1"


def test_permit_is_asked_for_only_after_the_download_was_told() -> None:
    """The orchestrator must know DOWNLOADED before it is asked."""
    talk = at_downloading().fetched()
    assert not any(isinstance(action, AuthorizeCall) for action in talk.actions)
    call = the(CheckInCall, talk.actions)
    talk.actions = talk.agent.handle(CallFailed(call.token), talk.now)
    assert not any(isinstance(action, AuthorizeCall) for action in talk.actions)
    talk.polled(OFFER)
    assert the(AuthorizeCall, talk.actions).attempt_id == "a1"


def test_refused_permit_with_a_delay_is_asked_for_again_not_sooner() -> None:
    """Pause and quotas answer so; the attempt stays alive."""
    talk = at_downloaded()
    call = the(AuthorizeCall, talk.actions)
    refusal = PermitReply(False, "", reason="starts_spent", retry_after_ms=120_000)
    actions = talk.agent.handle(PermitReplied(call.token, refusal), talk.now)
    assert actions == ()
    assert talk.agent.due_at is not None
    assert START + 120_000 <= talk.agent.due_at - (talk.now - START) <= START + 180_000
    again = talk.agent.handle_due(talk.agent.due_at)
    assert the(AuthorizeCall, again).attempt_id == "a1"


def test_refused_permit_without_a_delay_ends_the_attempt() -> None:
    """There is nothing left to wait for; the images are thrown away and the attempt is never taken up again."""
    talk = at_downloaded()
    call = the(AuthorizeCall, talk.actions)
    refusal = PermitReply(False, "", reason="attempt_over")
    actions = talk.agent.handle(PermitReplied(call.token, refusal), talk.now)
    assert any(isinstance(action, DiscardImages) for action in actions)
    assert talk.phase is None
    talk.actions = ()
    talk.polled(OFFER)
    assert talk.phase is None


def test_permit_that_arrives_too_late_is_not_used() -> None:
    """A permit counts from when it was asked for; a slow answer must not stretch it."""
    talk = at_downloaded()
    call = the(AuthorizeCall, talk.actions)
    permit = PermitReply(True, "a1", valid_for_ms=900_000)
    actions = talk.agent.handle(PermitReplied(call.token, permit), talk.now + 900_001)
    assert talk.phase is Phase.DOWNLOADED
    assert not any(isinstance(action, WriteSlots) for action in actions)


def test_permit_for_another_attempt_is_not_used() -> None:
    """Leave is for one attempt only."""
    talk = at_downloaded()
    call = the(AuthorizeCall, talk.actions)
    talk.agent.handle(PermitReplied(call.token, PermitReply(True, "a0", valid_for_ms=900_000)), talk.now)
    assert talk.phase is Phase.DOWNLOADED


def test_install_is_persisted_as_begun_before_a_slot_is_touched() -> None:
    """After a power loss in the middle the vehicle must know that its slots are half written and its permit used."""
    talk = at_installing()
    state = the(Persist, talk.actions).state
    assert state.progress is not None
    assert state.progress.phase is Phase.INSTALLING
    assert all(ecu.spare is None for ecu in state.ecus)
    assert isinstance(talk.actions[0], Persist)


def test_restart_waits_for_one_try_to_tell_of_it() -> None:
    """Reached or not, the vehicle restarts: the event is in the outbox and goes out afterwards."""
    talk = at_rebooting()
    call = the(CheckInCall, talk.actions)
    actions = talk.agent.handle(CallFailed(call.token), talk.now)
    assert actions == (Reboot(),)
    assert talk.told == [EventKind.REBOOT_STARTED]
    assert talk.agent.due_at is None


def test_boot_into_new_slots_is_attested() -> None:
    """Truth is what runs after the restart."""
    talk = at_rebooting()
    booted = an_agent(talk.agent.state, tokens=itertools.count(1000))
    actions = booted.start(talk.now + 120_000)
    assert [ecu.running.sha256 for ecu in booted.state.ecus] == [NEW.sha256, NEW_BRAKE.sha256]
    assert [event.kind for event in the(CheckInCall, actions).poll.events][-1] is EventKind.VERIFY_STARTED
    call = the(CheckInCall, actions)
    actions = booted.handle(PollReplied(call.token, a_reply(call, wanted=True)), talk.now)
    assert booted.state.manifest is not None
    assert the(SubmitManifestCall, actions).content == booted.state.manifest.content


@pytest.mark.uptane("V5")
def test_manifest_counter_rises_even_after_a_loss_of_state() -> None:
    """A counter that went back would look like a replay, and the vehicle could never attest again."""
    old = Talk().polled(wanted=True).agent.state
    assert old.manifest is not None
    later = an_agent(a_state("box-2"))
    call = the(CheckInCall, later.start(START + HOUR_MS))
    later.handle(PollReplied(call.token, a_reply(call, wanted=True)), START + HOUR_MS)
    assert later.state.manifest is not None
    assert later.state.manifest.counter > old.manifest.counter


def test_refused_manifest_is_signed_anew_with_a_higher_counter() -> None:
    """The orchestrator would refuse the same bytes for ever."""
    talk = Talk().polled(wanted=True)
    call = the(SubmitManifestCall, talk.actions)
    talk.agent.handle(CallFailed(call.token, refused=True), talk.now)
    assert talk.agent.due_at is not None
    again = the(SubmitManifestCall, talk.agent.handle_due(talk.agent.due_at))
    assert again.content != call.content


@pytest.mark.uptane("A15")
def test_manifest_is_handed_in_until_it_is_on_record() -> None:
    """A lost reply is answered by the same bytes again."""
    talk = Talk().polled(wanted=True)
    call = the(SubmitManifestCall, talk.actions)
    talk.agent.handle(CallFailed(call.token), talk.now)
    assert talk.agent.due_at is not None
    again = the(SubmitManifestCall, talk.agent.handle_due(talk.agent.due_at))
    assert again.content == call.content
    talk.agent.handle(ManifestReplied(again.token), talk.now)
    assert talk.agent.idle


@pytest.mark.uptane("F13", "V5")
def test_attack_is_rejected_and_reported_in_the_manifest() -> None:
    """What verification refuses is told as an event and signed as evidence."""
    talk = at_checking()
    token = the(Verify, talk.actions).token
    talk.agent.handle(VerificationFailed(token, "wrong_vehicle"), talk.now)
    (event,) = talk.agent.state.outbox.events
    assert (event.kind, event.failure_code) == (EventKind.REJECTED, "wrong_vehicle")
    assert talk.agent.state.manifest is not None
    assert b'"attack": "wrong_vehicle"' in talk.agent.state.manifest.content


@pytest.mark.uptane("A1", "V1")
def test_image_that_differs_is_rejected_before_any_permit() -> None:
    """Nothing unsigned runs."""
    talk = at_downloading()
    fetch = the(FetchImage, talk.actions)
    talk.agent.handle(ImageRefused(fetch.token, "arbitrary_software"), talk.now)
    assert talk.told[-1] is EventKind.REJECTED
    assert talk.phase is None


def test_release_that_runs_already_is_attested_and_not_installed() -> None:
    """An agent that lost its memory after an install must not install again."""
    done = at_rebooting().agent.state
    talk = Talk(an_agent(replace(a_state("box-2"), ecus=done.ecus))).polled(OFFER).verified().refetched().verified()
    assert talk.phase is None
    assert talk.told == []
    assert the(SubmitManifestCall, talk.actions).content


def test_download_goes_on_from_where_it_broke() -> None:
    """The offset is persisted with the break."""
    talk = at_downloading()
    fetch = the(FetchImage, talk.actions)
    actions = talk.agent.handle(FetchBroken(fetch.token, 700), talk.now)
    persisted = the(Persist, actions).state
    assert persisted.progress is not None
    assert persisted.progress.received == 700
    again = Talk(an_agent(persisted, tokens=itertools.count(1000)))
    assert the(FetchImage, again.actions).from_offset == 700


def test_server_that_acknowledges_nothing_is_not_hammered() -> None:
    """A broken orchestrator must not make a fleet poll in a tight loop."""
    talk = at_downloading()
    talk.polled(OFFER, acknowledged=0)
    assert not any(isinstance(action, CheckInCall) for action in talk.actions)


@pytest.mark.uptane("A15")
def test_failures_back_off_and_a_named_delay_is_kept() -> None:
    """Full jitter up to half an hour; a delay that the orchestrator names is a lower bound."""
    agent = an_agent()
    actions = agent.start(START)
    now = START
    for failures in range(20):
        call = the(CheckInCall, actions)
        agent.handle(CallFailed(call.token), now)
        assert agent.due_at is not None
        assert 0 <= agent.due_at - now <= min(1_800_000, 5_000 * 2**failures)
        now = agent.due_at
        actions = agent.handle_due(now)
    call = the(CheckInCall, actions)
    agent.handle(CallFailed(call.token, retry_after_ms=60_000), now)
    assert agent.due_at is not None
    assert now + 60_000 <= agent.due_at <= now + 90_000


@pytest.mark.parametrize(
    ("asked_ms", "low_ms", "high_ms"), [(HOUR_MS, HOUR_MS // 2, HOUR_MS * 3 // 2), (0, 60_000, 60_000)]
)
def test_next_poll_is_smeared_and_bounded(asked_ms: int, low_ms: int, high_ms: int) -> None:
    """Whatever the orchestrator asks for, a vehicle polls neither more often than once a minute nor in step."""
    for seed in range(50):
        agent = an_agent(seed=seed)
        call = the(CheckInCall, agent.start(START))
        agent.handle(PollReplied(call.token, PollReply(asked_ms, 0, False)), START)
        assert agent.due_at is not None
        assert low_ms <= agent.due_at - START <= high_ms


def test_persisted_state_survives_json() -> None:
    """What is read back after a power loss is what was written, in every phase."""
    for stage in (Talk, at_checking, at_downloading, at_downloaded, at_installing, at_rebooting):
        state = stage().agent.state
        assert state_from_json(state.to_json()) == state


@pytest.mark.parametrize("stage", [at_downloading, at_downloaded_and_told_to_wait])
def test_attempt_that_an_answer_does_not_name_is_over(stage: Callable[[], Talk]) -> None:
    """The orchestrator gave it up: images are not kept for ever, nothing is told, and it is never taken up again."""
    talk = stage().polled(None)
    assert talk.phase is None
    assert any(isinstance(action, DiscardImages) for action in talk.actions)
    assert talk.told == []
    talk.polled(OFFER)
    assert talk.phase is None


def test_installation_that_an_answer_does_not_name_goes_on() -> None:
    """Nothing interrupts what has begun."""
    talk = at_installing().polled(None)
    assert talk.phase is Phase.INSTALLING
