"""Between wire and model: every state has a name, every malformed field its own fault, and numbers stay exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from outrider.v1 import attempt_pb2, rollout_pb2, vehicle_pb2

from orchestrator.model.attempt import VEHICLE_EVENTS, AttemptState
from orchestrator.model.decision import Refusal, RefusalReason
from orchestrator.model.ids import AttemptId, VehicleId
from orchestrator.model.plan import Consent, Preconditions
from orchestrator.model.rollout import BrakeKind, RegionPhase, RolloutStatus, SignalKind, VerdictKind
from orchestrator.model.vehicle import LinkType
from orchestrator.rpc import convert
from orchestrator.rpc.convert.polls import EVENTS_MAX
from orchestrator.rpc.operator_requests import page, required, vehicle_id_of
from orchestrator.service.errors import InvalidInputError
from orchestrator.service.fleet import PAGE_DEFAULT, PAGE_MAX
from orchestrator.service.permits import PermitAnswer
from orchestrator.service.vehicles import CheckInReply, Install, Withdraw
from tests.builders import NOW, a_diagnostic, an_attempt, some_conditions

EVENT = vehicle_pb2.Event(number=1, attempt_id="spring.v-1.1", kind=vehicle_pb2.EVENT_KIND_FAILED, failure_code="x")
WANTED = Preconditions(True, True, 30, storage_free_bytes_min=2_000_000_000, links=(LinkType.WIFI, LinkType.WIRED))
INSTALL = Install(an_attempt(), Consent.REQUIRED, WANTED, "Better brakes")
GOOD = vehicle_pb2.CheckInRequest(outbox_id="box", events=[EVENT], oldest_number=1)


def more_events() -> list[vehicle_pb2.Event]:
    """As many events after the good one as the contract allows in all."""
    return [vehicle_pb2.Event(number=2 + n, attempt_id=EVENT.attempt_id, kind=EVENT.kind) for n in range(EVENTS_MAX)]


NO_TIMES = ((253_402_300_800, 0), (-62_135_596_801, 0), (2**63 - 1, 0), (-(2**63), 0), (1, -1), (1, 10**9))
"""Seconds and nanoseconds that the wire carries, and that no calendar has."""


def ill_since(seconds: int, nanos: int, request: vehicle_pb2.CheckInRequest) -> None:
    """Add a diagnosis that was seen first then."""
    told = request.diagnostics.add(code="U1", severity=vehicle_pb2.SEVERITY_INFO)
    told.first_seen_time.seconds, told.first_seen_time.nanos = seconds, nanos


def faults(change: Callable[[vehicle_pb2.CheckInRequest], None]) -> list[str]:
    """Fields that are named after a change to a good request."""
    request = vehicle_pb2.CheckInRequest()
    request.CopyFrom(GOOD)
    change(request)
    with pytest.raises(InvalidInputError) as error:
        convert.check_in(request, events_max=3)
    return [violation.field for violation in error.value.violations]


def test_good_poll_comes_through_whole() -> None:
    """What a vehicle said is what the use case hears."""
    poll = convert.check_in(GOOD, events_max=1)
    (event,) = poll.events
    assert (poll.outbox_id, poll.oldest_number, event.number, event.attempt_id, event.event, event.failure_code) == (
        *("box", 1, 1, "spring.v-1.1"),
        *("failed", "x"),
    )


def test_events_beyond_those_that_are_taken_are_left_for_the_next_call() -> None:
    """An operator who lowers `events_max` must not shut out vehicles that keep to the contract's 64."""
    request = vehicle_pb2.CheckInRequest(outbox_id="box", oldest_number=1)
    request.events.extend(more_events())
    assert [event.number for event in convert.check_in(request, events_max=3).events] == [2, 3, 4]


