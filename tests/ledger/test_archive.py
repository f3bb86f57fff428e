"""Archiving: old entries leave for a file that proves itself, nothing leaves unsaid, and each event stays once."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.ledger import (
    Archived,
    Archiving,
    EntryFilter,
    Ledger,
    LedgerBrokenError,
    NothingToArchiveError,
    archive_ledger,
    export_ledger,
    verify_exports,
)
from orchestrator.ledger import archive as archiving
from orchestrator.ledger.copying import copy_ledger
from tests.ledger.entries import a_change, an_entry
from tests.ledger.places import Place
from tests.ledger.reading import rollout_story, vehicle_history
from tests.ledger.test_heads import Key, seal

KEY = Key()
AT = 1_700_000_000_000


def move(place: Place, path: Path, before: int) -> Archived:
    """Archive the entries before number `before`, as `entries` numbers them."""
    return archive_ledger(place.where, path, Archiving(AT + before, "ada", "kept with the year"), KEY)


@pytest.fixture
async def fed(ledger: Ledger) -> Ledger:
    """Nine changes of one vehicle, bound to a data set."""
    await ledger.set_dataset_id("one")
    await ledger.append([a_change(number, "v1", "failed") for number in range(1, 10)])
    return ledger


async def test_what_is_archived_is_in_the_file_and_a_signed_entry_says_so(
    fed: Ledger, place: Place, tmp_path: Path
) -> None:
    """Evidence moves; it does not vanish."""
    whole = await fed.verify()
    archived = move(place, tmp_path / "old.jsonl.gz", before=6)
    assert (archived.note.first, archived.note.last, archived.note.actor) == (1, 5, "ada")
    report = await fed.verify(keys=[KEY.public])
    assert (report.ok, report.archived, report.entries) == (True, 5, 5)
    joined = await fed.verify(keys=[KEY.public], archives=[archived.path])
    assert (joined.ok, joined.archived, joined.entries) == (True, 0, 10)
    alone = verify_exports([archived.path], keys=[KEY.public])
    assert (alone.ok, alone.entries, alone.head_hash) == (True, 5, archived.note.hash)
    story = [recorded.entry.kind for recorded in await vehicle_history(place.where, "v1")]
    assert len(story) == 4, "the ledger itself has the younger ones only"
    assert whole.head_hash != report.head_hash, "the note is an entry like any other"


async def test_an_event_that_was_archived_is_not_written_again(fed: Ledger, place: Place, tmp_path: Path) -> None:
    """A store that was set back offers its journal anew; once stays once."""
    move(place, tmp_path / "old.jsonl", before=6)
    again = [a_change(number, "v1", "failed") for number in range(1, 12)]
    assert await fed.append(again) == {"attempt_changed": 2}
    assert (await fed.verify()).ok


async def test_archives_follow_each_other_and_every_one_is_needed(fed: Ledger, place: Place, tmp_path: Path) -> None:
    """Year after year: the files and the ledger are one chain again."""
    first = move(place, tmp_path / "1.jsonl", before=4).path
    await fed.append([a_change(number, "v1", "failed") for number in range(10, 13)])
    second = move(place, tmp_path / "2.jsonl.gz", before=9).path
    assert (await fed.verify(keys=[KEY.public], archives=[second, first])).entries == 14
    assert (await fed.verify(keys=[KEY.public], archives=[second])).archived == 3
    with pytest.raises(LedgerBrokenError, match="give what is between"):
        verify_exports([first, first])
    third = move(place, tmp_path / "3.jsonl", before=12).path
    with pytest.raises(LedgerBrokenError, match="give what is between"):
        await fed.verify(archives=[first, third])


async def test_the_story_of_a_rollout_that_is_not_over_stays_whole(
    ledger: Ledger, place: Place, tmp_path: Path
) -> None:
    """A decision of today is replayed from what was recorded when it began."""
    rollout = {"rollout_id": "spring"}
    started = an_entry(2, stream="rollout/spring", kind="rollout_created", data=rollout)
    await ledger.append([a_change(1, "v1", "failed", "winter"), started, a_change(3, "v1", "failed")])
    assert move(place, tmp_path / "1.jsonl", before=9).held_by == "spring"
    assert len(await rollout_story(place.where, "spring")) == 1
    with pytest.raises(NothingToArchiveError, match="rollout spring is not over"):
        move(place, tmp_path / "2.jsonl", before=9)
    await ledger.append([an_entry(4, stream="rollout/spring", kind="rollout_completed", data=rollout)])
    assert move(place, tmp_path / "2.jsonl", before=9).held_by == ""


async def test_nothing_old_enough_is_told(fed: Ledger, place: Place, tmp_path: Path) -> None:
    """A date typed wrong moves nothing."""
    with pytest.raises(NothingToArchiveError, match="no entry is that old"):
        move(place, tmp_path / "old.jsonl", before=1)
    with pytest.raises(LedgerBrokenError):
        verify_exports([tmp_path / "old.jsonl"])
    assert (await fed.verify()).entries == 9


@pytest.mark.parametrize("step", ["Proving", "Removing"])
async def test_a_crash_at_any_step_loses_nothing_and_the_next_call_finishes(
    fed: Ledger, place: Place, tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine dies with the file written, or with half of the rows gone."""

    class PowerLostError(Exception):
        pass

    def dies(told: str, done: int, of: int) -> None:
        if told == step:
            raise PowerLostError

    monkeypatch.setattr(archiving, "REMOVED_AT_ONCE", 2)
    monkeypatch.setattr("orchestrator.ledger.verify.PROGRESS_ROWS", 2)
    asked = Archiving(AT + 6, "ada", "kept")
    with pytest.raises(PowerLostError):
        archive_ledger(place.where, tmp_path / "1.jsonl", asked, KEY, progress=dies)
    assert (await fed.verify(keys=[KEY.public])).ok
    assert (await fed.verify(keys=[KEY.public], archives=[tmp_path / "1.jsonl"])).ok
    later = move(place, tmp_path / "2.jsonl", before=8)
    files = [path for path in (tmp_path / "1.jsonl", tmp_path / "2.jsonl") if step == "Removing" or path.name[0] == "2"]
    report = await fed.verify(keys=[KEY.public], archives=files)
    assert (report.ok, report.archived, later.note.last) == (True, 0, 7)


