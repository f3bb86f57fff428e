"""The owner's word, the conditions and the permit: what the point of no return needs, and what waiting tells."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from agent_sim.actions import (
    AskOwner,
    AuthorizeCall,
    CheckInCall,
    FetchImage,
    ImageFetched,
    OwnerAnswer,
    OwnerAnswered,
    PermitReplied,
    Persist,
    PollReplied,
    TellOwner,
    WriteSlots,
)
from agent_sim.messages import (
    Conditions,
    Consent,
    DiagnoseDirective,
    Diagnostic,
    EventKind,
    InstallDirective,
    Link,
    PermitReply,
    Preconditions,
    Severity,
)
from agent_sim.persisted import Phase, state_from_json
from tests.agent_sim.builders import START, StandIn, an_agent
from tests.agent_sim.fake_orchestrator import HOUR_MS
from tests.agent_sim.talk import OFFER, Talk, a_reply, the

ASKS = replace(OFFER, consent=Consent.REQUIRED, notes="Better brakes.")
STRICT = Preconditions(
    unmetered=True, parked=True, battery_percent_min=30, storage_free_bytes_min=2_000, links=("cellular", "wifi")
)


def downloaded(offer: InstallDirective, senses: StandIn | None = None) -> Talk:
    """Both images are here and told of."""
    talk = Talk(an_agent(senses=senses)).polled(offer).verified().fetched()
    return talk.polled(offer)


def told(talk: Talk) -> list[tuple[EventKind, str]]:
    return [(event.kind, event.failure_code) for event in talk.agent.state.outbox.events]


def asks_for_a_permit(talk: Talk) -> bool:
    return any(isinstance(action, AuthorizeCall) for action in talk.actions)


def test_owner_is_asked_with_the_notes_and_nothing_goes_on_before_his_yes() -> None:
    """An installation that the plan makes the owner's decision is his."""
    talk = Talk().polled(ASKS).verified().fetched()
    assert talk.question is not None
    assert (talk.question.attempt_id, talk.question.notes) == ("a1", "Better brakes.")
    assert told(talk)[-1] == (EventKind.DEFERRED, "consent_pending")
    for _ in range(30):
        talk.polled(ASKS)
        assert not asks_for_a_permit(talk)


def test_yes_is_persisted_told_and_said_with_the_question_for_a_permit() -> None:
    """The orchestrator may only permit what it knows was agreed to; a loss of power must not lose the yes."""
    talk = downloaded(ASKS).owner(OwnerAnswer.YES)
    assert the(Persist, talk.actions).state.progress.consented
    assert told(talk) == [(EventKind.DOWNLOAD_FINISHED, "")]
    talk.polled(ASKS)
    assert the(AuthorizeCall, talk.actions).consented
    again = Talk(an_agent(state_from_json(talk.agent.state.to_json()), tokens=itertools.count(1000)))
    again.polled(ASKS)
    assert the(AuthorizeCall, again.actions).consented


def test_no_is_a_rejection_and_final() -> None:
    """Nobody is asked twice about what he declined; what runs is attested once more."""
    talk = downloaded(ASKS).owner(OwnerAnswer.NO)
    assert told(talk) == [(EventKind.REJECTED, "consent_declined")]
    assert talk.phase is None
    assert not talk.agent.state.manifest.submitted
    talk.polled(ASKS)
    assert talk.phase is None


def test_later_is_asked_again_then_and_not_sooner() -> None:
    """An owner who is asked every hour declines in the end."""
    talk = downloaded(ASKS)
    tomorrow = talk.now + 24 * HOUR_MS
    talk.owner(OwnerAnswer.LATER, ask_again_at=tomorrow)
    asked: list[int] = []
    while not asked:
        talk.due() if talk.agent.due_at == tomorrow else talk.polled(ASKS)
        asked += [action.postponed for action in talk.actions if isinstance(action, AskOwner)]
    assert asked == [1]
    assert talk.now >= tomorrow
    assert told(talk) == []


def test_question_is_asked_again_after_a_loss_of_power() -> None:
    """A display that went dark has no answer to give; what was told of waiting is not told twice."""
    talk = downloaded(ASKS)
    again = Talk(an_agent(talk.agent.state, tokens=itertools.count(1000)))
    assert the(AskOwner, again.actions).attempt_id == "a1"
    assert told(again) == []


def test_consent_holds_for_its_attempt_only() -> None:
    """A retry is another installation."""
    talk = downloaded(ASKS).owner(OwnerAnswer.YES)
    talk.polled(replace(ASKS, attempt_id="a2"))
    assert talk.agent.state.progress is not None
    assert not talk.agent.state.progress.consented


