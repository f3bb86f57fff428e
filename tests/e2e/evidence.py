"""What must be true after anything was killed: by counters, by recount, by ledger, and by the vehicles themselves.

Owns the comparison. The ledger is replayed entry by entry, so that a limit broken for a moment in the middle shows as
well. Asked while the fleet stands still.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from orchestrator.engine.gates import AGED_MIN
from orchestrator.ledger.entry import position
from orchestrator.model.attempt import TERMINAL_STATES, AttemptState
from orchestrator.model.ids import RolloutId
from orchestrator.model.tally import CellTallies, Tally, total
from orchestrator.store.redis import RedisStore
from orchestrator.store.redis.address import Node, read_address
from orchestrator.store.redis.keys import key, rollout_tag
from orchestrator.store.redis.pipeline import Pipeline
from orchestrator.store.redis.replies import ElsewhereError
from tests.e2e.load import SMALL, Load
from tests.e2e.rolling import Road
from tests.processes import Installation, eventually

MINUTE_MS = 60_000


@dataclass(frozen=True)
class Happened:
    """One entry of the ledger about one rollout."""

    place: tuple[int, int]
    kind: str
    at: int
    data: Mapping[str, Any]

    @property
    def attempt_id(self) -> str:
        return str(self.data.get("attempt_id", ""))

    @property
    def to(self) -> AttemptState:
        """The state that an attempt is in from here on."""
        return AttemptState(self.data["to"]) if self.kind != "attempt_granted" else AttemptState.OFFERED


def happened(installation: Installation, rollout_id: str) -> Sequence[Happened]:
    """What the ledger has of a rollout, in the order in which the store wrote it."""
    connection = sqlite3.connect(f"file:{installation.data / 'ledger.sqlite3'}?mode=ro", uri=True)
    try:
        rows = connection.execute("SELECT entry_id, kind, at, data FROM entries WHERE rollout_id = ?", (rollout_id,))
        found = [Happened(position(entry_id), kind, at, json.loads(data)) for entry_id, kind, at, data in rows]
    finally:
        connection.close()
    return sorted(found, key=lambda entry: entry.place)


def attempts_only(entries: Sequence[Happened]) -> Sequence[Happened]:
    """Those that put an attempt into a state."""
    kinds = {"attempt_granted", "attempt_changed", "attempt_corrected"}
    return [entry for entry in entries if entry.kind in kinds]


def counted(installation: Installation, rollout_id: str) -> tuple[CellTallies, CellTallies]:
    """The store's counters, and the same counted anew from the attempts' records."""

    async def ask() -> tuple[CellTallies, CellTallies]:
        store = await open_store(installation)
        try:
            wanted = [RolloutId(rollout_id)]
            return (await store.tallies(wanted))[wanted[0]], (await store.recount(wanted))[wanted[0]]
        finally:
            await store.close()

    return asyncio.run(ask())


async def open_store(installation: Installation) -> RedisStore:
    """The store of the last run, wherever it is."""
    orders = json.loads((installation.data / "run" / "orders.json").read_text())
    return await RedisStore.connect(orders["store_url"], replicas_min=orders["settings"]["store_replicas_min"])


def store_socket(installation: Installation) -> str:
    """Where the embedded store listens."""
    return str(json.loads((installation.data / "store" / "store.json").read_text())["socket"])


def permits_given(installation: Installation, rollout_id: str) -> int:
    """Permits by the rollout's own keys, where they are given: those of live attempts, and the number of the others."""
    tag = rollout_tag(RolloutId(rollout_id))
    with redis.Redis(unix_socket_path=store_socket(installation)) as client, client.pipeline() as both:
        both.hlen(key(tag, "permits"))
        both.hget(key(tag, "spent"), "*")
        live, over = both.execute()
    return int(live) + int(over or 0)


def slots_held(installation: Installation, rollout_id: str) -> int:
    """In-flight slots by the rollout's own keys, where they are taken."""
    return asyncio.run(_length(installation, rollout_id, "slots"))


async def _length(installation: Installation, rollout_id: str, name: str) -> int:
    """Members of one of the rollout's hashes."""
    orders = json.loads((installation.data / "run" / "orders.json").read_text())
    where = read_address(orders["store_url"])
    wanted = key(rollout_tag(RolloutId(rollout_id)), name)
    for node in where.seeds or (None,):
        pipeline = Pipeline(where.connection(node))
        try:
            return int(await pipeline.call("HLEN", wanted))
        except ElsewhereError as elsewhere:
            found = Pipeline(where.connection(Node(elsewhere.host, elsewhere.port)))
            try:
                return int(await found.call("HLEN", wanted))
            finally:
                await found.close()
        finally:
            await pipeline.close()
    raise AssertionError("unreachable")


