"""What every store promises about permits for vehicles that install out of reach, and about permits that are out."""

from __future__ import annotations

import pytest

from orchestrator.model.attempt import AttemptEvent, AttemptState
from orchestrator.model.fleet import Habit, HabitAge
from orchestrator.model.ids import AttemptId
from orchestrator.model.rollout import RolloutStatus
from orchestrator.model.tally import AgeGroup, Tally
from orchestrator.store.base import Applied, Permitted, Store
from tests.builders import DAY_MS, DEADLINES_MS, HOUR_MS, MINUTE_MS, NOW, after, an_attempt
from tests.contracts.steps import (
    SPRING,
    V1,
    a_manifest,
    assigned,
    authorize,
    entries,
    entry,
    next_epoch,
    reason,
    reserve,
    running,
    state_of,
    sweep_all,
    tell,
)
from tests.store_fixtures import StoreBench

E = AttemptEvent
S = AttemptState
AWAY_MS = 10 * HOUR_MS


async def away(store: Store, **changes: object) -> AttemptId:
    """An attempt of V1 with an offline permit since NOW."""
    attempt = await assigned(store, an_attempt(**changes))
    await tell(store, attempt, E.DOWNLOAD_FINISHED)
    answer = await store.permit(attempt.attempt_id, permitted_at=NOW, offline_ms=AWAY_MS)
    assert isinstance(answer, Applied), answer
    return attempt.attempt_id


async def tally(store: Store) -> Tally:
    """The one cell's tally; the recount must agree."""
    tallies = await store.tallies([SPRING])
    assert tallies == await store.recount([SPRING])
    (found,) = tallies[SPRING].values()
    return found


async def test_offline_permit_is_exposed_from_its_issue(bench: StoreBench) -> None:
    """It spends the blast budget at once: nobody can ask for it back, and nobody hears when it is used."""
    name = await away(bench.store)
    assert (await tally(bench.store)).exposed == 1
    (found,) = await bench.store.attempts(V1)
    assert (found.attempt_id, found.permitted_at, found.offline_ms) == (name, NOW, AWAY_MS)
    (issued,) = [one for one in await entries(bench.store, "attempt_changed") if one.data["event"] == "permit_issued"]
    assert issued.data["offline_ms"] == AWAY_MS


async def test_silence_after_an_offline_permit_counts_from_its_last_use(bench: StoreBench) -> None:
    """Who is out of reach is no brick yet; who stays silent an age beyond its permit is, and is never forgotten."""
    await away(bench.store, habit=Habit.OFTEN, habit_ages_ms=(6 * HOUR_MS,), habit_aged=(False,), habit_silent=(False,))
    early = HabitAge(Habit.OFTEN, 6 * HOUR_MS)
    await sweep_all(bench.store, after(AWAY_MS + 6 * HOUR_MS - 1))
    assert early not in (await tally(bench.store)).habit_groups
    await sweep_all(bench.store, after(AWAY_MS + 6 * HOUR_MS))
    assert (await tally(bench.store)).habit_groups[early] == AgeGroup(1, 1)
    await sweep_all(bench.store, after(AWAY_MS + DAY_MS - 1))
    assert (await tally(bench.store)).age_groups == (AgeGroup(), AgeGroup())
    await sweep_all(bench.store, after(AWAY_MS + DAY_MS))
    assert (await tally(bench.store)).age_groups == (AgeGroup(1, 1), AgeGroup())
    await sweep_all(bench.store, after(AWAY_MS + 3 * DAY_MS))
    assert (await tally(bench.store)).age_groups == (AgeGroup(1, 1), AgeGroup(1, 1))


@pytest.mark.parametrize("word", [E.INSTALL_STARTED, E.VERIFY_STARTED])
async def test_vehicle_that_is_heard_again_ages_from_there(bench: StoreBench, word: AttemptEvent) -> None:
    """It has used its permit by then: whoever asks for a long one and never leaves must not be judged a day late."""
    name = await away(bench.store)
    (attempt,) = await bench.store.attempts(V1)
    assert attempt.attempt_id == name
    await tell(bench.store, attempt, word, now=after(HOUR_MS))
    await sweep_all(bench.store, after(HOUR_MS + DAY_MS - 1))
    assert (await tally(bench.store)).age_groups == (AgeGroup(), AgeGroup())
    await sweep_all(bench.store, after(HOUR_MS + DAY_MS))
    assert (await tally(bench.store)).age_groups == (AgeGroup(1, 1), AgeGroup())
    assert (await tally(bench.store)).after_permit[S.TIMED_OUT] == 1


