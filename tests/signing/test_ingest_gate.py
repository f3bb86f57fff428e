"""The gate before an image is directed: nothing without a word of the role `attest`, whoever asks the signer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import Metadata, Snapshot, Targets, Timestamp
from tuf.ngclient import FetcherInterface, Updater

from signing import ingest_gate
from signing.attestation import ATTEST, LEVEL_WAIVED, SUMMARY, SUMMARY_MAX_BYTES, attesters_of, with_attesters
from signing.ceremony import DataFolder
from signing.deltas import delta_path
from signing.director import AssignedImage, Assignment, DirectorVersions
from signing.errors import SignerRefusedError, SigningError
from signing.image_repo import ImageRepository, NewImage, TargetInfo
from signing.ingest_gate import IngestGate
from signing.keys import load_signer, save_signer
from signing.release_facts import ReleaseFacts
from signing.signer import SignerClient
from tests.evidence import vouched_for, without_attesters
from tests.signing.test_signer import signer_process
from tests.signing.uptane_simulator import NOW

HARDWARE = "acme-gw-1"


class Ground:
    """An Image repository in which `attest` has to vouch for images, and the gate before it."""

    def __init__(self, data: DataFolder) -> None:
        self.data = data
        if not (data.image_keys / f"{ATTEST}.pem").exists():
            save_signer(CryptoSigner.generate_ed25519(), data.image_keys / f"{ATTEST}.pem")
        shutil.rmtree(data.image_repo)
        self.repository = ImageRepository.create(data.image_repo, data.image_keys, NOW)
        self.gate = IngestGate(data.image_repo)

    def image(self, content: bytes = b"an image", **changes: object) -> NewImage:
        """An image to publish, for which nobody has vouched."""
        file = self.data.path / f"{content.hex()[:16]}.img"
        file.write_bytes(content)
        image = NewImage("acme/gw.img", file, HARDWARE, release_counter=2, version="1.1.0")
        return replace(image, **changes)  # type: ignore[arg-type]

    def publish(self, image: NewImage) -> AssignedImage:
        """Publish an image; as the Director would assign it."""
        (info,) = self.repository.publish([image], self.data.image_keys, NOW)
        return assigned(info)

    def vouched(self, image: NewImage, **changes: object) -> NewImage:
        """The image with evidence and a summary by the key of `attest`."""
        return vouched_for(image, self.data.image_keys, **changes)

    def attesters(self, *signers: CryptoSigner, threshold: int = 1) -> None:
        """Give the role `attest` these keys."""
        targets = self.repository.metadata.load("targets", Targets)
        with_attesters(targets, [signer.public_key for signer in signers], threshold)
        self.release(targets)

    def release(self, targets: Targets) -> None:
        """Sign other targets, and what leads to them."""
        metadata = self.repository.metadata
        metadata.release(
            targets,
            metadata.load("snapshot", Snapshot),
            metadata.load("timestamp", Timestamp),
            self.data.image_keys,
            NOW,
        )


class FolderFetcher(FetcherInterface):
    """A mirror that is a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            yield (self._folder / url.removeprefix("https://mirror/")).read_bytes()
        except FileNotFoundError as exc:
            raise DownloadHTTPError(url, 404) from exc


def assigned(info: TargetInfo) -> AssignedImage:
    return AssignedImage(info.path, info.length, info.sha256, info.hardware_id, info.release_counter, ("gw-serial",))


@pytest.fixture
def ground(data: DataFolder) -> Ground:
    return Ground(data)


def test_an_image_that_is_vouched_for_passes(ground: Ground):
    """And what the summary says can be shown."""
    image = ground.publish(ground.vouched(ground.image()))
    assert ground.gate.fault(image) is None
    shown = ground.gate.summary(image.path, HARDWARE)
    assert shown is not None
    summary, keys = shown
    assert (summary.sha256, summary.hardware_id, summary.level) == (image.sha256, HARDWARE, "SLSA_BUILD_LEVEL_1")
    assert [key.keyid for key in keys] == [load_signer(ground.data.image_keys, ATTEST).public_key.keyid]


def test_an_image_without_a_summary_is_refused(ground: Ground):
    """Signed by the targets key, which alone shall not be enough."""
    image = ground.publish(ground.image())
    assert ground.gate.fault(image) == "no verification summary is listed with it"
    assert ground.gate.summary(image.path, HARDWARE) is None


@pytest.mark.parametrize("role", ["targets", "snapshot", "timestamp"])
def test_a_summary_by_another_role_s_key_is_refused(ground: Ground, role: str):
    """Who may list images may not vouch for them, too."""
    image = ground.publish(vouched_for(ground.image(), [load_signer(ground.data.image_keys, role)]))
    assert "must sign" in (ground.gate.fault(image) or "")


