"""Group commit: one round trip for what is called together, one fate a call, and a way back after every outage."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.store.base import StoreError, StoreUnavailableError
from orchestrator.store.redis import EmbeddedServer
from orchestrator.store.redis.address import connection_to
from orchestrator.store.redis.pipeline import Pipeline
from tests.store_fixtures import empty


@pytest.fixture
async def pipeline(embedded_server: EmbeddedServer) -> AsyncIterator[Pipeline]:
    empty(embedded_server.socket_path)
    pipeline = Pipeline(connection_to(embedded_server.url), deadline_s=5.0)
    yield pipeline
    await pipeline.close()


async def stat(pipeline: Pipeline, name: str) -> int:
    text: bytes = await pipeline.call("INFO", "everything")
    lines = dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
    return int(lines[name])


async def test_every_call_gets_its_own_answer(pipeline: Pipeline) -> None:
    """A mix-up of replies would hand one vehicle's permit to another."""
    answers = await asyncio.gather(*(pipeline.call("ECHO", f"call-{number}") for number in range(2000)))
    assert answers == [f"call-{number}".encode() for number in range(2000)]


async def test_concurrent_writes_share_a_sync(pipeline: Pipeline) -> None:
    """The disk is asked once a round, not once a call: that is what makes `appendfsync always` affordable."""
    await pipeline.call("PING")
    before = await stat(pipeline, "total_reads_processed")
    await asyncio.gather(*(pipeline.call("SET", f"k-{number}", "v") for number in range(500)))
    assert await stat(pipeline, "total_reads_processed") - before < 50


async def test_bad_call_fails_alone(pipeline: Pipeline) -> None:
    """One caller's mistake is no other caller's failure."""
    outcomes = await asyncio.gather(
        pipeline.call("SET", "a", "1"),
        pipeline.call("NOSUCH"),
        pipeline.call("HGET", "a", "field"),
        pipeline.call("GET", "a"),
        return_exceptions=True,
    )
    assert outcomes[0] is not None
    assert isinstance(outcomes[1], StoreError)
    assert isinstance(outcomes[2], StoreError)
    assert "WRONGTYPE" in str(outcomes[2])
    assert outcomes[3] == b"1"


async def test_batch_is_answered_in_order_and_its_bad_commands_fail_alone(embedded_server: EmbeddedServer) -> None:
    """What asks every shard at once must know which answered what, also when it takes several rounds."""
    empty(embedded_server.socket_path)
    pipeline = Pipeline(connection_to(embedded_server.url), round_max=7)
    asked = [("ECHO", f"call-{number}") if number % 10 else ("NOSUCH",) for number in range(50)]
    others = [asyncio.ensure_future(pipeline.call("ECHO", f"other-{number}")) for number in range(20)]
    outcomes = await pipeline.call_all(asked)
    assert [number for number, outcome in enumerate(outcomes) if isinstance(outcome, StoreError)] == [0, 10, 20, 30, 40]
    told = [outcome for outcome in outcomes if not isinstance(outcome, StoreError)]
    assert told == [f"call-{number}".encode() for number in range(50) if number % 10]
    assert await asyncio.gather(*others) == [f"other-{number}".encode() for number in range(20)]
    assert await pipeline.call_all([]) == []
    await pipeline.close()


async def test_batch_takes_one_round_trip(pipeline: Pipeline) -> None:
    """A tick that asks a hundred times must not wait a hundred times."""
    await pipeline.call("PING")
    before = await stat(pipeline, "total_reads_processed")
    assert await pipeline.call_all([("PING",)] * 100) == [b"PONG"] * 100
    # The look afterwards is a read as well.
    assert await stat(pipeline, "total_reads_processed") - before == 2


async def test_argument_of_no_kind_fails_its_caller_only(pipeline: Pipeline) -> None:
    """It never reaches the round."""
    other = asyncio.ensure_future(pipeline.call("ECHO", "fine"))
    with pytest.raises(TypeError, match="must be str, int, float or bytes"):
        await pipeline.call("SET", "a", object())  # type: ignore[arg-type]
    assert await other == b"fine"


async def test_cancelled_caller_does_not_disturb_the_others(pipeline: Pipeline) -> None:
    """A vehicle that hangs up in the middle of a round takes only its own call with it."""
    calls = [asyncio.ensure_future(pipeline.call("ECHO", str(number))) for number in range(50)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])
    assert answers[1::2] == [str(number).encode() for number in range(1, 50, 2)]
    assert await pipeline.call("ECHO", "after") == b"after"


async def test_cancelled_batch_does_not_disturb_the_others(pipeline: Pipeline) -> None:
    """All its replies are taken off the line, or the next caller would be handed them."""
    batch = asyncio.ensure_future(pipeline.call_all([("ECHO", str(number)) for number in range(50)]))
    other = asyncio.ensure_future(pipeline.call("ECHO", "other"))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not pipeline._waiting
    batch.cancel()
    assert await other == b"other"
    assert await pipeline.call("ECHO", "after") == b"after"