async def test_vehicle_that_comes_back_well_is_never_silent(bench: StoreBench) -> None:
    """The usual end: out of reach over night, installed, home in the morning."""
    await away(bench.store)
    (attempt,) = await bench.store.attempts(V1)
    await bench.store.attest(V1, a_manifest(attempt, event=E.ATTESTED_RELEASE), now=after(9 * HOUR_MS))
    await sweep_all(bench.store, after(9 * HOUR_MS + DAY_MS))
    assert (await tally(bench.store)).age_groups == (AgeGroup(1, 0), AgeGroup())


async def test_offline_permit_times_out_after_it_lapsed(bench: StoreBench) -> None:
    """Nobody is late with a word that cannot be sent yet; a case before that would send a mechanic to a healthy car."""
    name = await away(bench.store)
    ends_at = AWAY_MS + DEADLINES_MS[S.PERMITTED]
    (attempt,) = await bench.store.attempts(V1)
    assert attempt.deadline_at == after(ends_at)
    await sweep_all(bench.store, after(ends_at - 1))
    assert await state_of(bench.store, attempt) is S.PERMITTED
    await sweep_all(bench.store, after(ends_at))
    assert await state_of(bench.store, attempt) is S.TIMED_OUT
    (case,) = await bench.store.cases(rollout_id=None, settled=False)
    assert (case.attempt_id, case.cause) == (name, "timed_out")


async def test_permit_is_repeated_as_it_was_given(bench: StoreBench) -> None:
    """A short permit must not grow under a halt, nor a long one shrink: the vehicle holds what it was told first."""
    rollout = await running(bench.store)
    short = await authorize(bench.store, "spring.v-1.1", valid_ms=MINUTE_MS)
    long = await authorize(bench.store, "spring.v-2.1", valid_ms=MINUTE_MS, offline_ms=AWAY_MS)
    assert (short, long) == (Permitted(NOW), Permitted(NOW, offline_ms=AWAY_MS))
    halted = next_epoch(rollout, status=RolloutStatus.HALTED, fence=2)
    assert await bench.store.transition(halted, expected_epoch=1, decision=entry())
    asked = {"valid_ms": MINUTE_MS, "offline_ms": AWAY_MS, "now": after(MINUTE_MS - 1)}
    assert await authorize(bench.store, "spring.v-1.1", **asked) == Permitted(NOW)
    later = {"valid_ms": MINUTE_MS, "now": after(AWAY_MS - 1)}
    assert reason(await authorize(bench.store, "spring.v-1.1", **later, offline_ms=AWAY_MS)) == "rollout_halted"
    assert await authorize(bench.store, "spring.v-2.1", **later) == long
    assert reason(await authorize(bench.store, "spring.v-2.1", valid_ms=MINUTE_MS, now=after(AWAY_MS))) == (
        "rollout_halted"
    )


async def test_orphan_of_an_offline_permit_is_completed_as_one(bench: StoreBench) -> None:
    """A worker that died in between must not leave a clock of silence that runs too early."""
    await running(bench.store)
    await authorize(bench.store, "spring.v-1.1", offline_ms=AWAY_MS)
    await authorize(bench.store, "spring.v-2.1")
    found = (await bench.store.unsettled([SPRING], older_than_ms=-1))[SPRING].permits
    assert dict(found) == {"spring.v-1.1": Permitted(NOW, AWAY_MS), "spring.v-2.1": Permitted(NOW)}


async def test_standing_counts_permits_that_may_still_be_used(bench: StoreBench) -> None:
    """After a halt somebody asks how many vehicles may yet begin, and until when."""
    await running(bench.store)
    for vehicle in ("v-1", "v-2", "v-3"):
        await reserve(bench.store, f"spring.{vehicle}.1")
    await authorize(bench.store, "spring.v-1.1", valid_ms=MINUTE_MS)
    await authorize(bench.store, "spring.v-2.1", valid_ms=MINUTE_MS, offline_ms=AWAY_MS)
    await authorize(bench.store, "spring.v-3.1", valid_ms=MINUTE_MS, offline_ms=HOUR_MS)

    async def seen(at_ms: int) -> tuple[int, int]:
        standing = await bench.store.standing(SPRING, now=after(at_ms))
        return standing.outstanding, standing.outstanding_until

    assert await seen(0) == (3, after(AWAY_MS))
    assert await seen(MINUTE_MS) == (2, after(AWAY_MS))
    await bench.store.release(SPRING, [AttemptId("spring.v-2.1")])
    assert await seen(MINUTE_MS) == (1, after(HOUR_MS))
    await bench.store.forfeit(SPRING, [AttemptId("spring.v-3.1")])
    assert await seen(MINUTE_MS) == (0, 0)
    assert await seen(0) == (1, after(MINUTE_MS))
