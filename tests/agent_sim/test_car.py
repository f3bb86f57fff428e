"""A whole vehicle in pure talk with a pure orchestrator: the way of an update, and every fault on it."""

from __future__ import annotations

import pytest

from agent_sim.car_state import CarState
from agent_sim.connectivity import Connectivity, LinkModel, Outage
from agent_sim.faults import Fault, FaultKind
from agent_sim.messages import EventKind
from tests.agent_sim.builders import NEW, NEW_BRAKE, START, Road, a_car
from tests.agent_sim.fake_orchestrator import HOUR_MS, FakeOrchestrator

DAY_MS = 24 * HOUR_MS
THE_WHOLE_WAY = [
    EventKind.DOWNLOAD_STARTED,
    EventKind.DOWNLOAD_FINISHED,
    EventKind.INSTALL_STARTED,
    EventKind.REBOOT_STARTED,
    EventKind.VERIFY_STARTED,
]


def an_offer() -> FakeOrchestrator:
    return FakeOrchestrator(images=(NEW, NEW_BRAKE), attempt_id="r1.v1.1")


def a_trip(*faults: Fault, connectivity: Connectivity | None = None, days: int = 3) -> Road:
    road = Road(a_car(*faults, connectivity=connectivity), an_offer())
    road.start()
    road.run(until=days * DAY_MS)
    return road


def running(state: CarState) -> list[str]:
    return [ecu.running.sha256 for ecu in state.agent.ecus]


def test_update_goes_the_whole_way_and_is_attested() -> None:
    """The main path: every event in order, one permit, one install, and a manifest of what truly runs."""
    road = a_trip()
    assert road.orchestrator.kinds == THE_WHOLE_WAY
    assert road.orchestrator.permits == ["r1.v1.1"]
    assert running(road.car.state) == [NEW.sha256, NEW_BRAKE.sha256]
    assert road.orchestrator.manifests[-1]["running"] == {"v1-e0": NEW.sha256, "v1-e1": NEW_BRAKE.sha256}
    assert road.car.settled


@pytest.mark.uptane("V7")
def test_first_poll_hands_in_a_manifest_of_the_factory_images() -> None:
    """A vehicle that nobody knows yet proves what it runs before anything is offered."""
    road = Road(a_car(), FakeOrchestrator())
    road.start()
    assert len(road.orchestrator.manifests) == 1
    assert road.car.settled


def test_silent_brick_never_speaks_again() -> None:
    """The fault that a gate must find by silence alone."""
    road = a_trip(Fault(FaultKind.SILENT_BRICK))
    assert road.car.bricked
    assert road.car.settled
    assert road.car.due_at is None
    assert EventKind.VERIFY_STARTED not in road.orchestrator.kinds
    assert road.car.state.installs == ("r1.v1.1",)


@pytest.mark.uptane("V8")
def test_failed_write_is_reported_and_the_old_software_attested() -> None:
    """An explicit failure, with its code, and proof of what runs."""
    road = a_trip(Fault(FaultKind.FAIL, failure_code="flash_full"))
    (events,) = road.orchestrator.applied.values()
    assert events[-1].kind is EventKind.FAILED
    assert events[-1].failure_code == "flash_full"
    assert running(road.car.state) == ["0" * 64, "1" * 64]


def test_boot_failure_goes_back_to_the_old_slots() -> None:
    """A/B slots: what does not come up is left, and said to be left."""
    road = a_trip(Fault(FaultKind.BOOT_FAILURE))
    assert road.orchestrator.kinds[-1] is EventKind.ROLLED_BACK
    assert road.orchestrator.manifests[-1]["running"] == {"v1-e0": "0" * 64, "v1-e1": "1" * 64}
    assert road.car.settled


def test_power_loss_in_install_recovers_without_a_second_permit() -> None:
    """The half written slot is written again under the permit that was used."""
    road = a_trip(Fault(FaultKind.POWER_LOSS))
    assert road.car.state.boots == 3
    assert road.orchestrator.kinds == THE_WHOLE_WAY
    assert road.orchestrator.permits == ["r1.v1.1"]
    assert running(road.car.state) == [NEW.sha256, NEW_BRAKE.sha256]