def test_conditions_and_diagnoses_come_through_whole() -> None:
    """Unknown and bad are different things: who tells no conditions has none; a new kind of link is no fault."""
    request = vehicle_pb2.CheckInRequest(outbox_id="box")
    request.conditions.CopyFrom(convert.conditions_out(some_conditions()))
    request.diagnostics.append(convert.diagnostic_out(a_diagnostic()))
    poll = convert.check_in(request, events_max=1)
    assert (poll.conditions, poll.diagnostics) == (some_conditions(), (a_diagnostic(),))
    request.conditions.link_type = 99  # type: ignore[assignment]  # of a later version of the wire
    later = convert.check_in(request, events_max=1).conditions
    assert later is not None
    assert later.link is LinkType.UNKNOWN
    assert convert.check_in(GOOD, events_max=1).conditions is None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda request: setattr(request, "outbox_id", "x" * 65), "outbox_id"),
        (lambda request: setattr(request, "manifest_sha256", "f" * 63), "manifest_sha256"),
        (lambda request: setattr(request, "oldest_number", 2**53), "oldest_number"),
        (lambda request: request.events.extend(more_events()), "events"),
        (lambda request: setattr(request.events[0], "attempt_id", "spring.v-1.x"), "events[0].attempt_id"),
        (lambda request: setattr(request.events[0], "attempt_id", "spring.v-1.²"), "events[0].attempt_id"),
        (lambda request: setattr(request.events[0], "attempt_id", "spring.v-1." + "9" * 5000), "events[0].attempt_id"),
        (lambda request: setattr(request.events[0], "failure_code", "a" * 65), "events[0].failure_code"),
        (lambda request: setattr(request.events[0], "number", -1), "events[0].number"),
        (lambda request: setattr(request.conditions, "battery_percent", 101), "conditions.battery_percent"),
        (lambda request: setattr(request.conditions, "storage_free_bytes", -1), "conditions.storage_free_bytes"),
        (lambda request: request.diagnostics.add(code="U 1", severity=1), "diagnostics[0].code"),
        (
            lambda request: request.diagnostics.add(code="U1", ecu_serial="x" * 65, severity=1),
            "diagnostics[0].ecu_serial",
        ),
        (lambda request: request.diagnostics.add(code="U1"), "diagnostics[0].severity"),
        *((partial(ill_since, seconds, nanos), "diagnostics[0].first_seen_time") for seconds, nanos in NO_TIMES),
    ],
)
def test_malformed_field_is_named(change: Callable[[vehicle_pb2.CheckInRequest], None], field: str) -> None:
    """Whoever writes an agent mends it from the answer alone."""
    assert field in faults(change)


@pytest.mark.parametrize(("seconds", "nanos"), [(-62_135_596_800, 0), (0, 0), (253_402_300_799, 999_999_999)])
def test_first_and_last_times_come_through(seconds: int, nanos: int) -> None:
    """A clock that was never set is the vehicle's trouble, not ours; operators see what it said."""
    request = vehicle_pb2.CheckInRequest(outbox_id="box")
    ill_since(seconds, nanos, request)
    (told,) = convert.check_in(request, events_max=1).diagnostics
    assert convert.diagnostic_out(told).first_seen_time.seconds == seconds


def test_every_fault_of_a_poll_is_told_at_once() -> None:
    """One answer a bug, not one a release of the agent."""

    def spoil(request: vehicle_pb2.CheckInRequest) -> None:
        request.outbox_id = ""
        request.events[0].kind = vehicle_pb2.EVENT_KIND_UNSPECIFIED
        request.events[0].number = 0

    assert faults(spoil) == ["outbox_id", "events[0].kind", "events[0].number"]


def test_every_value_of_the_model_has_its_own_on_the_wire() -> None:
    """A state without a name would be sent as UNSPECIFIED, which is never sent."""
    for table, members in (
        (convert.ATTEMPT_STATES, AttemptState),
        (convert.ROLLOUT_STATUSES, RolloutStatus),
        (convert.REGION_PHASES, RegionPhase),
        (convert.VERDICTS, VerdictKind),
        (convert.BRAKES, BrakeKind),
        (convert.SIGNALS, SignalKind),
    ):
        assert set(table) == set(members)
        assert len(set(table.values())) == len(table)
        assert 0 not in table.values()
    assert set(convert.EVENTS.values()) == set(VEHICLE_EVENTS)
    assert set(convert.EVENTS) == set(vehicle_pb2.EventKind.values()) - {vehicle_pb2.EVENT_KIND_UNSPECIFIED}
    assert set(convert.ATTEMPT_STATES.values()) == set(attempt_pb2.AttemptState.values()) - {0}
    assert set(convert.ROLLOUT_STATUSES.values()) == set(rollout_pb2.RolloutStatus.values()) - {0}


