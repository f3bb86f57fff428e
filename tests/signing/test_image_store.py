"""Where images lie: a folder and a bucket alike, written once, also by two at once; faults with their remedy.

The bucket is that of moto's server on loopback: a model of S3 that answers as S3 does, conditional writes included.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from moto.core import set_initial_no_auth_action_count
from moto.s3.responses import S3Response

from signing.bucket_store import PART_BYTES, BucketStore
from signing.ceremony import DataFolder
from signing.errors import AccessDeniedError, ImageRefusedError, ImageStoreError
from signing.fetched_images import KEPT_S, FetchedImages
from signing.image_export import export
from signing.image_repo import ImageRepository, NewImage
from signing.image_store import FolderStore, ImageStore, open_store
from tests.s3_server import a_bucket, an_s3_server
from tests.signing.uptane_simulator import NOW

CONTENT = b"gateway" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = f"{SHA256}.gw.img"
LONG = bytes(range(256)) * (PART_BYTES // 256) + CONTENT
"""An image that takes two parts."""
LONG_SHA256 = hashlib.sha256(LONG).hexdigest()
LONG_NAME = f"{LONG_SHA256}.map.img"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with an_s3_server() as address:
        yield address


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> BucketStore:
    """A bucket of its own."""
    name = f"b{hashlib.sha256(request.node.name.encode()).hexdigest()[:20]}"
    return BucketStore(a_bucket(server, name, monkeypatch) + "/fleet")


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ImageStore:
    return FolderStore(tmp_path / "store") if request.param == "folder" else request.getfixturevalue("bucket")


def a_file(folder: Path, content: bytes = CONTENT) -> Path:
    path = folder / "image"
    path.write_bytes(content)
    return path


def test_a_long_image_is_stored_in_parts_and_written_once(bucket: BucketStore, tmp_path: Path):
    """However long it is; what came together on the way is gone, also after the second, who finds it there."""
    file = a_file(tmp_path, LONG)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: bucket.put(LONG_NAME, file, LONG_SHA256), range(4)))
    assert bucket.read(LONG_NAME, PART_BYTES - 4, 11) == LONG[PART_BYTES - 4 : PART_BYTES + 7]
    assert bucket.size(LONG_NAME) == len(LONG)
    assert bucket.left_behind() == 0


def test_a_long_image_with_other_bytes_is_not_stored(bucket: BucketStore, tmp_path: Path):
    """That the digest is another is known at the last byte, when parts were sent already."""
    with pytest.raises(ImageRefusedError, match="is not what was signed"):
        bucket.put(LONG_NAME, a_file(tmp_path, LONG[:-1] + b"?"), LONG_SHA256)
    assert bucket.size(LONG_NAME) is None
    assert bucket.left_behind() == 0


def test_a_long_image_passes_through_a_little_memory(bucket: BucketStore, tmp_path: Path):
    """An image of a gibibyte must not need a gibibyte: measured on a process that does nothing else."""
    file = tmp_path / "image"
    with file.open("wb") as content:
        content.truncate(48 * 1024 * 1024)
    script = (
        "import hashlib, re, sys\n"
        "from pathlib import Path\n"
        "from signing.bucket_store import BucketStore\n"
        "from signing.fetched_images import FetchedImages\n"
        "file, store = Path(sys.argv[1]), BucketStore(sys.argv[2])\n"
        "digest = hashlib.file_digest(file.open('rb'), 'sha256').hexdigest()\n"
        "store.size('absent')\n"
        "def peak(): return int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])\n"
        "before = peak()\n"
        "store.put(f'{digest}.map.img', file, digest)\n"
        "fetched = FetchedImages(file.parent / 'fetched', store).file(f'{digest}.map.img')\n"
        "assert fetched.stat().st_size == file.stat().st_size\n"
        "print(peak() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(file), bucket.url], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 32 * 1024, f"{int(done.stdout) // 1024} MiB for an image of 48 MiB"


def test_what_publications_rely_on_is_tried_and_leaves_nothing(bucket: BucketStore):
    """The doctor asks before a release engineer finds out."""
    bucket.prove_conditional_writes()
    assert bucket.left_behind() == 0


@pytest.mark.parametrize("act", ["put_object", "_key_response_post"])
def test_a_service_without_conditional_writes_is_found(bucket: BucketStore, monkeypatch: pytest.MonkeyPatch, act: str):
    """There are services that take If-None-Match and do not heed it: in one request, or of a copy."""
    heeding = getattr(S3Response, act)

    def heedless(response: S3Response, *given: object, **named: object) -> object:
        response.headers = {name: value for name, value in response.headers.items() if name != "If-None-Match"}
        return heeding(response, *given, **named)

    monkeypatch.setattr(S3Response, act, heedless)
    with pytest.raises(ImageStoreError, match="does not heed If-None-Match"):
        bucket.prove_conditional_writes()
    assert bucket.left_behind() == 0


def test_credentials_that_may_only_read_are_told_apart(bucket: BucketStore):
    """Who only serves needs no more, and should have no more."""
    bucket.size(NAME)

    @set_initial_no_auth_action_count(0)
    def act() -> None:
        with pytest.raises(AccessDeniedError):
            bucket.prove_conditional_writes()

    act()


def test_what_was_fetched_does_not_stay(bucket: BucketStore, tmp_path: Path):
    """A bucket holds more than a disk: a file that nobody used for a day goes when another one comes."""
    other = hashlib.sha256(b"other").hexdigest() + ".img"
    bucket.put(NAME, a_file(tmp_path), SHA256)
    bucket.put(other, a_file(tmp_path, b"other"), other[:64])
    fetched = FetchedImages(tmp_path / "fetched", bucket)
    kept = fetched.file(NAME)
    os.utime(kept, (0, kept.stat().st_mtime - KEPT_S - 1))
    with fetched.lent(other) as lent:
        assert lent.read_bytes() == b"other"
    assert list((tmp_path / "fetched").iterdir()) == [], "what is lent goes at once"
    assert fetched.file(NAME).read_bytes() == CONTENT
    assert fetched.file(other).read_bytes() == b"other"
    assert kept.exists(), "of today"
    os.utime(kept, (0, kept.stat().st_mtime - KEPT_S - 1))
    fetched.file(NAME)
    with fetched.lent(other):
        assert kept.exists(), "used just now"


def test_a_bucket_with_other_bytes_is_not_believed(bucket: BucketStore, tmp_path: Path):
    """Deltas and reverts are made from what is fetched."""
    bucket.write(NAME, b"gateway")
    with pytest.raises(ImageStoreError, match="holds other bytes"):
        FetchedImages(tmp_path / "fetched", bucket).file(NAME)
    assert list((tmp_path / "fetched").iterdir()) == []


def test_an_image_is_read_back_as_it_was_stored(store: ImageStore, tmp_path: Path):
    """Whole and in parts, as vehicles ask for it."""
    assert store.size(NAME) is None
    store.put(NAME, a_file(tmp_path), SHA256)
    assert store.size(NAME) == len(CONTENT)
    assert store.read(NAME, 0, len(CONTENT)) == CONTENT
    assert store.read(NAME, 7, 5) == CONTENT[7:12]


def test_other_bytes_than_were_signed_are_not_stored(store: ImageStore, tmp_path: Path):
    """A name says what its bytes are."""
    with pytest.raises(ImageRefusedError, match="is not what was signed"):
        store.put(NAME, a_file(tmp_path, b"other"), SHA256)
    assert store.size(NAME) is None


def test_what_is_there_is_not_written_again(store: ImageStore, tmp_path: Path):
    """I3: a publication is repeated, and nobody who downloads meanwhile notices."""
    store.put(NAME, a_file(tmp_path), SHA256)
    store.put(NAME, a_file(tmp_path), SHA256)
    assert store.read(NAME, 0, len(CONTENT)) == CONTENT


def test_two_publishers_at_once_store_one_image(store: ImageStore, tmp_path: Path):
    """Both succeed: they store the same, and whoever is second finds it there."""
    file = a_file(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: store.put(NAME, file, SHA256), range(8)))
    assert store.read(NAME, 0, len(CONTENT)) == CONTENT


def test_an_object_of_somebody_else_under_our_name_is_said(bucket: BucketStore, tmp_path: Path):
    """Put-if-absent keeps what is there: it must be ours."""
    bucket.write(NAME, b"short")
    with pytest.raises(ImageStoreError, match=r"holds 5 bytes under .* somebody else writes there"):
        bucket.put(NAME, a_file(tmp_path), SHA256)


def test_a_missing_bucket_is_said_with_its_remedy(bucket: BucketStore, tmp_path: Path):
    """It looks like a missing image to whoever asks for one."""
    missing = BucketStore("s3://nowhere/fleet")
    for act in (lambda: missing.size(NAME), lambda: missing.put(NAME, a_file(tmp_path), SHA256)):
        with pytest.raises(ImageStoreError, match="there is no such bucket; make it, or correct the setting `images`"):
            act()


def test_denied_access_is_said_with_its_remedy(bucket: BucketStore, tmp_path: Path):
    """The commonest fault of a bucket; which permissions are needed is what helps."""

    @set_initial_no_auth_action_count(0)
    def act() -> None:
        with pytest.raises(ImageStoreError, match="access was denied; set AWS_ACCESS_KEY_ID"):
            bucket.put(NAME, a_file(tmp_path), SHA256)

    act()


def test_an_unreachable_service_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """And soon: nobody waits for minutes to hear that an address is wrong."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "access")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with pytest.raises(ImageStoreError, match=r"cannot be reached or used .* look at AWS_ENDPOINT_URL"):
        BucketStore("s3://bucket/fleet").put(NAME, a_file(tmp_path), SHA256)