def check_counters(road: Road, rollout_id: str) -> Tally:
    """Counters equal a recount and what the ledger replays; its chain is whole; no slot is lost. Their sum."""
    installation = road.installation

    def recounted() -> Tally:
        counters, recount = counted(installation, rollout_id)
        assert counters == recount
        return total(counters.values())

    def counters_agree() -> Tally:
        # Asked anew with the ledger, into which the journal is carried once a tick: what nobody drives still times out.
        tally = recounted()
        told = installation.must("ledger", "outcomes", rollout_id)
        states = {state.value: tally.state(state) for state in AttemptState if tally.state(state)}
        assert told["states"] == states, f"the ledger has {told['states']}, the counters {states}"
        assert told["permitted"] == tally.exposed, f"the ledger has {told['permitted']}, the counters {tally.exposed}"
        return tally

    recounted()  # at once: they are written together, and need no time to agree
    tally = eventually(counters_agree, what="the ledger has caught up")
    assert installation.must("ledger", "verify")["ok"]
    eventually(lambda: slots_held(installation, rollout_id) == tally.in_flight, what="every slot is returned")
    return tally


def permits_received(road: Road, rollout_id: str) -> set[str]:
    """Permits by the vehicles' own records."""
    mine = f"{rollout_id}."
    return {permit for each in road.vehicles().values() for permit in each["permits"] if permit.startswith(mine)}


def check_history(installation: Installation, rollout_id: str, load: Load = SMALL) -> None:
    """No limit was broken and no vehicle had two live attempts at any moment that the ledger knows of."""
    entries = happened(installation, rollout_id)
    check_one_live_attempt(entries)
    check_in_flight(entries, load)
    check_starts(entries, load)
    check_blast_budget(entries, load)


def check_never_stopped(installation: Installation, rollout_id: str) -> None:
    """The gate took nothing that was killed here for a fault of the release."""
    stops = [entry for entry in happened(installation, rollout_id) if entry.kind in ("rollout_held", "rollout_halted")]
    assert stops == []


def check_one_live_attempt(entries: Sequence[Happened]) -> None:
    """A vehicle that is granted an attempt has no other one that lives."""
    live: dict[str, str] = {}
    for entry in attempts_only(entries):
        vehicle_id = entry.data["vehicle_id"]
        if entry.kind == "attempt_granted":
            assert vehicle_id not in live, f"{entry.attempt_id} was granted while {live[vehicle_id]} lived"
            live[vehicle_id] = entry.attempt_id
        elif entry.to in TERMINAL_STATES and live.get(vehicle_id) == entry.attempt_id:
            del live[vehicle_id]


def check_in_flight(entries: Sequence[Happened], load: Load) -> None:
    """Attempts that hold a slot stay within the limits, by region and in all."""
    holders: defaultdict[str, set[str]] = defaultdict(set)
    for entry in attempts_only(entries):
        region = entry.data["region"]
        if entry.to in TERMINAL_STATES:
            holders[region].discard(entry.attempt_id)
        else:
            holders[region].add(entry.attempt_id)
        assert len(holders[region]) <= load.in_flight[region], f"{region} at {entry.place}"
        assert sum(map(len, holders.values())) <= load.in_flight_in_all, f"in all at {entry.place}"


def check_starts(entries: Sequence[Happened], load: Load) -> None:
    """Permits stay within the plan's starts a minute of fleet time."""
    given = sorted(entry.at for entry in attempts_only(entries) if entry.to is AttemptState.PERMITTED)
    for index, at in enumerate(given):
        within = sum(at - MINUTE_MS < other <= at for other in given[: index + 1])
        assert within <= load.starts_per_minute, f"{within} permits in the minute before {at}"


def check_blast_budget(entries: Sequence[Happened], load: Load) -> None:
    """While nothing is known yet every exposure counts as harmed: no more may be young than the budget allows."""
    seen: Counter[str] = Counter()
    for entry in entries:
        if entry.kind == "exposure_aged":
            seen["aged"] += 1
        elif entry.kind == "attempt_changed" and entry.to is AttemptState.PERMITTED:
            seen["exposed"] += 1
            if seen["aged"] < AGED_MIN:
                assert seen["exposed"] - seen["aged"] <= load.blast_budget, f"young exposures at {entry.place}: {seen}"
