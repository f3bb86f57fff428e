"""The bench measures what it says, on parts that really do their work."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speed.__main__ import as_json, as_markdown
from benchmarks.speed.calling import calling
from benchmarks.speed.fleet import Amount, fleet
from benchmarks.speed.pairs import Pair, measured
from benchmarks.speed.proving import proving
from benchmarks.speed.restarting import restart_s
from benchmarks.speed.rolling import IMAGE_BYTES, amounts, of_before, rolled_out
from benchmarks.speed.serving import Served, serving
from benchmarks.speed.sizes import Size, delta_bytes_ratio, old_image, small_change
from benchmarks.speed.sizing import large_and_small
from benchmarks.speed.storing import AT_ONCE, storing
from benchmarks.speed.storm import amounts as storm_amounts
from benchmarks.speed.storm import storm
from benchmarks.speed.thinking import HASHES, thinking


class HandClock:
    """Seconds that go by when work is done."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_pair_is_a_ratio_within_its_rounds_and_the_first_does_not_count() -> None:
    """A machine that slows down half way slows both sides: the ratio stays."""
    clock = HandClock()
    pace = iter([9.0, *([1.0] * 2), *([2.0] * 2)])

    def ours() -> int:
        clock.now_s += next(pace) * 3.0
        return 10

    slow = iter([1.0, 1.0, 1.0, 2.0, 2.0])

    def bare() -> int:
        clock.now_s += next(slow)
        return 20

    figure = measured(Pair("a_ratio", "name", "things", "bare", ours, bare, at_most=7.5, clock=clock), rounds=4)
    assert (figure.times, figure.times_least, figure.times_most) == (6.0, 6.0, 6.0)
    assert figure.bare_per_s == pytest.approx(15.0)
    assert "| name | 2 things | bare | 15 | 6.00 | 6.00 to 6.00 | 7.50 |" in as_markdown([figure], 4)
    told = json.loads(as_json([figure], 4))
    wanted = {"name": "a_ratio", "value": 6.0, "unit": "ratio", "baseline": "bare"}
    assert told["results"] == [{**wanted, "command": "python -m benchmarks.speed --rounds 4"}]
    assert told["machine"]


def test_the_pairs_of_the_engine_do_what_they_count() -> None:
    """A bench of something that refuses at the first look is fast."""
    for pair, count in zip(thinking(judgements=2, admissions=20, vehicles=500), (2, 20, 500), strict=True):
        assert pair.ours() == count
        assert pair.bare() in (HASHES, 500)


def test_the_pairs_of_signatures_do_what_they_count(tmp_path: Path) -> None:
    """A refresh that signs nothing and a manifest that is refused would be the fastest."""
    for pair, count in zip(
        proving(tmp_path, refreshes=2, timestamps=5, manifests=3, polls=4), (2, 5, 3, 4), strict=True
    ):
        assert pair.ours() == pair.bare() == count


def test_the_pairs_of_the_store_do_what_they_count(tmp_path: Path) -> None:
    """Twice: a second round meets other attempts, or it would measure repetitions."""
    with storing(tmp_path / "store", calls=AT_ONCE) as pairs:
        for pair in (*pairs, *pairs):
            assert pair.ours() == AT_ONCE == pair.bare()


def test_a_share_of_the_baselines_rate_is_what_was_asked_of_calls() -> None:
    """By the processor time of either side, and beside it by the wall, under the same names as all figures."""
    clock, bare_clock = HandClock(), HandClock()

    def ours() -> int:
        clock.now_s += 4.0
        return 12

    def bare() -> int:
        bare_clock.now_s += 3.0
        return 12

    pair = Pair("x_vs_echo", "name", "calls", "echo", ours, bare, clock=clock, bare_clock=bare_clock, at_least=0.5)
    figure = measured(pair, rounds=2)
    assert figure.value == pytest.approx(0.75)
    [told] = json.loads(as_json([figure], 7))["results"]
    assert (told["name"], told["value"]) == ("x_vs_echo", pytest.approx(0.75))
    assert "| name | 3 calls | echo | 4 | 0.75 | 0.75 to 0.75 | 0.50 |" in as_markdown([figure], 7)
    assert figure.wall_per_s > 3.0


@pytest.mark.processes
def test_calls_are_answered_by_a_whole_installation_and_by_the_echo(tmp_path: Path) -> None:
    """Twice: events have other numbers then. Who answers spends processor time at it, or another one was looked at."""
    with calling(tmp_path / "data", vehicles=4, warm_calls=3, cold_calls=2) as pairs:
        for pair in (*pairs, *pairs):
            assert pair.bare_clock is not None
            before = pair.clock(), pair.bare_clock()
            assert pair.ours() == pair.bare() in (8, 12)
            assert pair.clock() > before[0]
            assert pair.bare_clock() > before[1]


def test_sizes_stand_beside_the_pairs() -> None:
    """In the same file under the same names, so that versions are compared by one thing."""
    size = Size("x_ratio", 0.005, "all of it", at_most=0.01)
    [told] = json.loads(as_json([], 7, [size]))["results"]
    wanted = {"name": "x_ratio", "value": 0.005, "unit": "ratio", "baseline": "all of it", "command": "make bench"}
    assert told == wanted
    assert "| x_ratio | 0.500% | all of it | 1.000% |" in as_markdown([], 7, [size])


def test_delta_of_a_small_change_is_a_hundredth_at_most() -> None:
    """The promise to whoever pays for bytes; the change is real, and the same at each run."""
    old = old_image(9_000_000)
    new = small_change(old)
    assert sum(a != b for a, b in zip(old[:4_000_000], new[:4_000_000], strict=True)) > 2_000
    assert len(new) > len(old)
    size = delta_bytes_ratio(9_000_000)
    assert size == delta_bytes_ratio(9_000_000)
    assert 0.001 < size.value <= size.at_most