def test_answer_about_an_attempt_that_is_over_changes_nothing() -> None:
    """The owner says yes to something that was withdrawn meanwhile."""
    talk = downloaded(ASKS)
    question = talk.question
    assert question is not None
    talk.polled(replace(OFFER, attempt_id="a2"))
    before = talk.agent.state
    talk.agent.handle(OwnerAnswered(question.token, OwnerAnswer.YES), talk.now)
    assert talk.agent.state == before


def test_consent_that_a_later_directive_asks_for_is_obeyed() -> None:
    """The plan may become stricter while images are on their way."""
    talk = Talk().polled(OFFER).verified()
    talk.polled(ASKS)
    talk.offer = ASKS
    assert talk.agent.state.progress is not None
    assert talk.agent.state.progress.consent is Consent.REQUIRED


def test_notice_is_given_once_and_goes_on() -> None:
    """Telling needs no answer."""
    offer = replace(OFFER, consent=Consent.NOTICE, notes="Better brakes.")
    talk = Talk().polled(offer).verified().fetched()
    assert the(TellOwner, talk.actions).notes == "Better brakes."
    talk.polled(offer)
    assert asks_for_a_permit(talk)
    again = Talk(an_agent(talk.agent.state, tokens=itertools.count(1000)))
    assert not any(isinstance(action, TellOwner) for action in again.actions)


@pytest.mark.parametrize(
    ("conditions", "cause"),
    [
        (Conditions(metered=True), "link_metered"),
        (Conditions(battery_percent=29), "battery_low"),
        (Conditions(parked=False), "not_parked"),
        (Conditions(link=Link.WIRED), "link_unsuitable"),
        (Conditions(storage_free_bytes=1_999), "storage_low"),
    ],
)
def test_missing_condition_is_told_once_and_its_return_as_well(conditions: Conditions, cause: str) -> None:
    """Explain shows what a vehicle waits for; the attempt goes on by itself when it is there."""
    offer = replace(OFFER, preconditions=STRICT)
    senses = StandIn()
    talk = Talk(an_agent(senses=senses)).polled(offer).verified().fetched()
    senses.now_are = conditions
    talk.polled(offer)
    assert told(talk) == [(EventKind.DEFERRED, cause)]
    for _ in range(20):
        talk.polled(offer)
        assert told(talk) == []
        assert not asks_for_a_permit(talk)
    senses.now_are = Conditions(battery_percent=30)
    while not told(talk):
        talk.due()
    assert told(talk) == [(EventKind.DOWNLOAD_FINISHED, "")]
    talk.polled(offer)
    assert the(AuthorizeCall, talk.actions).conditions == senses.now_are


def test_conditions_are_looked_at_more_often_than_the_poll() -> None:
    """A car that parks for an hour must not miss it."""
    senses = StandIn(Conditions(parked=False))
    talk = downloaded(replace(OFFER, preconditions=STRICT), senses)
    assert talk.agent.due_at is not None
    assert talk.agent.due_at <= talk.now + 300_000


def test_change_of_cause_passes_through_downloaded() -> None:
    """A deferred attempt that is deferred again would keep the first cause's name."""
    senses = StandIn(Conditions(parked=False))
    offer = replace(ASKS, preconditions=STRICT)
    talk = downloaded(offer, senses).owner(OwnerAnswer.YES)
    assert told(talk) == [(EventKind.DOWNLOAD_FINISHED, ""), (EventKind.DEFERRED, "not_parked")]


def test_metered_link_holds_back_the_download_and_not_its_start() -> None:
    """Bytes that cost the owner money are what `unmetered` is about; the start is told when it is one."""
    senses = StandIn(Conditions(metered=True))
    offer = replace(OFFER, preconditions=STRICT)
    talk = Talk(an_agent(senses=senses)).polled(offer).verified()
    assert told(talk) == [(EventKind.DEFERRED, "link_metered")]
    assert not any(isinstance(action, FetchImage) for action in talk.actions)
    senses.now_are = Conditions()
    while not any(isinstance(action, FetchImage) for action in talk.actions):
        talk.on()
    assert told(talk)[-1] == (EventKind.DOWNLOAD_STARTED, "")