async def test_a_beginning_that_somebody_took_away_is_found(fed: Ledger, place: Place, tmp_path: Path) -> None:
    """Who can write the database can note that something was archived, but nobody signed it."""
    export_ledger(place.where, tmp_path / "all.jsonl", EntryFilter())
    third = json.loads((tmp_path / "all.jsonl").read_text().splitlines()[3])["hash"]
    place.tampered("DELETE FROM entries WHERE seq <= 3")
    report = await fed.verify(keys=[KEY.public])
    assert "row 1 is missing" in report.reason
    place.as_owner(
        "INSERT INTO meta (name, value) VALUES ('archived_seq', '3')",
        f"INSERT INTO meta (name, value) VALUES ('archived_hash', '{third}')",
    )
    report = await fed.verify(keys=[KEY.public])
    assert not report.ok
    assert "no signed entry says that they were archived" in report.reason


async def test_a_note_by_another_key_is_found(fed: Ledger, place: Place, tmp_path: Path) -> None:
    """A thief archives with a key of his own, and throws the file away."""
    archive_ledger(place.where, tmp_path / "1.jsonl", Archiving(AT + 4, "eve", "no reason"), Key())
    report = await fed.verify(keys=[KEY.public])
    assert not report.ok
    assert "was not signed by a key of this ledger" in report.reason


async def test_a_head_kept_elsewhere_is_found_in_the_archive(fed: Ledger, place: Place, tmp_path: Path) -> None:
    """What pins the first years goes on pinning them."""
    kept = await seal(fed, KEY)
    await fed.append([a_change(30_010, "v1", "failed")])
    file = move(place, tmp_path / "1.jsonl", before=9).path
    missing = await fed.verify(keys=[KEY.public], kept=kept)
    assert missing.ok, "it names an entry that is still here"
    young = archive_ledger(place.where, tmp_path / "2.jsonl", Archiving(AT * 10, "ada", "all"), KEY).path
    missing = await fed.verify(keys=[KEY.public], kept=kept)
    assert "give the archive as well" in missing.reason
    assert (await fed.verify(keys=[KEY.public], kept=kept, archives=[file, young])).ok
    assert await fed.seal(day=kept.head.day, at=AT, signer=KEY) is None, "that day has its head, in the archive"