def test_a_forged_summary_is_refused(ground: Ground):
    """The id of the right key over a signature that is not its, and another statement under a signature that is."""
    new = ground.vouched(ground.image())
    envelope = json.loads(new.evidence[SUMMARY])
    other = json.loads(ground.vouched(ground.image(b"another")).evidence[SUMMARY])
    for forged in (envelope | {"signatures": other["signatures"]}, envelope | {"payload": other["payload"]}):
        evidence = {**new.evidence, SUMMARY: json.dumps(forged).encode()}
        assert "must sign" in (ground.gate.fault(ground.publish(replace(new, evidence=evidence))) or "")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sha256": "a" * 64}, "is about a"),
        ({"hardware_id": "acme-brake-1"}, "for hardware acme-brake-1"),
        ({"inputs": {}}, "from other evidence"),
        ({"inputs": {"provenance": "a" * 64, "sbom": "b" * 64, "tests": "c" * 64}}, "from other evidence"),
        ({"level": ""}, "malformed"),
        ({"waived": "just so"}, "malformed"),
        ({"policy_sha256": "x"}, "malformed"),
    ],
)
def test_a_summary_about_something_else_is_refused(ground: Ground, changes: dict[str, object], words: str):
    """The right key's word for another image, other hardware or other evidence is no word for this one."""
    image = ground.publish(ground.vouched(ground.image(), **changes))
    assert words in (ground.gate.fault(image) or "")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda it: it["predicate"].update(verificationResult="FAILED"), "did not pass"),
        (lambda it: it.update(predicateType="https://slsa.dev/provenance/v1"), "of type"),
        (lambda it: it.update(subject=[]), "malformed"),
        (lambda it: it["predicate"].pop("policy"), "malformed"),
        (lambda it: it["predicate"].update(resourceUri="pkg:generic/gw"), "malformed"),
    ],
)
def test_a_signed_statement_that_is_no_word_for_the_image_is_refused(
    ground: Ground, change: Callable[[dict[str, Any]], object], words: str
):
    """The key of attest may sign other things, too: only a summary that says PASSED counts."""
    new = ground.vouched(ground.image())
    envelope = Envelope.from_dict(json.loads(new.evidence[SUMMARY]))
    statement = json.loads(envelope.payload)
    change(statement)
    other = Envelope(json.dumps(statement).encode(), envelope.payload_type, {})
    other.sign(load_signer(ground.data.image_keys, ATTEST))
    evidence = {**new.evidence, SUMMARY: json.dumps(other.to_dict()).encode()}
    assert words in (ground.gate.fault(ground.publish(replace(new, evidence=evidence))) or "")


def test_a_waived_summary_passes_and_says_so(ground: Ground):
    """A person vouches without evidence: allowed to whoever holds the key, and signed."""
    new = ground.vouched(ground.image(), inputs={}, waived="from before the gate", level=LEVEL_WAIVED)
    image = ground.publish(replace(new, evidence={SUMMARY: new.evidence[SUMMARY]}))
    assert ground.gate.fault(image) is None
    shown = ground.gate.summary(image.path, HARDWARE)
    assert shown is not None
    assert shown[0].waived == "from before the gate"


def test_a_summary_without_all_evidence_is_no_waiver(ground: Ground):
    """Leaving out the test report must not pass for a tested image."""
    new = ground.vouched(ground.image())
    kept = {kind: data for kind, data in new.evidence.items() if kind in ("provenance", "sbom")}
    part = vouched_for(ground.image(), ground.data.image_keys)
    inputs = {kind: digest for kind, digest in digests(part).items() if kind in kept}
    image = ground.vouched(ground.image(), inputs=inputs)
    evidence = {**kept, SUMMARY: image.evidence[SUMMARY]}
    assert "without all" in (ground.gate.fault(ground.publish(replace(image, evidence=evidence))) or "")


def digests(image: NewImage) -> dict[str, str]:
    return {kind: sha256(data).hexdigest() for kind, data in image.evidence.items()}


def test_a_summary_longer_than_any_is_not_read(ground: Ground):
    """The right key's word, with much beside it: work at the gate is bounded."""
    new = ground.vouched(ground.image())
    evidence = {**new.evidence, SUMMARY: new.evidence[SUMMARY] + b" " * SUMMARY_MAX_BYTES}
    assert "at most 16384 are read" in (ground.gate.fault(ground.publish(replace(new, evidence=evidence))) or "")


