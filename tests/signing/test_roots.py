"""Root metadata read back from a folder: the newest one, or words about what is wrong with it."""

from __future__ import annotations

import pytest

from signing.ceremony import DataFolder
from signing.errors import SigningError
from signing.roots import newest_root


def test_the_newest_root_is_the_highest_by_number(data: DataFolder):
    """Not by name, where 10 stands before 2, and nothing else that lies in the folder counts."""
    folder, first = data.director_metadata, (data.director_metadata / "1.root.json").read_bytes()
    for name in ("2.root.json", "10.root.json"):
        (folder / name).write_bytes(first.replace(b'"version":1', b'"version":%d' % int(name.split(".")[0])))
    for odd in ("11.root.json.bak", "x.root.json", "012.root.json"):
        (folder / odd).write_bytes(b"{}")
    assert newest_root(folder).signed.version == 10


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "no root in .*: restore it from where the keys were made"), (b"{}", r"1\.root\.json is damaged")],
)
def test_a_root_that_is_lost_is_said_with_a_remedy(data: DataFolder, content: bytes | None, words: str):
    """Nobody can make it again but those who hold the keys, and whoever reads this should know that."""
    root = data.director_metadata / "1.root.json"
    root.unlink()
    if content is not None:
        root.write_bytes(content)
    with pytest.raises(SigningError, match=words):
        newest_root(data.director_metadata)


def test_the_first_root_is_the_first(data: DataFolder):
    """Version 1, for files by version, so that a mirror may serve two publications at a time."""
    for folder in (data.director_metadata, data.image_repo / "metadata"):
        root = newest_root(folder).signed
        assert (root.version, root.consistent_snapshot) == (1, True)
