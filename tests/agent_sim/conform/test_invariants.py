"""Each invariant goes red for its own breach, and for nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from outrider.v1 import vehicle_pb2 as pb

from agent_sim.conform.invariants import Known, judge
from agent_sim.conform.tape import AUTHORIZE, CHECK_IN, SeenCall, SeenDownload, Tape
from agent_sim.conform.verdicts import Verdict

ATTEMPT = "r1.v1.1"
KNOWN = Known("test", "v1", frozenset({ATTEMPT}), 1.0, (), frozenset({"new"}), ())
SECOND = 1000.0


class Story:
    """A tape that is told step by step, a second a step."""

    def __init__(self) -> None:
        self.tape = Tape(boot=1)
        self._now = 0.0

    def _add(self, method: str, request: Any, reply: Any) -> None:
        self._now += SECOND
        call = SeenCall(method, self._now, request, self.tape.boot, b"certificate", "TLSv1.3", reply)
        self._now += SECOND
        call.ended_ms = self._now
        if reply is None:
            call.status = "LOST"
        self.tape.add(call)

    def poll(
        self, *events: pb.Event, ack: int = 0, box: str = "box", oldest: int | None = None, lost: bool = False
    ) -> None:
        first = events[0].number if events else 0
        request = pb.CheckInRequest(outbox_id=box, events=events, oldest_number=first if oldest is None else oldest)
        self._add(CHECK_IN, request, None if lost else pb.CheckInResponse(acknowledged_number=ack))

    def directed(self, *, offline_permit_s: int = 0) -> None:
        reply = pb.CheckInResponse()
        reply.directive.install.attempt_id = ATTEMPT
        if offline_permit_s:
            reply.directive.install.offline_permit.FromSeconds(offline_permit_s)
        self._add(CHECK_IN, pb.CheckInRequest(outbox_id="box"), reply)

    def ask(self, *, retry_s: int | None = None, refused: bool = False, offline: bool = False) -> None:
        reply = pb.AuthorizeInstallResponse()
        if refused or retry_s is not None:
            reply.refusal.reason = "window_closed"
            if retry_s is not None:
                reply.refusal.retry_after.FromSeconds(retry_s)
        else:
            reply.permit.attempt_id = ATTEMPT
        self._add(AUTHORIZE, pb.AuthorizeInstallRequest(attempt_id=ATTEMPT, offline=offline), reply)

    def wait(self, seconds: float) -> None:
        self._now += seconds * SECOND

    def download(self) -> None:
        self.tape.add(SeenDownload("image", self._now, 0, 1))

    def restart(self) -> None:
        self.tape.boot += 1

    def broken(self, known: Known = KNOWN) -> set[str]:
        return {finding.clause for finding in judge(self.tape, known) if finding.verdict is Verdict.FAIL}


def event(number: int, kind: Any = pb.EVENT_KIND_DOWNLOAD_STARTED, attempt: str = ATTEMPT, code: str = "") -> pb.Event:
    told = pb.Event(number=number, kind=kind, attempt_id=attempt, failure_code=code)
    told.event_time.seconds = 1
    return told


STARTED, FINISHED = pb.EVENT_KIND_DOWNLOAD_STARTED, pb.EVENT_KIND_DOWNLOAD_FINISHED
INSTALL, REBOOT = pb.EVENT_KIND_INSTALL_STARTED, pb.EVENT_KIND_REBOOT_STARTED


@pytest.fixture
def story() -> Story:
    return Story()


def test_a_correct_update_breaks_nothing(story: Story) -> None:
    """What is told in order, with a permit, across a lost answer and a restart, is well."""
    story.poll(event(1), lost=True)
    story.restart()
    story.poll(event(1), ack=1)
    story.download()
    story.poll(event(2, FINISHED), ack=2)
    story.ask(retry_s=60)
    story.wait(60)
    story.ask()
    story.poll(event(3, INSTALL), ack=3)
    story.poll(event(4, REBOOT), ack=4)
    assert story.broken() == set()
    kept = {finding.clause for finding in judge(story.tape, KNOWN)}
    assert {"P-PERMIT-1", "P-PERMIT-5", "P-OUTBOX-1", "P-OUTBOX-4", "P-OUTBOX-5", "P-INSTALL-3"} <= kept


def test_an_installation_without_a_permit_is_seen(story: Story) -> None:
    """The one thing that must never happen."""
    story.poll(event(1), event(2, FINISHED), ack=2)
    story.poll(event(3, INSTALL), ack=3)
    assert story.broken() == {"P-PERMIT-1"}


def test_a_permit_whose_answer_was_lost_is_none(story: Story) -> None:
    """Nobody was told."""
    story.download()
    story.ask()
    last = next(story.tape.calls(AUTHORIZE))
    last.reply, last.status = None, "LOST"
    story.poll(event(1, INSTALL), ack=1)
    assert story.broken() == {"P-PERMIT-1"}


def test_a_manifest_of_the_new_image_before_any_permit_is_seen(story: Story) -> None:
    """An agent that tells no events cannot hide."""
    proven = ((5.0, frozenset({"new"})),)
    known = Known("test", "v1", frozenset({ATTEMPT}), 1.0, (), frozenset({"new"}), proven)
    assert story.broken(known) == {"P-PERMIT-1"}


@pytest.mark.parametrize("second", [event(1, FINISHED), event(1, code="other")])
def test_one_number_for_two_events_is_seen(story: Story, second: pb.Event) -> None:
    """Numbering that begins anew after a crash."""
    story.poll(event(1), ack=0)
    story.poll(second, ack=1)
    assert story.broken() == {"P-OUTBOX-1"}


def test_a_number_that_was_left_out_is_seen(story: Story) -> None:
    """Numbers go up by one."""
    story.poll(event(1), ack=1)
    story.poll(event(3, FINISHED), ack=3)
    assert story.broken() == {"P-OUTBOX-1"}


def test_events_out_of_order_in_a_call_are_seen(story: Story) -> None:
    """Oldest first, and `oldest_number` names it."""
    story.poll(event(1), event(2, FINISHED), oldest=2)
    assert story.broken() == {"P-OUTBOX-3"}


def test_an_event_that_was_dropped_unacknowledged_is_seen(story: Story) -> None:
    """Whatever was told and not acknowledged stands in every later poll."""
    story.poll(event(1), lost=True)
    story.restart()
    story.poll(event(2, FINISHED), ack=2)
    assert story.broken() == {"P-OUTBOX-4"}


def test_another_outbox_without_a_reason_is_seen(story: Story) -> None:
    """Who remembers its numbering keeps its name."""
    story.poll()
    story.poll(box="other")
    assert story.broken() == {"P-OUTBOX-5"}


def test_another_outbox_is_due_after_a_number_that_was_never_given(story: Story) -> None:
    """That is what a restored backup looks like."""
    story.poll(event(1), ack=9)
    story.poll(event(1, FINISHED), ack=1, box="other")
    assert story.broken() == set()


def test_asking_again_too_early_is_seen(story: Story) -> None:
    """retry_after is a promise to whoever shares the road."""
    story.download()
    story.ask(retry_s=60)
    story.wait(30)
    story.ask()
    assert story.broken() == {"P-PERMIT-5"}


def test_asking_again_after_a_final_refusal_is_seen(story: Story) -> None:
    """Without retry_after the attempt is over."""
    story.download()
    story.ask(refused=True)
    story.wait(6000)
    story.ask()
    assert story.broken() == {"P-PERMIT-6"}


def test_asking_before_any_download_is_seen(story: Story) -> None:
    """A permit is for what is there."""
    story.ask()
    assert story.broken() == {"P-PERMIT-2"}


def test_a_failure_without_a_code_is_seen(story: Story) -> None:
    """Gates and people go by it."""
    story.poll(event(1, pb.EVENT_KIND_REJECTED), ack=1)
    assert story.broken() == {"P-EVENT-2"}


def test_an_event_about_a_stranger_is_seen(story: Story) -> None:
    """A vehicle speaks for itself only."""
    story.poll(event(1, attempt="r1.somebody.1"), ack=1)
    assert story.broken() == {"P-EVENT-3"}


def test_telling_the_download_twice_is_seen(story: Story) -> None:
    """A repeated directive is a reminder."""
    story.poll(event(1), event(2), ack=2)
    assert story.broken() == {"P-ATTEMPT-1"}


def test_going_back_after_a_deferral_is_no_breach(story: Story) -> None:
    """Whoever waited says so when it goes on."""
    deferred = event(3, pb.EVENT_KIND_DEFERRED, code="not_parked")
    story.poll(event(1), event(2, FINISHED), deferred, event(4, FINISHED), ack=4)
    assert story.broken() == set()


def test_installing_twice_is_seen(story: Story) -> None:
    """Also when both had a permit."""
    story.download()
    story.ask()
    story.poll(event(1, INSTALL), event(2, INSTALL), ack=2)
    assert story.broken() == {"P-INSTALL-3"}


def test_a_manifest_of_the_old_software_after_the_restart_was_told_is_seen(story: Story) -> None:
    """It would count as rolled back."""
    story.download()
    story.ask()
    story.poll(event(1, INSTALL), event(2, REBOOT), ack=2)
    proven = ((1e6, frozenset({"old"})),)
    assert story.broken(Known("test", "v1", frozenset({ATTEMPT}), 1.0, (), frozenset({"new"}), proven)) == {
        "P-MANIFEST-7"
    }


def test_two_calls_at_once_are_seen(story: Story) -> None:
    """One outstanding call is what makes an answer mean something."""
    story.poll()
    story.poll()
    first, second = story.tape.calls()
    first.ended_ms = second.at_ms + SECOND
    assert story.broken() == {"P-POLL-3"}


def test_an_old_version_of_tls_is_seen(story: Story) -> None:
    """TLS 1.3 or nothing."""
    story.poll()
    next(story.tape.calls()).tls = "TLSv1.2"
    assert story.broken() == {"P-TLS-1"}


def test_an_offline_permit_that_nobody_offers_is_not_asked_for(story: Story) -> None:
    """Each is a vehicle that no halt reaches."""
    story.download()
    story.directed(offline_permit_s=3600)
    story.ask(offline=True)
    assert story.broken() == set()
    assert "P-PERMIT-8" in {finding.clause for finding in judge(story.tape, KNOWN)}
    story.directed()
    story.ask(offline=True)
    assert story.broken() == {"P-PERMIT-8"}