def test_download_stops_at_a_metered_link_and_goes_on_from_there() -> None:
    """The second image waits, the first is not fetched again."""
    senses = StandIn()
    offer = replace(OFFER, preconditions=STRICT)
    talk = Talk(an_agent(senses=senses)).polled(offer).verified()
    news, fetch = the(CheckInCall, talk.actions), the(FetchImage, talk.actions)
    talk.agent.handle(PollReplied(news.token, a_reply(news, offer)), talk.now)
    senses.now_are = Conditions(metered=True)
    talk.actions = talk.agent.handle(ImageFetched(fetch.token), talk.now)
    assert told(talk) == [(EventKind.DEFERRED, "link_metered")]
    talk.polled(offer)
    senses.now_are = Conditions()
    talk.due()
    assert the(FetchImage, talk.actions).image.path == "acme/brake-1-1.1.0.img"
    assert told(talk) == [(EventKind.DOWNLOAD_STARTED, "")]


def test_link_of_another_kind_holds_back_the_download() -> None:
    """A plan that asks for Wi-Fi spares the cellular contract of the fleet: a download is what costs."""
    senses = StandIn(Conditions(link=Link.CELLULAR))
    offer = replace(OFFER, preconditions=Preconditions(links=("wifi", "wired")))
    talk = Talk(an_agent(senses=senses)).polled(offer).verified()
    assert told(talk) == [(EventKind.DEFERRED, "link_unsuitable")]
    assert not any(isinstance(action, FetchImage) for action in talk.actions)
    senses.now_are = Conditions(link=Link.WIFI)
    while not any(isinstance(action, FetchImage) for action in talk.actions):
        talk.on()
    assert told(talk)[-1] == (EventKind.DOWNLOAD_STARTED, "")


def test_parked_and_battery_do_not_hold_back_a_download() -> None:
    """Downloading harms nobody who drives."""
    senses = StandIn(Conditions(parked=False, battery_percent=5))
    talk = Talk(an_agent(senses=senses)).polled(replace(OFFER, preconditions=STRICT)).verified()
    assert the(FetchImage, talk.actions)


def at_permit(senses: StandIn) -> tuple[Talk, AuthorizeCall]:
    talk = downloaded(replace(OFFER, preconditions=STRICT), senses)
    return talk, the(AuthorizeCall, talk.actions)


def test_permit_is_used_when_conditions_hold_and_kept_while_they_do_not() -> None:
    """The owner drove off between the question and the answer: nothing is written while he drives."""
    senses = StandIn()
    talk, call = at_permit(senses)
    senses.now_are = Conditions(parked=False)
    talk.actions = talk.agent.handle(PermitReplied(call.token, PermitReply(True, "a1", 900_000)), talk.now)
    assert talk.phase is Phase.DOWNLOADED
    assert told(talk) == []
    senses.now_are = Conditions()
    talk.due()
    assert talk.now < START + 900_000
    assert the(WriteSlots, talk.actions)
    assert told(talk) == [(EventKind.INSTALL_STARTED, "")]


def test_permit_that_ran_out_unused_is_asked_for_anew() -> None:
    """Valid for a quarter of an hour means that; the attempt lives on."""
    senses = StandIn()
    talk, call = at_permit(senses)
    senses.now_are = Conditions(parked=False)
    asked_at = talk.now
    talk.actions = talk.agent.handle(PermitReplied(call.token, PermitReply(True, "a1", 900_000)), talk.now)
    while talk.now <= asked_at + 900_000:
        talk.due()
    assert talk.phase is Phase.DOWNLOADED
    senses.now_are = Conditions()
    while not asks_for_a_permit(talk):
        talk.on()
    assert talk.phase is Phase.DOWNLOADED


def test_permit_is_asked_for_anew_after_a_restart() -> None:
    """A monotonic clock does not survive the power: nobody knows how much of the permit is left."""
    senses = StandIn()
    talk, call = at_permit(senses)
    senses.now_are = Conditions(parked=False)
    talk.agent.handle(PermitReplied(call.token, PermitReply(True, "a1", 900_000)), talk.now)
    again = Talk(an_agent(talk.agent.state, tokens=itertools.count(1000)))
    again.polled(talk.offer)
    assert again.phase is Phase.DOWNLOADED
    assert the(AuthorizeCall, again.actions).attempt_id == "a1"


def test_window_that_opens_in_hours_is_not_missed_by_the_smear() -> None:
    """Half as long again after nine hours would be past a window of four."""
    for seed in range(30):
        talk = Talk(an_agent(seed=seed)).polled(OFFER).verified().fetched().polled(OFFER)
        call = the(AuthorizeCall, talk.actions)
        refusal = PermitReply(False, "", reason="window_closed", retry_after_ms=9 * HOUR_MS)
        talk.actions = talk.agent.handle(PermitReplied(call.token, refusal), talk.now)
        refused_at = talk.now
        while not asks_for_a_permit(talk):
            talk.on()
        assert 9 * HOUR_MS <= talk.now - refused_at <= 9 * HOUR_MS + 600_000


