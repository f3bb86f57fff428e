"""How simulated vehicles stand and what their owners say: a model without state, decided by the seed and the hour."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_sim.actions import AskOwner, OwnerAnswer
from agent_sim.connectivity import Connectivity, LinkModel
from agent_sim.faults import Fault, FaultKind
from agent_sim.messages import Consent, EventKind, Link, Preconditions, Severity
from agent_sim.owner import Manner, Owner
from agent_sim.surroundings import Surroundings
from tests.agent_sim.builders import NEW, NEW_BRAKE, START, Road, a_car
from tests.agent_sim.fake_orchestrator import HOUR_MS, FakeOrchestrator

MIDNIGHT = 1_799_971_200_000
"""2027-01-15 00:00 UTC."""
COMMUTER = Connectivity(metered=True, home_wifi=True)


def an_offer(**asked: object) -> FakeOrchestrator:
    return FakeOrchestrator(images=(NEW, NEW_BRAKE), attempt_id="r1.v1.1", **asked)  # type: ignore[arg-type]


def waits(road: Road) -> list[str]:
    (events,) = road.orchestrator.applied.values()
    return [event.failure_code for event in events if event.kind is EventKind.DEFERRED]


@given(st.sampled_from(LinkModel), st.integers(0, 200 * HOUR_MS), st.integers(0, 24 * HOUR_MS), st.booleans())
def test_conditions_are_possible_at_any_moment(model: LinkModel, later_ms: int, phase_ms: int, wifi: bool) -> None:
    """A battery of 103 % or wireless LAN on the motorway would be refused by whoever reads it."""
    period_ms = 0 if model is LinkModel.ALWAYS else 24 * HOUR_MS
    link = Connectivity(model, period_ms, 14 * HOUR_MS, phase_ms, metered=True, home_wifi=wifi)
    conditions = Surroundings("v1", link, "Asia/Kathmandu").conditions(START + later_ms)
    assert 0 < conditions.battery_percent <= 100
    assert conditions.metered == (conditions.link is Link.CELLULAR)
    assert conditions.parked or conditions.link is Link.CELLULAR
    assert wifi or conditions.link is Link.CELLULAR


def test_day_has_drives_and_night_has_wireless_lan() -> None:
    """What preconditions are for: a few drives a day, a metered link by day, a full battery in the morning."""
    day = [Surroundings("v1", COMMUTER).conditions(MIDNIGHT + minute * 60_000) for minute in range(1440)]
    assert sum(not conditions.parked for conditions in day) == 90
    assert 11 * 60 <= sum(conditions.link is Link.WIFI for conditions in day) <= 12 * 60 + 90
    assert max(conditions.battery_percent for conditions in day) == 95
    assert min(conditions.battery_percent for conditions in day) <= 80


def test_day_is_that_of_the_vehicles_zone() -> None:
    """Night in Auckland is noon in Europe."""
    here, there = (Surroundings("v1", COMMUTER, zone) for zone in ("", "Pacific/Auckland"))
    ahead_ms = 13 * HOUR_MS
    assert [here.conditions(MIDNIGHT + hour * HOUR_MS) for hour in range(24)] == [
        there.conditions(MIDNIGHT + hour * HOUR_MS - ahead_ms) for hour in range(24)
    ]


def test_metered_vehicle_downloads_at_home_and_installs_when_it_stands() -> None:
    """A whole day of one vehicle: it waits for the evening, says so once, and is through by morning."""
    offer = an_offer(preconditions=Preconditions(unmetered=True, parked=True, battery_percent_min=20))
    world = Surroundings("v1", COMMUTER)
    road = Road(a_car(connectivity=COMMUTER, world=world), offer)
    assert world.conditions(road.now).metered
    road.start()
    road.run(until=9 * HOUR_MS)
    assert waits(road) == ["link_metered"]
    assert not road.offsets
    road.run(until=30 * HOUR_MS)
    assert road.car.state.installs == ("r1.v1.1",)
    assert set(waits(road)) <= {"link_metered", "battery_low"}


@pytest.mark.parametrize(
    ("owner", "answers", "installs"),
    [
        (Owner(Manner.AGREE), ["yes"], 1),
        (Owner(Manner.POSTPONE, times=2, again_after_ms=HOUR_MS), ["later", "later", "yes"], 1),
        (Owner(Manner.DECLINE), ["no"], 0),
        (Owner(Manner.IGNORE), [], 0),
    ],
)
def test_owner_has_the_last_word(owner: Owner, answers: list[str], installs: int) -> None:
    """Four kinds of owner; the simulator's record says what each said."""
    road = Road(a_car(owner=owner), an_offer(consent=Consent.REQUIRED))
    road.start()
    road.run(until=48 * HOUR_MS)
    assert [answer for _, answer in road.car.state.answers] == answers
    assert len(road.car.state.installs) == installs
    assert waits(road) == ["consent_pending"]


def test_owner_takes_his_time_and_always_the_same() -> None:
    """Half to one and a half of what the scenario says; a run can be repeated."""
    question = AskOwner(1, "r1.v1.1", "", 0)
    for number in range(50):
        found = Owner(after_ms=HOUR_MS).answer(question, vehicle_id=f"v{number}", now=START)
        assert found is not None
        at, answered = found
        assert HOUR_MS // 2 <= at - START <= HOUR_MS * 3 // 2
        assert answered.answer is OwnerAnswer.YES
        assert Owner(after_ms=HOUR_MS).answer(question, vehicle_id=f"v{number}", now=START) == found


def test_notice_is_recorded_and_holds_nothing_back() -> None:
    """The owner was told, once."""
    road = Road(a_car(), an_offer(consent=Consent.NOTICE))
    road.start()
    road.run(until=24 * HOUR_MS)
    assert road.car.state.answers == (("r1.v1.1", "told"),)
    assert road.car.state.installs == ("r1.v1.1",)


def test_trouble_codes_come_the_declared_time_after_the_installation_worst_first() -> None:
    """A bad release that nobody notices for hours."""
    after = {"after_ms": 5 * HOUR_MS, "releases": ("1.1.0",)}
    faults = (
        Fault(FaultKind.TROUBLE_CODE, trouble_code="C0040", severity=Severity.INFO, **after),  # type: ignore[arg-type]
        Fault(FaultKind.TROUBLE_CODE, trouble_code="U0100", severity=Severity.CRITICAL, ecu="acme-brake-1", **after),  # type: ignore[arg-type]
        Fault(FaultKind.TROUBLE_CODE, trouble_code="U0200", releases=("1.2.0",)),
    )
    road = Road(a_car(*faults), an_offer())
    road.start()
    road.run(until=48 * HOUR_MS)
    installed_at = road.car.state.installed_at
    assert installed_at
    assert road.car.diagnostics(installed_at + 5 * HOUR_MS - 1) == ()
    told = road.orchestrator.polls[-1].diagnostics
    assert [(ill.code, ill.ecu_serial) for ill in told] == [("U0100", "v1-e1"), ("C0040", "v1-e0")]
    assert {ill.first_seen_at for ill in told} == {installed_at + 5 * HOUR_MS}


def test_downloads_take_room() -> None:
    """Free storage is what is left."""
    road = Road(a_car(owner=Owner(Manner.IGNORE)), an_offer(consent=Consent.REQUIRED))
    before = road.car.conditions(road.now).storage_free_bytes
    road.start()
    road.run(until=3 * HOUR_MS)
    assert road.car.conditions(road.now).storage_free_bytes == before - NEW.length - NEW_BRAKE.length
