"""A vehicle's whole history and a rollout's whole story: one query each, by an index, in order, on either database."""

from __future__ import annotations

from orchestrator.ledger import EntryFilter, Ledger
from orchestrator.ledger.chain import CHAINED
from orchestrator.ledger.reader import query_of
from tests.ledger.entries import a_change, a_decision
from tests.ledger.places import Place
from tests.ledger.reading import rollout_story, vehicle_history

VEHICLES = 200


async def fill(ledger: Ledger) -> None:
    """What some hundred vehicles did in two rollouts, and few decisions among it: enough for a planner to care."""
    spring = [a_change(number, f"v{number % VEHICLES}", "downloading") for number in range(1, 8 * VEHICLES)]
    autumn = [a_change(number, f"a{number % VEHICLES}", "failed", "autumn") for number in range(50_000, 62_000)]
    await ledger.append([a_decision(1, "autumn"), *autumn, a_decision(1), *spring, a_decision(2)])


async def test_no_story_reads_or_sorts_the_whole_ledger(ledger: Ledger, place: Place) -> None:
    """A ledger of years has hundreds of millions of rows, and a person waits for the answer."""
    await fill(ledger)
    of_vehicle = EntryFilter(rollout_id="spring", vehicle_id="v1", attempt_id="spring.v1.1")
    for wanted, index in (
        (EntryFilter(rollout_id="spring", decisions_only=True), "decisions_by_rollout"),
        (EntryFilter(rollout_id="spring"), "entries_by_rollout"),
        (EntryFilter(vehicle_id="v1"), "entries_by_vehicle"),
        (of_vehicle, "entries_by_vehicle"),
    ):
        condition, order, values = wanted.condition(0)
        exported = f"{CHAINED} WHERE {condition} ORDER BY {order}", values
        for query in (query_of(wanted, after=7, count=10), exported):
            plan = place.explain(*query)
            assert index in plan, plan
            # The few rows of one vehicle may be sorted; PostgreSQL likes to gather them first.
            assert wanted.vehicle_id or ("Sort" not in plan and "TEMP B-TREE" not in plan), plan
            assert "Seq Scan" not in plan, plan
            assert "SCAN entries" not in plan, plan


async def test_a_story_is_whole_and_in_order(ledger: Ledger, place: Place) -> None:
    """What is missing from a story is what somebody will ask about."""
    await fill(ledger)
    history = await vehicle_history(place.where, "v7")
    assert [item.entry.entry_id for item in history] == [a_change(n, "v7", "").entry_id for n in range(7, 1600, 200)]
    assert [item.entry.kind for item in await rollout_story(place.where, "autumn")] == ["rollout_held"]