async def test_a_backup_of_an_archived_ledger_begins_where_it_does(fed: Ledger, place: Place, tmp_path: Path) -> None:
    """A copy has the same beginning, and takes what follows."""
    move(place, tmp_path / "1.jsonl", before=6)
    copy_ledger(place.where, tmp_path / "copy.sqlite3")
    copy = Ledger(tmp_path / "copy.sqlite3")
    assert await copy.verify(keys=[KEY.public]) == await fed.verify(keys=[KEY.public])
    assert await copy.append([a_change(5, "v1", "failed"), an_entry(10)]) == {"attempt_changed": 1}
    await copy.close()


async def test_a_chain_that_does_not_hold_is_not_archived(fed: Ledger, place: Place, tmp_path: Path) -> None:
    """Or an archive would be where tampering is laundered."""
    place.tampered("UPDATE entries SET data = replace(data, 'failed', 'succeeded') WHERE seq = 3")
    with pytest.raises(LedgerBrokenError, match="entry 3 is not what was written"):
        move(place, tmp_path / "1.jsonl", before=6)
    assert (await fed.verify()).archived == 0


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda lines: lines[:-1], "cut short after 5 entries"),
        (lambda lines: lines[:5] + lines[6:], "cut short after 4 entries"),
        (lambda lines: [*lines, lines[-1]], "follows its last line"),
        (lambda lines: [*lines[:2], b"{not JSON\n", *lines[3:]], "no whole export"),
        (lambda lines: lines[1:], "first line lacks"),
        (lambda lines: [*lines[:2], b'{"seq": 2}\n', *lines[3:]], "line 3 is no entry"),
    ],
)
async def test_a_file_that_is_not_whole_is_refused(
    fed: Ledger, place: Place, tmp_path: Path, harm: Callable[[list[bytes]], list[bytes]], told: str
) -> None:
    """Years later, on another disk."""
    path = move(place, tmp_path / "1.jsonl.gz", before=6).path
    path.write_bytes(gzip.compress(b"".join(harm(gzip.decompress(path.read_bytes()).splitlines(keepends=True)))))
    with pytest.raises(LedgerBrokenError, match=told):
        verify_exports([path])


async def test_a_changed_line_is_found(fed: Ledger, place: Place, tmp_path: Path) -> None:
    """A file is easier to change than a database, and as useless to change."""
    path = move(place, tmp_path / "1.jsonl", before=6).path
    path.write_text(path.read_text().replace('"failed"', '"succeeded"', 1))
    assert verify_exports([path]).broken_seq == 1


async def test_an_export_is_read_by_anybody_and_removes_nothing(fed: Ledger, place: Place, tmp_path: Path) -> None:
    """Evidence for somebody else, with the bytes that were signed."""
    manifest = an_entry(20, kind="manifest", data={"vehicle_id": "v2"}, blob=b"\x00signed")
    await fed.append([manifest])
    assert export_ledger(place.where, tmp_path / "all.jsonl.gz", EntryFilter()) == 10
    assert verify_exports([tmp_path / "all.jsonl.gz"]).entries == 10
    assert export_ledger(place.where, tmp_path / "v2.jsonl", EntryFilter(vehicle_id="v2")) == 1
    assert [oct(os.stat(tmp_path / name).st_mode & 0o777) for name in ("all.jsonl.gz", "v2.jsonl")] == ["0o600"] * 2
    head, entry, end = (json.loads(line) for line in (tmp_path / "v2.jsonl").read_text().splitlines())
    assert (head["selection"], entry["blob"], end) == ({"vehicle_id": "v2"}, "AHNpZ25lZA==", {"entries": 1})
    with pytest.raises(LedgerBrokenError, match="has only chosen entries"):
        verify_exports([tmp_path / "v2.jsonl"])
    with pytest.raises(LedgerBrokenError, match="nothing is written over"):
        export_ledger(place.where, tmp_path / "v2.jsonl", EntryFilter())
    assert (await fed.verify()).entries == 10
