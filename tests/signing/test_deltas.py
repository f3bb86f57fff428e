"""Deltas: they lead to the image that was signed or to nothing, within bounds, and a stock zstd applies them."""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tuf.api.metadata import TargetFile

from signing.deltas import (
    ALGORITHM,
    IMAGE_BYTES_MAX,
    apply_delta,
    delta_fields,
    delta_path,
    is_delta,
    make_delta,
    memory_bytes,
    read_delta,
)
from signing.errors import DeltaError
from signing.names import target_path_fault
from signing.verify import VerifiedBundle, VerifiedImage
from tests.signing.uptane_simulator import GATEWAY_PATH, IMAGES, SimulatedPrimary, UptaneSimulator

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PLENTY = 1 << 30
FROM, TO = "ab" * 32, "cd" * 32


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def an_image(size: int = 200_000, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def changed(image: bytes, at: int = 70_000, what: bytes = b"a small change") -> bytes:
    return image[:at] + what + image[at:]


class Bench:
    """A folder with a base and a delta, as a vehicle has them."""

    def __init__(self, folder: Path) -> None:
        self.base, self.delta, self.into = folder / "base", folder / "delta", folder / "into"

    def apply(self, base: bytes, delta: bytes, image: bytes, **other: int | str) -> bytes:
        """What comes out, where `image` is what was signed."""
        self.base.write_bytes(base)
        self.delta.write_bytes(delta)
        wanted: dict[str, int | str] = {
            "from_sha256": sha256(base),
            "length": len(image),
            "sha256": sha256(image),
            "memory_bytes_max": PLENTY,
        }
        apply_delta(self.delta, self.base, self.into, **wanted | other)  # type: ignore[arg-type]
        return self.into.read_bytes()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@same_folder
@given(base=st.binary(max_size=3000), image=st.binary(max_size=3000))
def test_any_image_comes_from_any_other(bench: Bench, base: bytes, image: bytes) -> None:
    """A delta is made from whatever runs, also where nothing is alike, and where one of both is empty."""
    assert bench.apply(base, make_delta(base, image), image) == image


@same_folder
@given(parts=st.lists(st.tuples(st.integers(0, 19_999), st.integers(0, 5000)), max_size=8), seed=st.integers(0, 99))
def test_images_of_shuffled_parts_come_out_whole(bench: Bench, parts: list[tuple[int, int]], seed: int) -> None:
    """Code that moved is what updates are made of: far matches have to be found again at their places."""
    base = an_image(20_000, seed)
    image = b"".join(base[start : start + length] for start, length in parts)
    assert bench.apply(base, make_delta(base, image), image) == image


def test_small_change_makes_a_small_delta() -> None:
    """That is what deltas are for; the window has to cover the whole old image."""
    base = an_image(3_000_000)
    assert len(make_delta(base, changed(base, at=2_900_000))) < 1000
    assert len(make_delta(base, base[1_500_000:] + base[:1_500_000])) < 1000


def test_stock_zstd_applies_ours(bench: Bench, tmp_path: Path) -> None:
    """A vehicle whose agent is not ours needs no code of ours."""
    tool = shutil.which("zstd")
    if tool is None:
        pytest.skip("zstd is not installed; apt-get install zstd runs this test")
    base = an_image()
    image = changed(base)
    bench.base.write_bytes(base)
    bench.delta.write_bytes(make_delta(base, image))
    command = [tool, "-q", "-d", f"--patch-from={bench.base}", str(bench.delta), "-o", str(bench.into)]
    subprocess.run(command, check=True, timeout=60)
    assert bench.into.read_bytes() == image


def test_ours_applies_what_stock_zstd_made(bench: Bench) -> None:
    """The format is zstd's own: whoever makes deltas elsewhere is understood."""
    tool = shutil.which("zstd")
    if tool is None:
        pytest.skip("zstd is not installed; apt-get install zstd runs this test")
    base = an_image()
    image = changed(base)
    bench.base.write_bytes(base)
    bench.into.write_bytes(image)
    command = [tool, "-q", "-19", f"--patch-from={bench.base}", str(bench.into), "-o", str(bench.delta)]
    subprocess.run(command, check=True, timeout=60)
    assert bench.apply(base, bench.delta.read_bytes(), image) == image


@same_folder
@given(data=st.data())
def test_corrupt_delta_leads_to_the_image_or_to_nothing(bench: Bench, data: st.DataObject) -> None:
    """Whatever is in a delta: no crash, no byte beyond the length, and never another image than the signed one."""
    base = an_image(5000)
    image = changed(base, at=2000)
    delta = bytearray(make_delta(base, image))
    for _ in range(data.draw(st.integers(1, 4))):
        delta[data.draw(st.integers(0, len(delta) - 1))] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(delta)))
    try:
        made = bench.apply(base, bytes(delta[: cut or len(delta)]), image)
    except DeltaError:
        assert not bench.into.exists()
    else:
        assert made == image


