"""What a ledger promises on either database: each entry once, whatever happens, and every change to one is found."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import psycopg
import pytest

from orchestrator.ledger import Ledger, LedgerBrokenError, LedgerEntryError
from tests.ledger.entries import a_change, an_entry
from tests.ledger.places import Place
from tests.ledger.reading import rollout_story, vehicle_history


async def test_entries_are_written_in_order_with_the_mark(ledger: Ledger):
    """The feed goes on from the mark: it must move with the entries, and come from the highest of each stream."""
    written = await ledger.append(
        [an_entry(1), an_entry(2), an_entry(1, stream="rollout/spring", kind="rollout_created")]
    )
    assert written == {"attempt_changed": 2, "rollout_created": 1}
    assert await ledger.mark("shard/0") == "1700000000000-2"
    assert await ledger.marks() == {"shard/0": "1700000000000-2", "rollout/spring": "1700000000000-1"}
    assert await ledger.mark("shard/1") == ""
    report = await ledger.verify()
    assert (report.ok, report.entries, report.reason) == (True, 3, "")


async def test_positions_compare_as_numbers(ledger: Ledger):
    """As text, ...-9 would come after ...-10 and the feed would start over from there."""
    await ledger.append([an_entry(9), an_entry(10)])
    assert await ledger.mark("shard/0") == "1700000000000-10"


async def test_a_repeated_feed_changes_nothing(ledger: Ledger):
    """After a doubtful answer the feed sends the batch again, with what has come since."""
    await ledger.append([an_entry(1), an_entry(2)])
    before = await ledger.verify()
    assert await ledger.append([an_entry(1), an_entry(2)]) == {}
    assert await ledger.verify() == before
    assert await ledger.append([an_entry(2), an_entry(3), an_entry(3)]) == {"attempt_changed": 1}
    assert (await ledger.verify()).entries == 3


async def test_an_entry_that_comes_late_is_not_lost(ledger: Ledger):
    """A position below the mark that is not there yet is written, and the mark stays where it is."""
    await ledger.append([an_entry(5)])
    assert await ledger.append([an_entry(3)]) == {"attempt_changed": 1}
    assert await ledger.mark("shard/0") == "1700000000000-5"


async def test_another_entry_in_a_taken_place_is_refused(ledger: Ledger):
    """A store that was set back to an old copy writes new entries at old positions: history must not be guessed."""
    await ledger.append([an_entry(1), an_entry(2)])
    with pytest.raises(LedgerBrokenError, match="set back to an earlier state"):
        await ledger.append([an_entry(3), an_entry(2, kind="attempt_corrected")])
    assert (await ledger.verify()).entries == 2


async def test_two_writers_write_each_entry_once(ledger: Ledger, place: Place):
    """A second evaluator, on this machine or left over from a restart, is harmless."""
    other = Ledger(place.where)
    entries = [an_entry(number) for number in range(1, 201)]
    batches = [entries[start : start + 20] for start in range(0, 200, 20)]

    async def feed(target: Ledger) -> int:
        return sum([(await target.append(batch)).get("attempt_changed", 0) for batch in batches])

    written = await asyncio.gather(feed(ledger), feed(other))
    assert sum(written) == 200
    report = await other.verify()
    assert (report.ok, report.entries) == (True, 200)
    await other.close()


async def test_a_batch_with_a_bad_entry_is_refused_as_a_whole(ledger: Ledger):
    """Half a batch with a mark behind it would be a hole nobody finds."""
    for bad in (
        an_entry(2, entry_id=""),
        an_entry(2, entry_id="17-x"),
        an_entry(2, kind=""),
        an_entry(2, data={"ratio": float("nan")}),
        an_entry(2, data={"raw": b"bytes"}),
        an_entry(2, data={"rollout_id": 7}),
    ):
        with pytest.raises(LedgerEntryError):
            await ledger.append([an_entry(1), bad])
    assert await ledger.marks() == {}
    assert (await ledger.verify()).entries == 0


async def test_appending_nothing_is_nothing(ledger: Ledger):
    """The feed asks often; most of the time nothing has happened."""
    assert await ledger.append([]) == {}


@pytest.mark.parametrize(
    ("statement", "broken", "told"),
    [
        ("UPDATE entries SET data = replace(data, 'failed', 'succeeded') WHERE seq = 3", 3, "row 3 (shard/0 17"),
        ("UPDATE entries SET blob = hash WHERE seq = 2", 2, "was changed after it was written"),
        ("UPDATE entries SET at = at + 1 WHERE seq = 1", 1, "was changed after it was written"),
        ("UPDATE entries SET vehicle_id = 'v9' WHERE seq = 4", 4, "was changed after it was written"),
        ("UPDATE entries SET hash = blob WHERE seq = 2", 2, "was changed after it was written"),
        ("UPDATE entries SET prev_hash = blob WHERE seq = 2", 2, "does not follow the row before"),
        ("DELETE FROM entries WHERE seq = 3", 3, "row 3 is missing, row 4 follows"),
        ("DELETE FROM entries WHERE seq = 5", 5, "the chain ends at 4, the last append ended at 5"),
        ("UPDATE meta SET value = 'x' WHERE name = 'head_seq'", 0, "the last append ended at -1"),
    ],
)
async def test_tampering_is_found_at_the_first_row_it_touched(place: Place, statement: str, broken: int, told: str):
    """Evidence that can be rewritten unseen is none."""
    ledger = Ledger(place.where)
    await ledger.append([a_change(number, "v1", "failed") for number in range(1, 6)])
    place.tampered(statement)
    report = await ledger.verify()
    assert not report.ok
    assert report.broken_seq == broken
    assert told in report.reason
    await ledger.close()


async def test_a_ledger_whose_end_was_removed_takes_nothing_more(place: Place):
    """Going on after a cut would hide it: the chain would look whole again."""
    ledger = Ledger(place.where)
    await ledger.append([an_entry(1), an_entry(2)])
    place.tampered("DELETE FROM entries WHERE seq = 2")
    with pytest.raises(LedgerBrokenError, match=r"its end \(1\) is not the one that was written \(2\)"):
        await ledger.append([an_entry(3)])
    await ledger.close()


async def test_a_rewritten_chain_has_another_head(ledger: Ledger, tmp_path: Path):
    """Whoever recomputes every hash cannot keep the head that was noted elsewhere; on any database it is the same."""
    heads = []
    for name, to in (("a", "failed"), ("b", "succeeded")):
        other = Ledger(tmp_path / name)
        await other.append([a_change(1, "v1", to), a_change(2, "v2", "failed")])
        heads.append((await other.verify()).head_hash)
        await other.close()
    assert heads[0] != heads[1]
    await ledger.append([a_change(1, "v1", "failed"), a_change(2, "v2", "failed")])
    assert (await ledger.verify()).head_hash == heads[0]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET kind = 'x'",
        "DELETE FROM entries",
        "DELETE FROM marks",
        "INSERT INTO entries SELECT seq + 7, stream, 'x', kind, at, '', '', '', data, blob, hash, hash FROM entries",
    ],
)
async def test_the_database_itself_refuses_changes(ledger: Ledger, place: Place, statement: str):
    """An administrator's slip in the SQL shell must not break the chain."""
    await ledger.append([an_entry(1)])
    with pytest.raises((sqlite3.IntegrityError, psycopg.errors.RaiseException), match="append-only"):
        place.as_owner(statement)
    assert (await ledger.verify()).ok


