"""One archive of files that change while they are read: what its manifest says is what it holds."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.app.archive import MANIFEST, digest, pack, prove
from signing.files import write_atomically

ABOUT = {"format": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("first", "second", "gone"):
        (tmp_path / name).write_bytes(name.encode() * 10_000)
    return tmp_path


def listed(folder: Path) -> Iterator[tuple[str, Path]]:
    """Three files; one is removed once it is listed, and the first is replaced after it was packed."""
    yield "first", folder / "first"
    write_atomically(folder / "first", b"of tomorrow")
    (folder / "gone").unlink()
    yield "gone", folder / "gone"
    yield "second", folder / "second"


def test_the_manifest_is_of_the_bytes_that_were_packed(folder: Path) -> None:
    """A digest of what stood there a moment before or after would make the whole archive refused."""
    packed = pack(folder / "whole", listed(folder), ABOUT)
    assert packed.keys() == {"first", "second", MANIFEST}
    assert digest(folder / "first") != packed["first"]
    with tarfile.open(folder / "whole") as archive:
        contents = {name: archive.extractfile(name).read() for name in archive.getnames()}  # type: ignore[union-attr]
    assert {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()} == packed
    manifest = json.loads(contents.pop(MANIFEST))
    assert manifest == {**ABOUT, "files": {name: packed[name] for name in contents}}
    prove(folder / "whole", packed)


def test_links_are_packed_as_what_they_lead_to(folder: Path) -> None:
    """A link unpacked elsewhere leads nowhere, or to what its digest is not of."""
    (folder / "symbolic").symlink_to(folder / "first")
    (folder / "hard").hardlink_to(folder / "first")
    packed = pack(folder / "whole", [(name, folder / name) for name in ("first", "symbolic", "hard")], ABOUT)
    assert packed["symbolic"] == packed["hard"] == packed["first"]
    prove(folder / "whole", packed)


def test_an_archive_that_does_not_read_back_is_found_out(folder: Path) -> None:
    """Told while the originals are there, not when the archive is all that is left."""
    packed = pack(folder / "whole", listed(folder), ABOUT)
    whole = (folder / "whole").read_bytes()
    with tarfile.open(folder / "whole") as archive:
        place = archive.getmember("second").offset_data
    (folder / "flipped").write_bytes(whole[:place] + b"?" + whole[place + 1 :])
    with pytest.raises(OSError, match="second does not read back"):
        prove(folder / "flipped", packed)
    (folder / "cut").write_bytes(whole[: place + 100])
    with pytest.raises(OSError, match="cannot be read back"):
        prove(folder / "cut", packed)
    with pytest.raises(OSError, match="third does not read back"):
        prove(folder / "whole", {**packed, "third": ""})
