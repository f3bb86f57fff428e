"""What every store promises about the journal, the fleet clock, releases and revocation."""

from __future__ import annotations

import pytest

from orchestrator.model.ids import FleetTime, VehicleId
from orchestrator.store.base import BeyondMark, JournalEntry
from tests.builders import NOW, a_release, a_rollout, a_vehicle, after
from tests.contracts.steps import entry, next_epoch, running
from tests.store_fixtures import StoreBench


def a_note(number: int, blob: bytes = b"") -> JournalEntry:
    return JournalEntry(stream="", entry_id="", kind="noted", at=after(number), data={"number": number}, blob=blob)


async def test_journal_keeps_data_of_every_json_type(bench: StoreBench) -> None:
    """Decisions carry their inputs: numbers, nothing, lists and mappings, empty ones too."""
    data = {"n": 3, "p": 0.25, "big": 2**52, "no": None, "yes": True, "list": [1, "a", []], "map": {"x": {}}, "s": "é"}
    await bench.store.record(JournalEntry("", "", "noted", NOW, data, b"\x00\xff"))
    (found,) = await bench.store.journal("fleet", after="", count=9)
    assert (found.stream, found.kind, found.at, found.data, found.blob) == ("fleet", "noted", NOW, data, b"\x00\xff")


async def test_decision_inputs_survive_a_transition(bench: StoreBench) -> None:
    """A transition's entry is written by the same step as the rollout, with its data as they were."""
    rollout = await running(bench.store)
    decision = JournalEntry("", "", "rollout_changed", after(4), {"inputs": {"n": 20, "ratio": 0.5, "none": []}})
    assert await bench.store.transition(next_epoch(rollout), expected_epoch=1, decision=decision)
    found = (await bench.store.journal("rollout/spring", after="", count=9))[-1]
    assert (found.kind, found.at, found.data) == ("rollout_changed", after(4), decision.data)


async def test_journal_is_read_in_order_from_a_position(bench: StoreBench) -> None:
    """The ledger asks for what comes after its mark, some at a time."""
    for number in range(5):
        await bench.store.record(a_note(number))
    first = await bench.store.journal("fleet", after="", count=2)
    rest = await bench.store.journal("fleet", after=first[-1].entry_id, count=99)
    assert [one.data["number"] for one in [*first, *rest]] == [0, 1, 2, 3, 4]
    assert await bench.store.journal("fleet", after=rest[-1].entry_id, count=9) == []
    assert await bench.store.journal_mark("fleet") == rest[-1].entry_id


async def test_what_follows_a_mark_comes_with_whether_the_mark_still_stands(bench: StoreBench) -> None:
    """A journal that still begins where the ledger ended has lost nothing that the ledger saw."""

    async def beyond(stream: str, mark: str, count: int = 9) -> BeyondMark:
        return (await bench.store.journals_beyond({stream: mark}, count=count))[stream]

    assert await beyond("rollout/ghost", "") == BeyondMark(True, [])
    assert await beyond("rollout/ghost", "5-0") == BeyondMark(False, [])
    for number in range(4):
        await bench.store.record(a_note(number))
    found = await bench.store.journal("fleet", after="", count=9)
    assert await beyond("fleet", "", count=2) == BeyondMark(True, found[:2])
    assert await beyond("fleet", found[0].entry_id, count=2) == BeyondMark(True, found[1:3])
    await bench.store.trim_journal("fleet", upto=found[0].entry_id)
    assert await beyond("fleet", found[0].entry_id) == BeyondMark(False, found[1:])
    assert await beyond("fleet", found[3].entry_id) == BeyondMark(True, [])


async def test_many_journals_are_read_at_once_each_from_its_own_mark(bench: StoreBench) -> None:
    """A tick asks for all of them together; a mix-up would carry one stream's entries under another one's name."""
    await running(bench.store)
    await bench.store.import_vehicles([a_vehicle(f"v-{number}") for number in range(40)], now=NOW)
    for number in range(3):
        await bench.store.record(a_note(number))
    streams = await bench.store.journal_streams()
    whole = {stream: await bench.store.journal(stream, after="", count=9) for stream in streams}
    assert sum(map(bool, whole.values())) > 3
    marks = {stream: entries[0].entry_id if entries else "" for stream, entries in whole.items()}
    found = await bench.store.journals_beyond(marks, count=9)
    assert list(found) == list(streams)
    assert found == {stream: BeyondMark(True, entries[1:]) for stream, entries in whole.items()}