async def test_outcomes_are_the_latest_state_of_each_attempt(ledger: Ledger):
    """What the ledger replays must equal what the store counts, corrections and late entries included."""
    await ledger.append(
        [
            a_change(1, "v1", "", kind="attempt_granted"),
            a_change(2, "v2", "", kind="attempt_granted"),
            a_change(3, "v3", "", kind="attempt_granted"),
            a_change(4, "v1", "permitted"),
            a_change(10, "v1", "timed_out"),
            a_change(9, "v1", "installing"),
            a_change(11, "v2", "failed"),
            a_change(12, "v2", "rolled_back", kind="attempt_corrected"),
            a_change(13, "v3", "ignored", kind="event_ignored"),
            an_entry(
                14, data={"rollout_id": "autumn", "vehicle_id": "v1", "attempt_id": "autumn.v1.1", "to": "failed"}
            ),
        ]
    )
    assert await ledger.attempt_states("spring") == {
        "spring.v1.1": "timed_out",
        "spring.v2.1": "rolled_back",
        "spring.v3.1": "offered",
    }
    assert await ledger.outcomes("spring") == {"timed_out": 1, "rolled_back": 1, "offered": 1}
    assert await ledger.outcomes("winter") == {}


async def test_a_rollouts_story_leaves_single_vehicles_out(ledger: Ledger, place: Place):
    """Who asks why a rollout stopped wants its twenty decisions, not a million attempts."""
    told = {"rollout_id": "spring", "actor": "alice", "reason": "go", "numbers": [1, 2.5, None, True, {"a": "ü"}]}
    story = [
        an_entry(1, stream="rollout/spring", kind="rollout_created", data=told),
        an_entry(2, stream="rollout/spring", kind="rollout_changed", data={"rollout_id": "spring", "actor": "gate"}),
    ]
    other = an_entry(1, stream="rollout/autumn", kind="rollout_created", data={"rollout_id": "autumn"})
    await ledger.append([story[0], an_entry(1), other, story[1]])
    assert [recorded.entry for recorded in await rollout_story(place.where, "spring")] == story


async def test_a_vehicles_history_has_its_manifests(ledger: Ledger, place: Place):
    """A manifest is evidence: it comes back byte for byte."""
    manifest = an_entry(2, kind="manifest_accepted", data={"vehicle_id": "v1"}, blob=bytes(range(256)))
    await ledger.append([an_entry(1), a_change(3, "v2", "failed"), manifest])
    assert [recorded.entry for recorded in await vehicle_history(place.where, "v1")] == [an_entry(1), manifest]
    assert [recorded.seq for recorded in await vehicle_history(place.where, "v1")] == [1, 3]


async def test_a_ledger_belongs_to_one_data_set(ledger: Ledger):
    """Feeding a second store into it would mix two histories."""
    assert await ledger.dataset_id() == ""
    await ledger.set_dataset_id("one")
    await ledger.set_dataset_id("one")
    with pytest.raises(LedgerBrokenError, match="belongs to data set one, not to two"):
        await ledger.set_dataset_id("two")
    assert await ledger.dataset_id() == "one"


async def test_everything_is_there_after_reopening(place: Place):
    """The ledger is what remains when all else is gone."""
    first = Ledger(place.where)
    await first.append([an_entry(1), an_entry(2)])
    head = await first.verify()
    await first.close()
    second = Ledger(place.where)
    assert await second.verify() == head
    assert await second.append([an_entry(2), an_entry(3)]) == {"attempt_changed": 1}
    await second.close()
