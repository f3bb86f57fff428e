"""What must be true after a hundred kills: the vehicles' own record against counters, records and ledger.

Owns the comparison over several rollouts. Leaves what holds within one of them to `tests.e2e.evidence`. Asked while
the fleet stands still.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import Sequence

from orchestrator.model.attempt import AttemptState
from orchestrator.model.ids import VehicleId
from orchestrator.store.redis import RedisStore
from tests.e2e.evidence import (
    Happened,
    attempts_only,
    check_counters,
    check_history,
    check_never_stopped,
    happened,
    permits_given,
    permits_received,
    store_socket,
)
from tests.e2e.rolling import Road
from tests.faults.chaos import Stop

LAST_GRANT_AFTER_STOP_MS = 1000
"""A reservation that was taken before the stop may be assigned so much later; its attempt is withdrawn."""


def check_everything(road: Road, rollouts: Sequence[str], stops: Sequence[Stop]) -> None:
    """No acknowledged event is lost, none counted twice, no cap exceeded, no grant after a stop beyond live permits."""
    check_acknowledged(road)
    for name in rollouts:
        entries = happened(road.installation, name)
        check_counters(road, name)
        check_history(road.installation, name, road.load)
        check_never_stopped(road.installation, name)
        check_never_doubted(name, entries)
        check_permits(road, name, entries)
    for stop in stops:
        check_stop(road, stop)
    check_fleet(road, rollouts[-1])


def check_acknowledged(road: Road) -> None:
    """What each vehicle was told is durable is what the store holds, and no number was ever skipped."""

    async def held() -> dict[str, tuple[str, int]]:
        store = await RedisStore.connect(store_socket(road.installation))
        try:
            records = {name: await store.vehicle(VehicleId(name)) for name in road.vehicles()}
        finally:
            await store.close()
        return {name: (found.outbox_id, found.acknowledged_number) for name, found in records.items() if found}

    told = {name: (each["outbox_id"], each["events_acknowledged"]) for name, each in road.vehicles().items()}
    assert asyncio.run(held()) == told
    assert all(each["events_told"] == each["events_acknowledged"] for each in road.vehicles().values())
    assert kinds(road)["events_gap"] == 0


def kinds(road: Road) -> Counter[str]:
    """How many entries of each kind the ledger has."""
    connection = sqlite3.connect(f"file:{road.installation.data / 'ledger.sqlite3'}?mode=ro", uri=True)
    try:
        return Counter(dict(connection.execute("SELECT kind, COUNT(*) FROM entries GROUP BY kind").fetchall()))
    finally:
        connection.close()


def check_never_doubted(name: str, entries: Sequence[Happened]) -> None:
    """No restart took the store for set back: everything that was acknowledged was there."""
    doubts = [entry for entry in entries if entry.kind == "rollout_paused"]
    assert doubts == [], f"{name}: {doubts}"


def check_permits(road: Road, name: str, entries: Sequence[Happened]) -> None:
    """Every permit that a vehicle holds was durable, and each install had one; every success is an install."""
    permitted = {e.attempt_id for e in attempts_only(entries) if e.to is AttemptState.PERMITTED}
    succeeded = [e.attempt_id for e in attempts_only(entries) if e.to is AttemptState.SUCCEEDED]
    installs = [each for vehicle in road.vehicles().values() for each in vehicle["installs"]]
    mine = [attempt for attempt in installs if attempt.startswith(f"{name}.")]
    received = permits_received(road, name)
    assert received <= permitted
    assert set(mine) <= received
    assert len(succeeded) == len(set(succeeded)), "counted twice"
    assert set(succeeded) <= set(mine)


def check_stop(road: Road, stop: Stop) -> None:
    """No permit was given after the stop, and nothing was granted but what was reserved before it."""
    assert permits_given(road.installation, stop.rollout_id) == stop.permits
    entries = happened(road.installation, stop.rollout_id)
    (stopped_at,) = (entry.place[0] for entry in entries if entry.kind == "rollout_aborted")
    late = [entry for entry in entries if entry.kind == "attempt_granted" and entry.place[0] > stopped_at]
    assert all(entry.place[0] <= stopped_at + LAST_GRANT_AFTER_STOP_MS for entry in late), late


def check_fleet(road: Road, name: str) -> None:
    """The last rollout reached everybody, and the store counts as many."""
    version = name.removeprefix("to-").replace("-", ".")
    assert Counter(each["release"] for each in road.vehicles().values()) == {version: road.load.size}
    outcomes = json.loads(json.dumps(road.installation.must("ledger", "outcomes", name)))
    assert outcomes["states"].get("succeeded") == road.load.size
    assert road.open_cases(name) == set()