async def test_trimmed_journal_remembers_how_far_it_went(bench: StoreBench) -> None:
    """The mark proves after a restart that nothing is missing, also when every entry is in the ledger by now."""
    for number in range(3):
        await bench.store.record(a_note(number))
    found = await bench.store.journal("fleet", after="", count=9)
    await bench.store.trim_journal("fleet", upto=found[1].entry_id)
    assert await bench.store.journal("fleet", after="", count=9) == found[2:]
    await bench.store.trim_journal("fleet", upto=found[2].entry_id)
    assert await bench.store.journal("fleet", after="", count=9) == []
    assert await bench.store.journal_mark("fleet") == found[2].entry_id
    await bench.store.record(a_note(9))
    (last,) = await bench.store.journal("fleet", after=found[2].entry_id, count=9)
    assert last.data == {"number": 9}


async def test_untouched_stream_has_no_mark(bench: StoreBench) -> None:
    """Empty means never written to."""
    assert await bench.store.journal_mark("fleet") == ""
    assert await bench.store.journal_mark("rollout/ghost") == ""
    assert await bench.store.journal("rollout/ghost", after="", count=9) == []
    await bench.store.trim_journal("fleet", upto="5-0")


async def test_streams_are_every_shard_every_rollout_and_the_fleet(bench: StoreBench) -> None:
    """The ledger must not miss one."""
    await running(bench.store)
    await running(bench.store, a_rollout(rollout_id="autumn"))
    expected = [*(f"shard/{shard}" for shard in range(bench.store.shards)), "rollout/autumn", "rollout/spring", "fleet"]
    assert list(await bench.store.journal_streams()) == expected


@pytest.mark.parametrize("name", ["", "shard/x", "shard/", "rollout/", "fleets", "fleet/1"])
async def test_name_of_no_stream_is_an_error(bench: StoreBench, name: str) -> None:
    """A typo must not read an empty stream for ever."""
    with pytest.raises(ValueError, match="no stream"):
        await bench.store.journal(name, after="", count=1)


async def test_fleet_clock_is_made_once(bench: StoreBench) -> None:
    """It survives restarts and never goes back: later arguments do not move it."""
    first = await bench.store.clock(origin=NOW, scale=60.5)
    assert (first.origin, first.scale) == (NOW, 60.5)
    assert first.machine_ms >= first.started_ms
    second = await bench.store.clock(origin=FleetTime(5), scale=1.0)
    assert (second.origin, second.started_ms, second.scale) == (NOW, first.started_ms, 60.5)
    assert second.machine_ms >= first.machine_ms


async def test_releases_are_immutable(bench: StoreBench) -> None:
    """The first one of a version stands, and only that one is journalled."""
    first = a_release("1.1.0", notes="é", created_at=after(1))
    assert await bench.store.create_release(first, entry("release_created")) == first
    assert await bench.store.create_release(a_release("1.1.0", targets_version=9), entry("release_created")) == first
    newer = a_release("1.2.0", created_at=after(2))
    await bench.store.create_release(newer, entry("release_created"))
    assert list(await bench.store.releases()) == [newer, first]
    assert len(await bench.store.journal("fleet", after="", count=9)) == 2


async def test_revoked_vehicle_stays_revoked(bench: StoreBench) -> None:
    """Repeating it journals nothing new."""
    await bench.store.import_vehicles([a_vehicle()], now=NOW)
    for name in ("v-1", "v-1", "v-2"):
        await bench.store.revoke(VehicleId(name), entry("vehicle_revoked", vehicle_id=name))
    assert await bench.store.revoked() == {"v-1", "v-2"}
    found = await bench.store.journal("fleet", after="", count=9)
    assert [one.data["vehicle_id"] for one in found] == ["v-1", "v-2"]


async def test_dataset_has_an_id(bench: StoreBench) -> None:
    """The ledger belongs to one data set."""
    assert await bench.store.dataset_id()
    assert await bench.store.dataset_id() == await bench.store.dataset_id()
