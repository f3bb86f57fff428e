"""Use cases of cases: a diagnosis opens one, a person closes one, and the advice says what follows from the record."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.engine.wording import instant
from orchestrator.model.attempt import Attempt, AttemptEvent, AttemptState, Case, VehicleEvent
from orchestrator.model.ids import AttemptId, ReleaseVersion, RolloutId
from orchestrator.model.rollout import RolloutStatus
from orchestrator.model.vehicle import EVERY_ROLLOUT, Contact, Exclusion, Severity
from orchestrator.service.case_advice import CaseFile, advice
from orchestrator.service.diagnoses import BLAMED_MS, detail, exposed_attempt
from orchestrator.service.errors import NotFoundError, StateError
from tests.builders import (
    DAY_MS,
    HOUR_MS,
    NOW,
    a_cell,
    a_diagnostic,
    a_record,
    a_rollout,
    a_try,
    a_vehicle,
    after,
    an_attempt,
    some_conditions,
)
from tests.service.world import Car, World

S = AttemptState


def a_case(cause: str = "silent", what: str = "checkpoint 1 in installing", **changes: object) -> Case:
    case = Case(
        attempt_id=AttemptId("spring.v-1.1"),
        rollout_id=RolloutId("spring"),
        vehicle_id=a_vehicle().vehicle_id,
        cell=a_cell(),
        cause=cause,
        detail=what,
        opened_at=after(DAY_MS),
        settled_at=None,
        attempt_state=S.INSTALLING,
    )
    return replace(case, **changes)  # type: ignore[arg-type]


def advised(case: Case, **known: object) -> str:
    """All advice about a case of v-1, last heard at its permit, now two days later."""
    attempt: Attempt = an_attempt(S.INSTALLING)
    file = CaseFile(
        case=case,
        record=a_record(last_seen_at=NOW, attempt=attempt),
        attempt=attempt,
        rollout=a_rollout(),
        alike=1,
        now=after(2 * DAY_MS),
    )
    return "\n".join(advice(replace(file, **known)))  # type: ignore[arg-type]


async def exposed(world: World, car: Car) -> AttemptId:
    await world.add(car)
    await world.start()
    return await world.permitted(car)


async def test_critical_diagnosis_after_exposure_opens_a_case_before_the_answer(world: World) -> None:
    """A vehicle that says it is impaired must not depend on anybody looking at a list."""
    car = Car("v-1")
    attempt_id = await exposed(world, car)
    await world.check_in(car, diagnostics=(a_diagnostic(Severity.WARNING),))
    assert await world.store.case(attempt_id) is None
    await world.check_in(car, diagnostics=(a_diagnostic(Severity.WARNING), a_diagnostic(code="U0101")))
    case = await world.store.case(attempt_id)
    assert case is not None
    assert (case.cause, case.detail) == ("diagnosis", "U0101 of v-1-gw")


async def test_diagnosis_is_told_twice_and_is_one_case(world: World) -> None:
    """It comes with every poll; a closed case stays closed."""
    car = Car("v-1")
    attempt_id = await exposed(world, car)
    await world.check_in(car, diagnostics=(a_diagnostic(),))
    await world.cases.close(attempt_id, actor="ann", reason="sensor, harmless")
    await world.check_in(car, diagnostics=(a_diagnostic(),))
    assert await world.cases.list(None, settled=False) == []


async def test_vehicle_that_came_ill_to_its_update_is_not_hurt_by_it(world: World) -> None:
    """A fleet has faults on any day; counted as failures they would stop every good release."""
    car = Car("v-1")
    await world.add(car)
    await world.start()
    old = a_diagnostic(at=NOW)
    world.hand.advance(HOUR_MS)
    await world.check_in(car, diagnostics=(old,))
    await world.last_seen.flush()
    await world.tick()
    attempt_id = await world.permitted(car)
    await world.check_in(car, diagnostics=(old,))
    assert (await world.counted()).diagnosed == 0
    await world.last_seen.flush()
    worse = a_diagnostic(code="U0101", at=NOW)
    await world.check_in(car, diagnostics=(old, worse))
    assert (await world.counted()).diagnosed == 1, "its clock may be wrong, but it was not there before"
    case = await world.store.case(attempt_id)
    assert case is not None
    assert case.detail == "U0101 of v-1-gw"


async def test_diagnosis_that_nobody_could_note_counts_at_the_next_call(world: World) -> None:
    """The store failed between contact and case: the vehicle says itself when it saw the fault first."""
    car = Car("v-1")
    await world.add(car)
    await world.start()
    await world.permitted(car)
    world.hand.advance(HOUR_MS)
    fresh = a_diagnostic(at=world.now)
    await world.store.touch({car.vehicle_id: Contact(at=world.now, diagnostics=(fresh,))})
    await world.check_in(car, diagnostics=(fresh,))
    assert (await world.counted()).diagnosed == 1


async def test_diagnosis_of_a_vehicle_that_was_not_exposed_opens_none(world: World) -> None:
    """It is ill, but not by us."""
    car = Car("v-1")
    await world.add(car)
    await world.start()
    await world.downloaded(car)
    await world.check_in(car, diagnostics=(a_diagnostic(),))
    assert await world.cases.list(None, settled=True) == []


def test_last_exposure_is_blamed_while_it_is_fresh() -> None:
    """An attempt granted since does not hide it; after thirty days something else is more likely."""
    tries = {
        RolloutId("winter"): a_try(S.SUCCEEDED, exposed=True, state_at=after(-BLAMED_MS)),
        RolloutId("spring"): a_try(S.SUCCEEDED, exposed=True, number=2),
        RolloutId("summer"): a_try(S.DOWNLOADING, state_at=after(HOUR_MS)),
    }
    record = a_record(tries=tries)
    assert exposed_attempt(record, after(HOUR_MS)) == "spring.v-1.2"
    assert exposed_attempt(record, after(BLAMED_MS)) is None
    live = a_record(tries={RolloutId("spring"): a_try(S.INSTALLING, exposed=True)})
    assert exposed_attempt(live, after(2 * BLAMED_MS)) == "spring.v-1.1"
    assert exposed_attempt(a_record(), NOW) is None


def test_detail_of_many_diagnoses_stays_short() -> None:
    """It is one cell of a table."""
    many = [a_diagnostic(code=f"U010{number}") for number in range(5)]
    assert detail(many) == "U0100 of v-1-gw, U0101 of v-1-gw, U0102 of v-1-gw and 2 more"
    assert detail([replace(many[0], ecu_serial="")]) == "U0100"


async def test_case_is_shown_with_advice_and_closed_with_a_reason(world: World) -> None:
    """From failure to closed, through the desk."""
    car = Car("v-1")
    attempt_id = await exposed(world, car)
    await world.check_in(car, VehicleEvent(2, attempt_id, AttemptEvent.FAILED, "flash_error"))
    found = await world.cases.get(attempt_id)
    assert (found.case.cause, found.case.detail) == ("failed", "flash_error")
    assert any("flash_error" in line for line in found.advice)
    closed = await world.cases.close(attempt_id, actor="ann", reason="flashed in the workshop")
    assert closed.settled_at == world.now
    assert await world.cases.close(attempt_id, actor="ann", reason="flashed in the workshop") == closed
    with pytest.raises(StateError, match="ann closed it: flashed in the workshop"):
        await world.cases.close(attempt_id, actor="bob", reason="me too")
    found = await world.cases.get(attempt_id)
    assert found.advice == [f"Nothing: ann closed it at {instant(world.now)}: flashed in the workshop"]


@pytest.mark.parametrize("name", ["spring.v-1.1", "nonsense"])
async def test_case_that_never_was_is_not_found(world: World, name: str) -> None:
    """With the way to what there is."""
    for act in (
        world.cases.get(AttemptId(name)),
        world.cases.close(AttemptId(name), actor="ann", reason="x"),
    ):
        with pytest.raises(NotFoundError) as error:
            await act
        assert "outrider case list" in error.value.remedy


def test_silent_vehicle_is_waited_for_then_called_then_visited() -> None:
    """What costs least comes first."""
    text = advised(a_case())
    assert text.index("Silent since 2026-01-01T00:00:00Z (2 d ago): wait for contact") < text.index("Call the owner")
    assert text.index("Call the owner") < text.index("Send a technician with a diagnostic tool and 1.1.0 for acme-")
    assert text.splitlines()[-1].startswith("When it is dealt with: `outrider case close spring.v-1.1 --reason")


def test_vehicle_that_calls_again_needs_nobody() -> None:
    """Its manifest settles the case."""
    text = advised(a_case(), record=a_record(last_seen_at=after(2 * DAY_MS - HOUR_MS)))
    assert "It calls again (last 1 h ago)" in text
    assert "technician" not in text


def test_last_conditions_say_what_is_likely() -> None:
    """An empty battery is a charger, not a technician."""
    weak = some_conditions(battery_percent=7, storage_free_bytes=90_000_000)
    text = advised(a_case(), record=a_record(last_seen_at=NOW, conditions=weak, diagnostics=(a_diagnostic(),)))
    assert "battery was at 7 %" in text
    assert "90 MB free" in text
    assert "critical diagnoses: U0100 (v-1-gw)" in text
    assert "battery" not in advised(a_case(), record=a_record(last_seen_at=NOW, conditions=some_conditions()))


def test_many_cases_alike_are_the_releases_fault() -> None:
    """Fifty failures with one code are not fifty technicians; the rollout comes first."""
    text = advised(a_case("failed", "flash_error"), alike=50)
    assert text.startswith("50 open cases of this rollout are alike (failed: flash_error): suspect the release")
    assert "outrider rollout pause spring" in text
    assert "alike" not in advised(a_case("failed", "flash_error"), alike=2)


@pytest.mark.parametrize("status", [RolloutStatus.HELD, RolloutStatus.HALTED])
def test_stopped_rollout_is_decided_first(status: RolloutStatus) -> None:
    """And a halted one can be undone."""
    text = advised(a_case(), rollout=a_rollout(status=status, reason="31 failed"))
    assert f"The rollout is {status.value} (31 failed)" in text
    assert ("outrider rollout revert spring" in text) is (status is RolloutStatus.HALTED)


@pytest.mark.parametrize("known", [{"rollout": a_rollout(status=RolloutStatus.ABORTED)}, {"alike": 50}])
def test_suspected_release_is_not_flashed_by_hand(known: dict[str, object]) -> None:
    """A technician must not bring the very software that the gate stopped."""
    assert "the software for acme-" in (text := advised(a_case(), **known))
    assert "that it ran before, not 1.1.0" in text


def test_vehicle_that_went_back_can_be_driven() -> None:
    """Nobody is woken for it."""
    record = a_record(installed=ReleaseVersion("1.0.0"), manifest_counter=3, last_seen_at=NOW)
    text = advised(a_case("rolled_back", "in verifying", attempt_state=S.ROLLED_BACK), record=record)
    assert "Its last manifest proves 1.0.0" in text
    assert "it can be driven, nothing is urgent" in text


def test_diagnosis_is_looked_up_or_gone() -> None:
    """Active, with since when; or no longer told, then it may be closed; or older than the update."""
    case = a_case("diagnosis", "U0100 of v-1-gw")
    active = a_record(last_seen_at=after(2 * DAY_MS), diagnostics=(a_diagnostic(at=after(HOUR_MS)),))
    assert "U0100 of v-1-gw is active since 2026-01-01T01:00:00Z" in advised(case, record=active)
    assert "before the installation" not in advised(case, record=active)
    older = a_record(last_seen_at=NOW, diagnostics=(a_diagnostic(at=after(-DAY_MS)),))
    assert "It was there before the installation began" in advised(case, record=older)
    assert "no critical diagnosis any more" in advised(case, record=a_record(last_seen_at=after(2 * DAY_MS)))


def test_settled_case_and_lost_vehicle_have_their_words() -> None:
    """Never an empty answer."""
    settled = a_case(settled_at=after(2 * DAY_MS), attempt_state=S.SUCCEEDED)
    assert advised(settled) == (
        "Nothing: the vehicle's own word settled it at 2026-01-03T00:00:00Z; the attempt is succeeded."
    )
    assert advised(a_case(), record=None).startswith("The vehicle left the inventory")


def test_vehicle_that_failed_again_and_again_is_looked_at_and_let_in_again() -> None:
    """Whoever repairs it must know that it stays out until somebody says so."""
    case = a_case(
        "repeated", "failed in 3 rollouts in a row, limit 3: spring (failed), summer (failed), autumn (failed)"
    )
    kept = Exclusion(EVERY_ROLLOUT, "service", case.detail, NOW)
    told = advised(case, record=a_record(exclusions=(kept,)))
    assert "It is in quarantine, as it failed in 3 rollouts in a row" in told
    assert f"outrider fleet quarantine {case.vehicle_id} --lift" in told
    assert "--lift" not in advised(case, record=a_record()), "a person let it in already"