def test_diagnoses_go_with_every_poll_and_sooner_when_asked_for() -> None:
    """A diagnosis that waits a day for its poll is a day late."""
    ills = (
        Diagnostic("U0100", "v1-e0", Severity.CRITICAL, START),
        Diagnostic("C0040", "v1-e1", Severity.INFO, START),
    )
    talk = Talk(an_agent(senses=StandIn(active=ills)))
    assert the(CheckInCall, talk.actions).poll.diagnostics == ills
    talk.polled(DiagnoseDirective(("v1-e1",)))
    assert talk.agent.due_at is not None
    assert talk.agent.due_at <= talk.now + 90_000
    talk.due()
    assert [ill.code for ill in the(CheckInCall, talk.actions).poll.diagnostics] == ["C0040", "U0100"]


def test_call_carries_no_more_diagnoses_than_it_may() -> None:
    """The orchestrator refuses more than 32, and with them everything else in the poll."""
    ills = tuple(Diagnostic(f"U{number:04}", "v1-e0", Severity.INFO, START) for number in range(40))
    talk = Talk(an_agent(senses=StandIn(active=ills)))
    assert the(CheckInCall, talk.actions).poll.diagnostics == ills[:32]


AWAY = replace(OFFER, preconditions=STRICT, offline_permit_ms=12 * HOUR_MS)


def on_the_way(offer: InstallDirective, **conditions: object) -> Talk:
    """A car that is driven to where it has no link, and has told all that it has to."""
    senses = StandIn(Conditions(**({"parked": False} | conditions)), leaving=True)  # type: ignore[arg-type]
    talk = downloaded(offer, senses)
    for _ in range(3):
        talk = talk if asks_for_a_permit(talk) else talk.on()
    return talk


@pytest.mark.parametrize("lacks", [{}, {"parked": True, "battery_percent": 10}])
def test_offline_permit_is_asked_for_on_the_way_and_used_where_all_holds(lacks: dict[str, object]) -> None:
    """In the garage nobody answers; before it nothing may be written."""
    talk = on_the_way(AWAY, **lacks)
    call = the(AuthorizeCall, talk.actions)
    assert call.offline
    reply = PermitReply(True, "a1", valid_for_ms=12 * HOUR_MS)
    talk.actions = talk.agent.handle(PermitReplied(call.token, reply), talk.now)
    assert talk.phase is Phase.DOWNLOADED
    for _ in range(12):
        talk.due()
        assert talk.phase is Phase.DOWNLOADED, "it drives"
    talk.agent._senses.now_are = Conditions()  # type: ignore[attr-defined]
    talk.agent._senses.leaving = False  # type: ignore[attr-defined]
    while talk.phase is Phase.DOWNLOADED:
        talk.due()
    assert talk.phase is Phase.INSTALLING
    assert talk.now < START + 12 * HOUR_MS


@pytest.mark.parametrize(
    ("offer", "conditions"),
    [
        (replace(AWAY, offline_permit_ms=0), {}),
        (replace(AWAY, consent=Consent.REQUIRED), {}),
        (AWAY, {"metered": True}),
        (AWAY, {"storage_free_bytes": 1}),
    ],
)
def test_offline_permit_is_not_asked_for_while_anything_else_is_missing(
    offer: InstallDirective, conditions: dict[str, object]
) -> None:
    """Where the plan gives none, and where the owner, the link or the room is missing, it is as ever."""
    talk = Talk(an_agent(senses=StandIn(leaving=True))).polled(offer).verified().fetched()
    talk.agent._senses.now_are = Conditions(**({"parked": False} | conditions))  # type: ignore[attr-defined, arg-type]
    for _ in range(20):
        talk.on()
        assert not asks_for_a_permit(talk)


def test_car_that_stays_in_reach_waits_until_it_is_parked() -> None:
    """An offline permit costs everybody a day of not knowing."""
    talk = downloaded(AWAY, StandIn(Conditions(parked=False)))
    for _ in range(20):
        talk.polled(AWAY)
        assert not asks_for_a_permit(talk)


def test_car_that_has_all_asks_for_an_ordinary_permit() -> None:
    """Also when it is about to leave: it can begin now."""
    talk = downloaded(AWAY, StandIn(leaving=True))
    assert not the(AuthorizeCall, talk.actions).offline
