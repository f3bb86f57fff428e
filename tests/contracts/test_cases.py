"""What every store promises about cases that a diagnosis opens, and about people who close cases."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.model.attempt import Attempt, AttemptEvent, AttemptState, Case
from orchestrator.model.ids import AttemptId
from orchestrator.model.vehicle import EVERY_ROLLOUT, Exclusion
from orchestrator.store.base import Store
from tests.builders import DAY_MS, NOW, after, an_attempt
from tests.contracts.steps import SPRING, V1, a_manifest, assigned, entries, permitted, sweep_all, tell
from tests.store_fixtures import StoreBench

E = AttemptEvent
S = AttemptState


async def case_of(store: Store, attempt: Attempt) -> Case:
    case = await store.case(attempt.attempt_id)
    assert case is not None
    return case


async def close(store: Store, attempt: Attempt, *, at_ms: int = 9) -> Case | None:
    return await store.close_case(attempt.attempt_id, actor="ann", reason="visited", now=after(at_ms))


async def test_diagnosis_of_an_exposed_vehicle_opens_a_case_once(bench: StoreBench) -> None:
    """A vehicle tells its diagnosis at every poll; a person is asked once."""
    attempt = await permitted(bench.store)
    assert await bench.store.diagnose(attempt.attempt_id, detail="U0100 of v-1-gw", now=after(5))
    assert not await bench.store.diagnose(attempt.attempt_id, detail="U0101 of v-1-gw", now=after(6))
    case = await case_of(bench.store, attempt)
    assert (case.cause, case.detail, case.opened_at, case.settled_at) == (
        "diagnosis",
        "U0100 of v-1-gw",
        after(5),
        None,
    )
    assert await bench.store.open_cases() == {SPRING: 1}
    (entry,) = await entries(bench.store, "case_opened")
    assert (entry.data["cause"], entry.data["detail"], entry.at) == ("diagnosis", "U0100 of v-1-gw", after(5))


async def test_diagnosis_without_exposure_opens_none(bench: StoreBench) -> None:
    """What happened before a permit is not ours; and there may be no such attempt at all."""
    attempt = await assigned(bench.store)
    assert not await bench.store.diagnose(attempt.attempt_id, detail="U0100", now=NOW)
    assert not await bench.store.diagnose(AttemptId("spring.v-1.7"), detail="U0100", now=NOW)
    assert not await bench.store.diagnose(AttemptId("nonsense"), detail="U0100", now=NOW)
    assert await bench.store.case(attempt.attempt_id) is None
    assert await bench.store.case(AttemptId("nonsense")) is None


async def test_success_does_not_settle_a_diagnosis(bench: StoreBench) -> None:
    """The update works and the vehicle is impaired: both are true."""
    attempt = await permitted(bench.store)
    await bench.store.diagnose(attempt.attempt_id, detail="U0100", now=NOW)
    await bench.store.attest(V1, a_manifest(attempt, event=E.ATTESTED_RELEASE), now=after(5))
    case = await case_of(bench.store, attempt)
    assert (case.cause, case.settled_at, case.attempt_state) == ("diagnosis", None, S.SUCCEEDED)
    assert await bench.store.open_cases() == {SPRING: 1}


async def test_failure_after_a_diagnosis_changes_the_case(bench: StoreBench) -> None:
    """One case an attempt; its cause is the worst that is known."""
    attempt = await permitted(bench.store)
    await bench.store.diagnose(attempt.attempt_id, detail="U0100", now=NOW)
    await tell(bench.store, attempt, E.FAILED, now=after(5), failure_code="flash_error")
    case = await case_of(bench.store, attempt)
    assert (case.cause, case.detail, case.opened_at) == ("failed", "flash_error", NOW)
    assert await bench.store.open_cases() == {SPRING: 1}


async def test_person_closes_a_case_with_a_reason(bench: StoreBench) -> None:
    """Who and why stay with the case and stand in the journal; closing again changes nothing."""
    attempt = await permitted(bench.store)
    await tell(bench.store, attempt, E.FAILED, failure_code="flash_error")
    closed = await close(bench.store, attempt)
    assert closed is not None
    assert (closed.closed_by, closed.close_reason, closed.settled_at) == ("ann", "visited", after(9))
    assert await bench.store.case(attempt.attempt_id) == closed
    assert await bench.store.close_case(attempt.attempt_id, actor="bob", reason="x", now=after(10)) == closed
    assert await bench.store.cases(rollout_id=None, settled=False) == []
    assert await bench.store.open_cases() == {}
    (entry,) = await entries(bench.store, "case_closed")
    assert entry.at == after(9)
    assert {name: entry.data[name] for name in ("attempt_id", "cause", "state", "actor", "reason")} == {
        "attempt_id": attempt.attempt_id,
        "cause": "failed",
        "state": "failed",
        "actor": "ann",
        "reason": "visited",
    }


async def test_there_is_nothing_to_close_where_no_case_was(bench: StoreBench) -> None:
    """Absence is an answer."""
    attempt = await permitted(bench.store)
    assert await close(bench.store, attempt) is None
    assert await close(bench.store, an_attempt(vehicle_id="ghost")) is None


async def test_closed_case_opens_again_for_what_is_new(bench: StoreBench) -> None:
    """A reset after a success that a person looked into is another matter."""
    attempt = await permitted(bench.store)
    await sweep_all(bench.store, after(DAY_MS))
    await close(bench.store, attempt)
    await bench.store.attest(V1, a_manifest(attempt, event=E.ATTESTED_RELEASE), now=after(DAY_MS + 1))
    assert (await case_of(bench.store, attempt)).attempt_state is S.SUCCEEDED
    other = a_manifest(attempt, counter=2, event=E.ATTESTED_OTHER, installed="1.0.0")
    await bench.store.attest(V1, other, now=after(DAY_MS + 2))
    case = await case_of(bench.store, attempt)
    assert (case.cause, case.settled_at, case.closed_by) == ("rolled_back", None, "")


async def test_closed_case_of_silence_stays_closed_when_time_runs_out(bench: StoreBench) -> None:
    """Whoever closed fifty silent cases knows that nothing was heard; the deadline says nothing else."""
    attempt = an_attempt(checkpoints_ms=(60_000,), aged=(False,), silent=(False,))
    await permitted(bench.store, attempt)
    await sweep_all(bench.store, after(60_000))
    closed = await close(bench.store, attempt, at_ms=60_001)
    assert closed is not None
    await sweep_all(bench.store, after(30 * DAY_MS))
    assert await case_of(bench.store, attempt) == replace(closed, attempt_state=S.TIMED_OUT)
    assert await bench.store.cases(rollout_id=None, settled=False) == []


async def quarantine(store: Store, attempt: Attempt, *, at_ms: int = 7) -> bool:
    exclusion = Exclusion(scope=EVERY_ROLLOUT, actor="service", reason="failed three times", at=after(at_ms))
    return await store.exclude(V1, exclusion, blamed=attempt.attempt_id)


async def test_quarantine_after_failures_is_a_case_of_the_last_one_in_the_same_step(bench: StoreBench) -> None:
    """Also of one that had no permit, and so none yet: somebody has to look at the vehicle. Once."""
    attempt = await assigned(bench.store)
    await tell(bench.store, attempt, E.FAILED, now=after(5), failure_code="disk_full")
    assert await bench.store.case(attempt.attempt_id) is None
    assert await quarantine(bench.store, attempt)
    assert not await quarantine(bench.store, attempt, at_ms=8)
    case = await case_of(bench.store, attempt)
    assert (case.cause, case.detail, case.opened_at) == ("repeated", "failed three times", after(7))
    assert (case.attempt_state, case.settled_at) == (S.FAILED, None)
    assert await bench.store.open_cases() == {SPRING: 1}
    excluded, opened = await entries(bench.store, "vehicle_excluded", "case_opened")
    assert (excluded.data["reason"], opened.data["cause"]) == ("failed three times", "repeated")


async def test_quarantine_changes_a_case_that_is_open_and_success_does_not_settle_it(bench: StoreBench) -> None:
    """One case an attempt; a late success of it does not say why the others failed."""
    attempt = await permitted(bench.store)
    await tell(bench.store, attempt, E.FAILED, now=after(5), failure_code="flash_error")
    await quarantine(bench.store, attempt)
    assert await bench.store.open_cases() == {SPRING: 1}
    await bench.store.attest(V1, a_manifest(attempt, event=E.ATTESTED_RELEASE), now=after(8))
    case = await case_of(bench.store, attempt)
    assert (case.cause, case.opened_at, case.settled_at) == ("repeated", after(5), None)
    assert await close(bench.store, attempt) is not None
    assert await bench.store.open_cases() == {}


async def test_quarantine_that_blames_nobody_we_know_opens_no_case(bench: StoreBench) -> None:
    """The exclusion stands all the same."""
    await assigned(bench.store)
    assert await quarantine(bench.store, an_attempt(number=9))
    assert await bench.store.cases(rollout_id=None, settled=True) == []