def test_times_keep_their_milliseconds() -> None:
    """A second lost in rounding would look like time that goes back."""
    assert convert.timestamp(NOW + 123).ToMilliseconds() == NOW + 123
    assert convert.duration(1_234).ToMilliseconds() == 1_234


@pytest.mark.parametrize(
    ("directive", "kind"),
    [(None, "none"), (INSTALL, "install"), (Withdraw(AttemptId("a.v.1"), "fenced"), "withdraw")],
)
def test_answer_always_has_exactly_one_directive(directive: Install | Withdraw | None, kind: str) -> None:
    """An agent that finds none of them set would have to guess."""
    reply = CheckInReply(NOW, 60_000, 0, False, directive, {"a": b"1"}, {"b": b"2"})
    response = convert.check_in_response(reply, image_base_urls=["https://x/targets"])
    assert response.directive.WhichOneof("kind") == kind
    assert [(file.repository, file.name) for file in response.metadata] == [(1, "a"), (2, "b")]
    if kind == "install":
        assert list(response.directive.install.image_base_urls) == ["https://x/targets"]


def test_install_directive_says_what_owner_and_vehicle_have_to_do() -> None:
    """A field that is lost here is an owner who is not asked."""
    install = convert.directive(INSTALL, []).install
    assert install.consent == vehicle_pb2.CONSENT_POLICY_REQUIRED
    wanted = install.preconditions
    assert (wanted.unmetered, wanted.parked, wanted.battery_percent_min) == (True, True, 30)
    assert wanted.storage_free_bytes_min == 2_000_000_000
    assert list(wanted.link_types) == [vehicle_pb2.LINK_TYPE_WIFI, vehicle_pb2.LINK_TYPE_WIRED]
    assert install.notes == "Better brakes"
    assert {convert.directive(replace(INSTALL, consent=policy), []).install.consent for policy in Consent} == set(
        vehicle_pb2.ConsentPolicy.values()
    ) - {0}


def test_install_directive_says_how_long_an_offline_permit_may_be_or_nothing() -> None:
    """Absent means none: a vehicle that took zero for a length would ask for what nobody gives."""
    assert not convert.directive(INSTALL, []).install.HasField("offline_permit")
    allowed = convert.directive(replace(INSTALL, offline_permit_ms=43_200_000), []).install
    assert allowed.offline_permit.seconds == 43_200


def test_refused_permit_says_when_to_ask_again_or_nothing_at_all() -> None:
    """Absent means never; zero would mean at once."""
    refusal = Refusal(RefusalReason.ROLLOUT_PAUSED, "paused")
    later = convert.authorize_response(PermitAnswer(AttemptId("a.v.1"), NOW, 0, refusal, 120_000))
    assert (later.refusal.reason, later.refusal.retry_after.seconds) == ("rollout_paused", 120)
    never = convert.authorize_response(PermitAnswer(AttemptId("a.v.1"), NOW, 0, refusal, None))
    assert not never.refusal.HasField("retry_after")
    permit = convert.authorize_response(PermitAnswer(AttemptId("a.v.1"), NOW, 900_000, None, None))
    assert permit.permit.valid_for.seconds == 900


def test_pages_follow_each_other_and_bad_tokens_are_refused() -> None:
    """AIP-158: sizes have bounds, tokens are ours."""
    items = list(range(PAGE_DEFAULT + 5))
    first, token = page(items, 0, "")
    second, end = page(items, 0, token)
    assert (len(first), second, end) == (PAGE_DEFAULT, items[PAGE_DEFAULT:], "")
    assert page(items, 2, "") == ([0, 1], "2")
    for size, bad in ((-1, ""), (PAGE_MAX + 1, ""), (0, "x"), (0, "-1"), (0, "²"), (0, "9" * 5000)):
        with pytest.raises(InvalidInputError):
            page(items, size, bad)


def test_resource_names_and_reasons_are_checked() -> None:
    """Names come from outside; a change without a reason is none."""
    assert vehicle_id_of("vehicles/v-1") == VehicleId("v-1")
    for name in ("v-1", "vehicles/", "vehicles/a b", "rollouts/v-1"):
        with pytest.raises(InvalidInputError):
            vehicle_id_of(name)
    with pytest.raises(InvalidInputError):
        required(" \t")