async def test_too_many_waiting_calls_are_refused_at_once(embedded_server: EmbeddedServer) -> None:
    """A queue without a bound turns an overload into an outage."""
    pipeline = Pipeline(connection_to(embedded_server.url), waiting_max=10)
    outcomes = await asyncio.gather(
        *(pipeline.call("ECHO", str(number)) for number in range(15)), return_exceptions=True
    )
    assert outcomes[:10] == [str(number).encode() for number in range(10)]
    assert all(isinstance(outcome, StoreUnavailableError) for outcome in outcomes[10:])
    assert "calls waiting for the store (10) >= 10" in str(outcomes[10])
    await pipeline.close()


async def test_long_queue_is_served_in_several_rounds(embedded_server: EmbeddedServer) -> None:
    """A round has a bound too, or one burst would delay everybody by its whole length."""
    pipeline = Pipeline(connection_to(embedded_server.url), round_max=7)
    answers = await asyncio.gather(*(pipeline.call("ECHO", str(number)) for number in range(100)))
    assert answers == [str(number).encode() for number in range(100)]
    await pipeline.close()


async def test_nobody_listening_fails_at_once_and_later_works(tmp_path: Path) -> None:
    """Callers learn of an outage quickly, and nobody has to open the store again when it is over."""
    server = EmbeddedServer(tmp_path / "store")
    server.start()
    pipeline = Pipeline(connection_to(server.url), deadline_s=30.0)
    assert await pipeline.call("ECHO", "one") == b"one"
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    await asyncio.to_thread(server.wait_dead)
    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            await pipeline.call("ECHO", "two")
    await asyncio.to_thread(server.start)
    assert await pipeline.call("ECHO", "three") == b"three"
    await pipeline.close()
    server.stop()


async def test_stopped_server_fails_calls_at_their_deadline(tmp_path: Path) -> None:
    """A server that hangs is worse than a dead one; every await has a deadline. Afterwards replies are not mixed up."""
    server = EmbeddedServer(tmp_path / "store")
    server.start()
    pipeline = Pipeline(connection_to(server.url), deadline_s=0.2)
    assert await pipeline.call("ECHO", "one") == b"one"
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    outcomes = await asyncio.gather(*(pipeline.call("ECHO", "lost") for _ in range(5)), return_exceptions=True)
    os.kill(server.pid, signal.SIGCONT)
    assert all(isinstance(outcome, StoreUnavailableError) for outcome in outcomes)
    answer = None
    while answer is None:
        try:
            answer = await pipeline.call("ECHO", "mine")
        except StoreUnavailableError:
            continue
    assert answer == b"mine"
    await pipeline.close()
    server.stop()


async def test_call_that_lost_its_caller_is_never_sent(embedded_server: EmbeddedServer) -> None:
    """What waited past its deadline was reported as failed; sending it later would surprise everybody."""
    empty(embedded_server.socket_path)
    pipeline = Pipeline(connection_to(embedded_server.url))
    given_up = asyncio.ensure_future(pipeline.call("SET", "ghost", "1"))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    assert await pipeline.call("EXISTS", "ghost") == 0
    await pipeline.close()


async def test_closed_pipeline_refuses_and_fails_what_waits(embedded_server: EmbeddedServer) -> None:
    """Draining ends every call, none hangs."""
    pipeline = Pipeline(connection_to(embedded_server.url))
    waiting = [asyncio.ensure_future(pipeline.call("ECHO", str(number))) for number in range(5)]
    await asyncio.sleep(0)
    await pipeline.close()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, StoreUnavailableError) for outcome in outcomes)
    with pytest.raises(StoreUnavailableError, match="closed"):
        await pipeline.call("PING")


async def test_rounds_apart_bring_several_calls_each(embedded_server: EmbeddedServer) -> None:
    """Vehicles come one by one; where rounds begin apart, they share a round trip and a sync all the same."""
    pipeline = Pipeline(connection_to(embedded_server.url), apart_s=0.3)
    before = await stat(pipeline, "total_reads_processed")
    calls = []
    for number in range(8):
        calls.append(asyncio.ensure_future(pipeline.call("ECHO", str(number))))
        await asyncio.sleep(0.002)
    assert await asyncio.gather(*calls) == [str(number).encode() for number in range(8)]
    # One brought them all, and one asks now.
    assert await stat(pipeline, "total_reads_processed") == before + 2
    await pipeline.close()


async def test_round_after_a_pause_goes_at_once(embedded_server: EmbeddedServer) -> None:
    """A lone caller must not wait for company."""
    pipeline = Pipeline(connection_to(embedded_server.url), apart_s=30.0)
    assert await asyncio.wait_for(pipeline.call("ECHO", "alone"), timeout=10.0) == b"alone"
    await pipeline.close()
