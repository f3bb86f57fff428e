"""What a run is said to have taken: counts of several processes add up, and percentiles are true to a step."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from agent_sim.cli import in_words
from agent_sim.report import Record
from agent_sim.tally import Tally, percentile_ms, step_ms, step_of


@pytest.mark.parametrize("took_ms", [0.0, 0.1, 0.11, 1.0, 3.7, 15_000.0])
def test_latency_is_within_its_step(took_ms: float) -> None:
    """A step is 9 % wide: no latency is told shorter than it was, nor much longer."""
    told = step_ms(step_of(took_ms))
    assert took_ms <= told <= max(0.1, took_ms * 1.091)


def test_percentiles_of_processes_that_are_summed_are_those_of_all_calls() -> None:
    """The worst process must not hide behind a mean of percentiles."""
    rng = random.Random(1)
    tallies, all_ms = [Tally(), Tally()], []
    for number in range(10_000):
        took_ms = rng.lognormvariate(2.0 + number % 2, 1.0)
        tallies[number % 2].answered("CheckIn", took_ms)
        all_ms.append(took_ms)
    tallies[0].add(tallies[1])
    assert tallies[0].calls == Counter({("CheckIn", "OK"): 10_000})
    for share in (0.5, 0.95, 0.99):
        exact = sorted(all_ms)[int(share * 10_000) - 1]
        told = percentile_ms(tallies[0].call_steps, share)
        assert told is not None
        assert exact * 0.99 <= told <= exact * 1.1
    assert percentile_ms({}, 0.5) is None


def test_words_at_the_end_say_what_was_counted() -> None:
    """Failed calls and their repetitions are in the sum, and beside it."""
    tally = Tally(polls_idle=1_000, calls_repeated=7, connections=3, bytes_sent=100, bytes_received=300)
    tally.answered("CheckIn", 4.0)
    tally.calls["CheckIn", "UNAVAILABLE"] += 1_999
    record = Record()
    for number in range(2):
        record.take(f"v{number}", a_vehicle(release="1.1.0", bricked=number == 1))
    said = in_words(record.figures(tally))
    assert "2 vehicles: 2 on 1.1.0, 1 bricked" in said
    assert "2,000 calls, 1000.0 a vehicle, 1,000 polls for nothing; 1,999 failed, 7 were repetitions" in said
    assert "bytes a vehicle: 200 of messages, 0 of images" in said


def a_vehicle(*, release: str, bricked: bool) -> dict[str, object]:
    lists: dict[str, object] = {name: [] for name in ("owner", "attempts", "permits", "installs", "diagnostics")}
    counts: dict[str, object] = {"settled": True, "events_told": 0, "events_acknowledged": 0}
    place = {"region": "eu", "hardware": "gen1", "cohort": "all"}
    return {"release": release, "bricked": bricked, "waiting_for": "", **place, **lists, **counts}
