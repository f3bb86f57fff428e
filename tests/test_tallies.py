"""What is counted in a batch is what would have been counted at once."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from orchestrator import tallies
from orchestrator.tallies import Batch
from orchestrator.telemetry import LATENCY_S, Metrics


def count(metrics: Metrics) -> None:
    for seconds in (0.0, *LATENCY_S, 0.0007, 0.3, 99.0):
        metrics.grpc_handling.labels(service="s", method="m").observe(seconds)
        metrics.grpc_handled.labels(service="s", method="m", code="OK").inc()
    metrics.events.labels(outcome="acknowledged").inc(7)
    metrics.events.labels(outcome="ignored").inc(0)


def shown(metrics: Metrics) -> set[str]:
    text = generate_latest(metrics.registry).decode()
    return {line for line in text.splitlines() if "_created" not in line and not line.startswith("#")}


async def test_a_batch_adds_up_to_what_was_counted() -> None:
    """Buckets, sums and counts, twice: a second batch begins at nothing."""
    batch = Batch()
    batched, at_once = Metrics(CollectorRegistry(), batch), Metrics(CollectorRegistry())
    for _ in range(2):
        count(batched)
        count(at_once)
        batch.write()
        assert shown(batched) == shown(at_once)


async def test_what_was_counted_is_written_by_itself_soon_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to remember it; and it is not there before, or nothing was gained."""
    monkeypatch.setattr(tallies, "WRITE_AFTER_S", 0.0)
    batched = Metrics(CollectorRegistry(), Batch())
    batched.checkins.labels(outcome="nothing").inc()
    line = 'outrider_checkins_total{outcome="nothing"}'
    assert f"{line} 0.0" in shown(batched)
    await asyncio.sleep(0.01)
    assert f"{line} 1.0" in shown(batched)