@same_folder
@given(delta=st.binary(max_size=2000))
def test_any_bytes_as_delta_are_refused_calmly(bench: Bench, delta: bytes) -> None:
    """The transport is hostile: what is no delta is one fault, of one kind."""
    with pytest.raises(DeltaError):
        bench.apply(an_image(2000), delta, an_image(2000, seed=2))


def test_delta_that_expands_without_end_is_cut_at_the_length(bench: Bench) -> None:
    """A few kB of zstd can stand for gigabytes: not one byte beyond the signed length reaches the disk."""
    bomb = zstd.compress(bytes(256 << 20))
    assert len(bomb) < 30_000
    with pytest.raises(DeltaError, match=r"expands beyond the 200000 bytes|cannot be applied"):
        bench.apply(an_image(), bomb, an_image(seed=2))
    assert not bench.into.exists()


def test_endless_frame_of_unknown_size_is_cut(bench: Bench) -> None:
    """A frame that does not say how long it is, within the window, is counted while it expands."""
    encoder = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 12})
    bomb = encoder.compress(bytes(64 << 20)) + encoder.flush()
    with pytest.raises(DeltaError, match="expands beyond the 200000 bytes"):
        bench.apply(an_image(), bomb, an_image(seed=2))


def test_frame_that_wants_a_larger_window_is_refused(bench: Bench) -> None:
    """The window is what a decoder allocates on the delta's word: a control unit has no gigabyte."""
    encoder = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    greedy = encoder.compress(an_image(100)) + encoder.flush()
    with pytest.raises(DeltaError, match="cannot be applied"):
        bench.apply(an_image(), greedy, an_image(100))


def test_more_memory_than_there_is_is_refused_before_anything_is_read(bench: Bench) -> None:
    """An agent says what it can spare, and falls back to the whole image."""
    base = an_image()
    image = changed(base)
    with pytest.raises(DeltaError, match=f"takes {memory_bytes(len(base), len(image))} bytes of memory > 1000"):
        bench.apply(base, make_delta(base, image), image, memory_bytes_max=1000)


def test_wrong_base_is_named(bench: Bench) -> None:
    """A slot may hold other bytes than the agent remembers: found before any work."""
    base = an_image()
    with pytest.raises(DeltaError, match="is not the image abab"):
        bench.apply(base, make_delta(base, changed(base)), changed(base), from_sha256=FROM)


def test_missing_base_is_a_fault_of_the_delta_alone(bench: Bench, tmp_path: Path) -> None:
    """No base, no delta; the whole image needs none."""
    bench.delta.write_bytes(make_delta(b"", b"x"))
    with pytest.raises(DeltaError, match="cannot be applied"):
        apply_delta(
            bench.delta,
            tmp_path / "none",
            bench.into,
            from_sha256=FROM,
            length=1,
            sha256=sha256(b"x"),
            memory_bytes_max=PLENTY,
        )


def test_good_delta_to_another_image_is_refused(bench: Bench) -> None:
    """Only the signed digest of the whole image counts, whatever was signed for the delta."""
    base, other = an_image(), changed(an_image(), what=b"a smart charge")
    with pytest.raises(DeltaError, match="leads to is not the image"):
        bench.apply(base, make_delta(base, other), changed(base))
    assert not bench.into.exists()


def test_shorter_result_is_refused(bench: Bench) -> None:
    """A frame that ends in order, but early, is not the image."""
    base = an_image()
    with pytest.raises(DeltaError, match="leads to 199990 bytes, the image has 200000"):
        bench.apply(base, make_delta(base, base[:-10]), base)


def test_delta_can_be_given_up(bench: Bench) -> None:
    """An attempt that is withdrawn meanwhile ends the work."""
    base = an_image()
    bench.base.write_bytes(base)
    bench.delta.write_bytes(make_delta(base, base))
    with pytest.raises(DeltaError, match="given up"):
        apply_delta(
            bench.delta,
            bench.base,
            bench.into,
            from_sha256=sha256(base),
            length=len(base),
            sha256=sha256(base),
            memory_bytes_max=PLENTY,
            meanwhile=lambda: False,
        )