def test_the_fleet_is_really_there_and_its_rollouts_come_to_their_end(tmp_path: Path) -> None:
    """Bytes of vehicles that were refused would be few. A small fleet pays alone what is kept once."""
    registered, in_service, left, share = fleet(
        tmp_path / "fleet", rounds=1, vehicles=2_000, sample=100, rollouts=2, imported=200
    )
    assert 200 < registered.value < 5_000
    assert 200 < in_service.value - registered.value < 2_000
    assert 20 < left.value < 2_000
    assert share.value > 0.0


@pytest.mark.processes
def test_rollouts_really_begin_and_stop_in_fleets_of_both_sizes(tmp_path: Path) -> None:
    """What no vehicle was granted, or nobody stopped, would be the fastest."""
    ticks, starts = large_and_small(tmp_path / "sizes", rounds=1, large=3_000, small=300, starts=2, stops=2)
    assert [figure.key for figure in ticks] == ["tick_flatness", "tick_vs_ping", "tick_signs_of_life", "tick_judging"]
    assert all(figure.times > 0.0 for figure in ticks)
    assert [amount.key for amount in starts] == ["first_grant_s", "first_grant_flatness", "last_grant_after_stop_s"]
    assert starts[0].value > 0.0


def test_amounts_stand_beside_the_sizes() -> None:
    """With their unit and what was asked."""
    amount = Amount("x_bytes", 234.5678, "bytes", "of a thing", "at most 350")
    [told] = json.loads(as_json([], 7, (), [amount]))["results"]
    assert (told["name"], told["value"], told["unit"]) == ("x_bytes", 234.5678, "bytes")
    assert "| x_bytes | 235 | bytes | of a thing | at most 350 |" in as_markdown([], 7, (), [amount])


@pytest.mark.processes
def test_a_restart_is_timed_until_it_serves(tmp_path: Path) -> None:
    """Each start is one of its own, on the store that the one before left behind."""
    amount = restart_s(tmp_path / "data", count=2)
    assert (amount.key, amount.unit) == ("restart_s", "s")
    assert amount.value > 0.0
    assert "median of 2" in amount.what


@pytest.mark.processes
@pytest.mark.timeout(300)
def test_rollout_to_a_fleet_reaches_all_of_it_and_counts_what_it_took(tmp_path: Path) -> None:
    """Real vehicles, certificates, downloads and manifests: an update that skipped one of these would be cheap."""
    compared = rolled_out(tmp_path / "rolling", vehicles=12, scale=300.0)
    rolled = compared.updated
    assert rolled.calls["SubmitManifest"] >= 12 <= rolled.calls["AuthorizeInstall"]
    assert rolled.image_bytes == 2 * IMAGE_BYTES * 12
    assert rolled.message_bytes > 12 * 1_000
    assert rolled.failed == 0
    assert 0 < rolled.idle < rolled.calls["CheckIn"]
    assert compared.idle.calls.keys() == {"CheckIn"}, "before, they only poll"
    assert 0.5 < compared.idle.calls_an_hour < 1.2
    more, in_all, *others = amounts(compared)
    # Offered, begun, downloaded, asked for leave, installing, restarting, verifying, proven; less the usual polls.
    assert 6 <= more.value <= 20
    assert more.value == in_all.value - compared.usual_each
    assert [each.key for each in (more, in_all)] == ["calls_per_updated_vehicle", "calls_per_vehicle_in_all"]
    assert [each.key for each in others] == ["rollout_seconds", "bytes_per_updated_vehicle"]
    told = json.loads(as_json([], 7, (), [more, in_all, *others]))["results"]
    again = of_before(told)
    assert [(each.key, each.value, each.asked) for each in again] == [
        (each.key, each.value, each.asked) for each in (more, in_all, *others)
    ]
    assert all(each.what.endswith("in an earlier run") for each in again), "of a run that it was not measured in"


async def _storm_upon_a_halting_store(served: Served) -> dict[str, Any]:
    """Calls wait in the worker while its store stands still: else it answers as fast as its callers here can ask."""
    _, store = served.processes

    async def hinder() -> None:
        try:
            while True:
                os.kill(store, signal.SIGSTOP)
                await asyncio.sleep(0.6)
                os.kill(store, signal.SIGCONT)
                await asyncio.sleep(0.3)
        finally:
            os.kill(store, signal.SIGCONT)

    hindering = asyncio.ensure_future(hinder())
    try:
        return await storm(served, clients=4_000, within_s=0.01, seed=1)
    finally:
        hindering.cancel()


@pytest.mark.fault("F16")
@pytest.mark.processes
@pytest.mark.timeout(300)
def test_herd_is_served_to_the_last_and_counted_by_client(tmp_path: Path) -> None:
    """Each client once, whatever it took: a storm that forgot those who were refused would be short."""
    with serving(tmp_path / "data", vehicles=64) as served:
        told = asyncio.run(_storm_upon_a_halting_store(served))
    assert told["served"] == told["clients"] == 4_000
    assert told["refused_calls"], "more at once than a worker takes"
    assert told["calls_per_client"] == pytest.approx(1 + (told["refused_calls"] + told["lost_calls"]) / 4_000)
    assert told["calls_per_client"] <= 4, "a herd that is sent away must not come ever more often"
    assert 0 < told["seconds_waited"]["50%"] <= told["seconds_waited"]["100%"] <= told["seconds_to_the_last"]
    calls, last = storm_amounts(told, 0.01)
    assert (calls.value, last.value) == (told["calls_per_client"], told["seconds_to_the_last"])