@pytest.mark.parametrize("alter", [Path.unlink, lambda path: path.write_bytes(path.read_bytes() + b" ")])
def test_a_summary_that_is_gone_or_was_changed_is_refused(ground: Ground, alter: Callable[[Path], object]):
    """Whoever can write the folder can take a word away, not put another in its place."""
    new = ground.vouched(ground.image())
    image = ground.publish(new)
    alter(ground.data.image_repo / "evidence" / f"{digests(new)[SUMMARY]}.json")
    assert "missing or was changed" in (ground.gate.fault(image) or "")


def test_a_summary_that_is_restored_lets_the_image_through_again(ground: Ground):
    """With no new timestamp, and without a restart at 3 a.m."""
    new = ground.vouched(ground.image())
    image = ground.publish(new)
    kept = ground.data.image_repo / "evidence" / f"{digests(new)[SUMMARY]}.json"
    away = kept.rename(ground.data.path / "away")
    assert "missing or was changed" in (ground.gate.fault(image) or "")
    away.rename(kept)
    assert ground.gate.fault(image) is None


def test_evidence_that_was_changed_after_publication_is_not_given_out(ground: Ground):
    """Its digest is signed with the image."""
    new = ground.vouched(ground.image())
    ground.publish(new)
    digest = digests(new)["sbom"]
    assert ground.repository.evidence(digest) == new.evidence["sbom"]
    (ground.data.image_repo / "evidence" / f"{digest}.json").write_bytes(b"{}")
    assert ground.repository.evidence(digest) is None
    assert ground.repository.evidence("../../keys") is None


@pytest.mark.parametrize(
    "change",
    [{"path": "acme/none.img"}, {"length": 9}, {"sha256": "0" * 64}, {"hardware_id": "x"}, {"release_counter": 3}],
)
def test_what_the_repository_does_not_list_so_is_refused(ground: Ground, change: dict[str, object]):
    """A stolen orchestrator may ask for any image; only released ones are directed, as they were released."""
    image = ground.publish(ground.vouched(ground.image()))
    assert ground.gate.fault(replace(image, **change))  # type: ignore[arg-type]


def test_a_revoked_key_takes_its_word_with_it_until_the_image_is_attested_anew(ground: Ground):
    """Theft of the attest key: what it vouched for is directed no more, and a new word brings it back."""
    image = ground.publish(ground.vouched(ground.image()))
    fresh = CryptoSigner.generate_ed25519()
    assert ground.gate.fault(image) is None
    ground.attesters(fresh)
    assert "must sign" in (ground.gate.fault(image) or "")
    assert ground.publish(vouched_for(ground.image(), [fresh])) == image
    assert ground.gate.fault(image) is None


def test_a_key_that_is_added_leaves_the_words_of_the_old_one(ground: Ground):
    """The yearly change of keys: nothing has to be attested anew while the old key stays named."""
    image = ground.publish(ground.vouched(ground.image()))
    ground.attesters(load_signer(ground.data.image_keys, ATTEST), CryptoSigner.generate_ed25519())
    assert ground.gate.fault(image) is None


def test_two_words_where_two_are_asked_for(ground: Ground):
    """The threshold of the role counts keys, as everywhere."""
    one, two = CryptoSigner.generate_ed25519(), CryptoSigner.generate_ed25519()
    ground.attesters(one, two, threshold=2)
    image = ground.publish(vouched_for(ground.image(), [one]))
    assert "2 of the attest keys" in (ground.gate.fault(image) or "")
    assert ground.gate.fault(ground.publish(vouched_for(ground.image(), [one, two]))) is None


def test_publishing_again_without_evidence_keeps_what_is_listed(ground: Ground):
    """A repetition must not take a release off the road."""
    image = ground.publish(ground.vouched(ground.image()))
    ground.publish(ground.image())
    assert ground.gate.fault(image) is None


def test_where_nobody_is_named_nothing_is_asked(data: DataFolder):
    """Installations from before the gate go on as they did, until somebody is named."""
    without_attesters(data)
    repository = ImageRepository(data.image_repo)
    assert repository.attesters() is None
    odd = AssignedImage("acme/any.img", 1, "0" * 64, HARDWARE, 1, ("s",))
    assert IngestGate(data.image_repo).fault(odd) is None


def test_targets_that_the_root_does_not_vouch_for_direct_nothing(ground: Ground):
    """A thief of the orchestrator may write the folder: without the targets key that opens nothing."""
    image = ground.publish(ground.vouched(ground.image()))
    metadata = ground.repository.metadata
    current = metadata.current("targets")
    current.signed.delegations = None
    path = metadata.folder / f"{current.signed.version}.targets.json"
    path.write_bytes(Metadata(current.signed).to_bytes())
    with pytest.raises(SigningError, match="cannot be verified"):
        ground.gate.fault(image)