def test_broken_download_resumes_where_it_stopped() -> None:
    """Bytes that are here are not paid for twice."""
    road = a_trip(Fault(FaultKind.LINK_BREAK))
    assert len(road.offsets) == 4
    assert road.offsets[0] == road.offsets[2] == 0
    assert 0 < road.offsets[1] < NEW.length
    assert 0 < road.offsets[3] < NEW_BRAKE.length
    assert road.orchestrator.kinds == THE_WHOLE_WAY


def test_offline_spell_delays_and_loses_nothing() -> None:
    """Out of reach in the middle: the events wait in the outbox."""
    road = Road(a_car(Fault(FaultKind.OFFLINE, duration_ms=6 * HOUR_MS)), an_offer())
    road.start()
    road.run(until=5 * HOUR_MS)
    assert EventKind.DOWNLOAD_STARTED not in road.orchestrator.kinds
    road.run(until=DAY_MS)
    assert road.orchestrator.kinds == THE_WHOLE_WAY


def test_outage_is_silence_for_as_long_as_it_lasts_and_loses_nothing() -> None:
    """Whatever a vehicle's own link does: one that comes home into an outage has none either."""
    home = Connectivity(LinkModel.GARAGE, period_ms=DAY_MS, online_ms=14 * HOUR_MS, phase_ms=-START % DAY_MS)
    car = a_car(connectivity=home)
    car.suffer([Outage(START + 20 * HOUR_MS, START + 26 * HOUR_MS), Outage(START, START + 15 * HOUR_MS)])
    road = Road(car, an_offer())
    road.start()
    road.run(until=26 * HOUR_MS - 1)
    assert not road.orchestrator.polls
    road.run(until=2 * DAY_MS)
    assert road.orchestrator.kinds == THE_WHOLE_WAY


@pytest.mark.uptane("A15")
def test_lost_replies_count_nothing_twice() -> None:
    """What was done but not heard of is asked again; the orchestrator sees each event once."""
    road = a_trip(Fault(FaultKind.LOST_REPLIES, probability=0.5))
    assert road.orchestrator.kinds == THE_WHOLE_WAY
    assert len(road.orchestrator.received) > len(THE_WHOLE_WAY)
    assert road.car.state.installs == ("r1.v1.1",)


def test_fault_for_another_release_does_not_hit() -> None:
    """A bad release must not hurt those who install a good one."""
    road = a_trip(Fault(FaultKind.SILENT_BRICK, releases=("1.2.0",)))
    assert not road.car.bricked


def test_vehicle_out_of_reach_makes_no_call() -> None:
    """A garage is silence, not errors: nothing is sent until there is a link."""
    away = Connectivity(LinkModel.GARAGE, period_ms=DAY_MS, online_ms=HOUR_MS, phase_ms=-START % DAY_MS + 2 * HOUR_MS)
    road = Road(a_car(connectivity=away), FakeOrchestrator())
    road.start()
    road.run(until=21 * HOUR_MS)
    assert not road.orchestrator.applied
    road.run(until=23 * HOUR_MS)
    assert road.orchestrator.applied


@pytest.mark.parametrize("stop_after", range(0, 40))
def test_simulator_killed_at_any_step_goes_on_from_what_was_saved(stop_after: int) -> None:
    """Kill -9 of the simulator between any two errands: the update still ends well, with one install and one permit
    used.
    """
    road = Road(a_car(), an_offer())
    queue = road.car.start(road.now)
    for _ in range(stop_after):
        while not queue:
            if road.car.due_at is None or road.car.due_at > START + DAY_MS:
                break
            road.now = max(road.now, road.car.due_at)
            queue = road.car.handle_due(road.now)
        if not queue:
            break
        answer = road.answer(queue.pop(0))
        if answer is not None:
            queue.extend(road.car.handle(answer, road.now))
    again = Road(a_car(state=road.saved), road.orchestrator, now=road.now)
    again.start()
    again.run(until=5 * DAY_MS)
    assert again.orchestrator.kinds == THE_WHOLE_WAY
    assert running(again.car.state) == [NEW.sha256, NEW_BRAKE.sha256]
    assert again.car.state.installs == ("r1.v1.1",)
    assert again.car.settled