@pytest.mark.parametrize("url", ["s3:///fleet", "nonsense://bucket/fleet"])
def test_an_address_that_is_none_is_said(url: str):
    """When it is set, not when the first release is published."""
    with pytest.raises(ImageStoreError, match="look at AWS_ENDPOINT_URL"):
        open_store(url, Path("unused"))


def test_without_obstore_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    """Who needs no bucket installs none of it."""
    monkeypatch.setitem(__import__("sys").modules, "obstore", None)
    with pytest.raises(ImageStoreError, match=r"needs the extra `s3`: pip install 'outrider\[s3\]'"):
        open_store("s3://bucket/fleet", Path("unused"))


@pytest.mark.uptane("I1", "I3")
def test_a_repository_keeps_its_images_in_a_bucket(bucket: BucketStore, data: DataFolder, tmp_path: Path):
    """Published there, fetched from there where the bytes are needed again, and nothing of it in the data folder."""
    repository = ImageRepository(data.image_repo, bucket)
    image = NewImage("acme/gw.img", a_file(tmp_path), "acme-gw-1", 2, "1.1.0")
    repository.publish([image], data.image_keys, NOW)
    assert bucket.read(NAME, 0, len(CONTENT)) == CONTENT
    assert not list((data.image_repo / "targets").iterdir())
    assert repository.image_file("acme/gw.img", SHA256).read_bytes() == CONTENT


@pytest.mark.uptane("I1", "M15")
def test_an_export_is_all_that_a_web_server_needs(store: ImageStore, data: DataFolder, tmp_path: Path):
    """Images under both names, metadata with every root; repeated, it copies what is new."""
    repository = ImageRepository(data.image_repo)
    image = NewImage("acme/gw.img", a_file(tmp_path), "acme-gw-1", 2, "1.1.0")
    repository.publish([image], data.image_keys, NOW)
    done = export(repository, data.image_repo, store)
    assert (done.images, done.copied, done.metadata[-1]) == (1, 2, "timestamp.json")
    for name in (f"targets/{NAME}", f"targets/acme/{NAME}"):
        assert store.read(name, 0, len(CONTENT)) == CONTENT
    for name in done.metadata:
        content = repository.metadata_file(name)
        assert content is not None
        assert store.read(f"metadata/{name}", 0, len(content)) == content
    assert export(repository, data.image_repo, store).copied == 0
    (data.image_repo / "targets" / NAME).unlink()
    with pytest.raises(ImageStoreError, match="is gone"):
        export(repository, data.image_repo, FolderStore(tmp_path / "other"))