def test_a_root_that_its_predecessor_did_not_sign_directs_nothing(ground: Ground):
    """A thief of the orchestrator may write a root of his own: the chain from the first one on decides."""
    image = ground.publish(ground.vouched(ground.image()))
    metadata = ground.repository.metadata
    forged = metadata.current("root")
    forged.signed.version = 2
    thief = CryptoSigner.generate_ecdsa()
    forged.signed.add_key(thief.public_key, "targets")
    forged.signatures = {}
    forged.sign(thief)
    (metadata.folder / "2.root.json").write_bytes(forged.to_bytes())
    with pytest.raises(SigningError, match="cannot be verified"):
        IngestGate(ground.data.image_repo).fault(image)


def test_a_folder_without_a_root_directs_nothing(ground: Ground):
    """Without the first root there is nothing to believe, whatever else lies there."""
    image = ground.publish(ground.vouched(ground.image()))
    (ground.data.image_repo / "metadata" / "1.root.json").unlink()
    with pytest.raises(SigningError, match="holds no root"):
        IngestGate(ground.data.image_repo).fault(image)


def test_who_may_vouch_is_read_from_what_offline_keys_signed(ground: Ground, data: DataFolder):
    """The same that the gate goes by, for whoever wants to know beforehand."""
    attesters = ground.gate.attesters()
    assert attesters is not None
    assert [key.keyid for key in attesters.keys] == [load_signer(data.image_keys, ATTEST).public_key.keyid]
    assert attesters.threshold == 1


def test_images_and_nothing_else_are_listed(ground: Ground):
    """An entry as it was signed; a delta leads to an image and is none; what nobody listed has no summary."""
    image = ground.publish(ground.vouched(ground.image()))
    listed = ground.gate.listed(image.path, HARDWARE)
    assert listed is not None
    assert (listed.length, listed.hashes["sha256"]) == (image.length, image.sha256)
    delta = delta_path("0" * 64, image.sha256)
    targets = ground.repository.metadata.load("targets", Targets)
    targets.targets[delta] = listed
    ground.release(targets)
    assert ground.gate.listed(delta, HARDWARE) is None
    assert ground.gate.listed("acme/none.img", HARDWARE) is None
    assert ground.gate.summary("acme/none.img", HARDWARE) is None


def test_verdicts_are_remembered_in_bounded_room(ground: Ground, monkeypatch: pytest.MonkeyPatch):
    """A yes is not looked up at each poll, and a fleet with many images does not fill the memory."""
    monkeypatch.setattr(ingest_gate, "_PASSED_MAX", 1)
    images = [ground.vouched(ground.image(content, path=f"acme/{content.hex()}.img")) for content in (b"one", b"two")]
    first, second = map(ground.publish, images)
    assert ground.gate.faults([first, second]) == {}
    for image in images:
        (ground.data.image_repo / "evidence" / f"{digests(image)[SUMMARY]}.json").unlink()
    assert ground.gate.fault(second) is None, "just remembered"
    assert "missing" in (ground.gate.fault(first) or ""), "made room for the second"


def test_a_role_without_paths_is_none_that_vehicles_look_into(ground: Ground, tmp_path: Path):
    """Its keys vouch; they release nothing, and an unmodified client finds the image without asking for its file."""
    ground.publish(ground.vouched(ground.image(facts=ReleaseFacts(rxswin=("R79 SWIN 1",)))))
    targets = ground.repository.metadata.load("targets", Targets)
    assert attesters_of(targets) is not None
    updater = Updater(
        str(tmp_path),
        "https://mirror/",
        bootstrap=(ground.data.image_repo / "metadata" / "1.root.json").read_bytes(),
        fetcher=FolderFetcher(ground.data.image_repo / "metadata"),
    )
    assert updater.get_targetinfo("acme/gw.img") is not None
    assert updater.get_targetinfo("acme/none.img") is None


@pytest.mark.processes
async def test_the_signer_process_directs_only_what_is_vouched_for(ground: Ground, socket_path: Path):
    """The last place with power: whoever reaches its socket gets no file for an image without a summary."""
    good = ground.publish(ground.vouched(ground.image()))
    bad = ground.publish(ground.image(b"another", path="acme/other.img"))
    versions = DirectorVersions(7, NOW, 9, NOW)
    client = SignerClient(socket_path)
    with signer_process(socket_path, ground.data):
        assert await client.director_files(Assignment("veh-1", (good,)), versions)
        with pytest.raises(SignerRefusedError, match=r"acme/other\.img is not directed: no verification summary"):
            await client.director_files(Assignment("veh-1", (bad,)), versions)
        ground.attesters(CryptoSigner.generate_ed25519())  # revoked while it runs
        with pytest.raises(SignerRefusedError, match="must sign"):
            await client.director_files(Assignment("veh-1", (good,)), versions)
        assert await client.director_files(Assignment("veh-1", ()), versions)
    await client.close()