def test_images_that_are_too_long_have_no_delta() -> None:
    """Both images are in memory while a delta is made: there is a bound, and it is said."""

    class Long(bytes):
        def __len__(self) -> int:
            return IMAGE_BYTES_MAX + 1

    with pytest.raises(DeltaError, match="longer than"):
        make_delta(b"", Long())


def a_target(**fields: object) -> TargetFile:
    signed = dict(delta_fields(from_sha256=FROM, to_sha256=TO, from_length=10, to_length=20)["delta"]) | fields
    return TargetFile(5, {"sha256": "ef" * 32}, delta_path(FROM, TO), {"custom": {"delta": signed}})


def test_listed_delta_is_read_back() -> None:
    """What is signed says all that an agent has to know before it fetches one."""
    delta = read_delta(delta_path(FROM, TO), a_target())
    assert delta is not None
    assert (delta.from_sha256, delta.to_sha256, delta.length, delta.sha256) == (FROM, TO, 5, "ef" * 32)
    assert delta.memory_bytes == memory_bytes(10, 20)
    assert is_delta(delta.path)
    assert not is_delta("acme/deltas/gw.img")
    assert target_path_fault(delta.path) is None


@pytest.mark.parametrize(
    "fields",
    [{"algorithm": "bsdiff"}, {"from": TO}, {"to": FROM}, {"memoryBytes": "much"}, {"memoryBytes": True}],
)
def test_delta_that_says_something_else_is_passed_over(fields: dict[str, object]) -> None:
    """A delta of a later version, or an odd one, must not stand in the way of the image."""
    assert read_delta(delta_path(FROM, TO), a_target(**fields)) is None


def test_image_is_no_delta() -> None:
    """Other targets are no deltas, whatever their name."""
    assert read_delta("acme/gw.img", a_target()) is None
    assert read_delta(delta_path(FROM, TO), TargetFile(5, {"sha256": "ef" * 32}, "x")) is None
    assert ALGORITHM == "zstd-patch-from"


def listed(uptane: UptaneSimulator, *origins: str, length: int = 5, **fields: object) -> None:
    """List deltas from images with these digests to the gateway's; publish."""
    targets = uptane.image.targets.targets
    image = targets[GATEWAY_PATH]
    for number, origin in enumerate(origins):
        path = delta_path(origin, image.hashes["sha256"])
        signed = delta_fields(from_sha256=origin, to_sha256=image.hashes["sha256"], from_length=9, to_length=9)
        signed = {"delta": dict(signed["delta"]) | fields}
        targets[path] = TargetFile(length + number, {"sha256": "ef" * 32}, path, {"custom": signed})
    uptane.image.publish()


def gateway_of(bundle: VerifiedBundle) -> VerifiedImage:
    return next(image for image in bundle.images if image.path == GATEWAY_PATH)


def test_vehicle_finds_the_deltas_from_what_it_has(uptane: UptaneSimulator, primary: SimulatedPrimary) -> None:
    """By digest of what it runs, in targets that it verified anyway, the smallest first, and no others."""
    listed(uptane, "aa" * 32, "bb" * 32, "cc" * 32)
    gateway = gateway_of(primary.verify(uptane.files()))
    found = primary.verifier.deltas(gateway, ["cc" * 32, "aa" * 32, "dd" * 32])
    assert [delta.from_sha256 for delta in found] == ["aa" * 32, "cc" * 32]
    assert {delta.to_sha256 for delta in found} == {gateway.sha256}
    assert primary.verifier.deltas(gateway, []) == ()


def test_odd_or_useless_deltas_are_passed_over(uptane: UptaneSimulator, primary: SimulatedPrimary) -> None:
    """They are no reason to refuse the image that they lead to."""
    listed(uptane, "aa" * 32, algorithm="of tomorrow")
    listed(uptane, "bb" * 32, length=len(IMAGES[GATEWAY_PATH]))
    gateway = gateway_of(primary.verify(uptane.files()))
    assert primary.verifier.deltas(gateway, ["aa" * 32, "bb" * 32]) == ()


def test_nothing_verified_has_no_deltas(uptane: UptaneSimulator, primary: SimulatedPrimary, tmp_path: Path) -> None:
    """What a verifier of another run found is not this one's to say."""
    listed(uptane, "aa" * 32)
    gateway = gateway_of(primary.verify(uptane.files()))
    assert uptane.vehicle(tmp_path / "other").verifier.deltas(gateway, ["aa" * 32]) == ()
