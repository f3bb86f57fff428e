"""The gate before an image is directed to any vehicle: released by the offline keys, and vouched for.

Owns the one rule of the Director's signer, and of whoever wants to know beforehand what it will say. All it believes is
the Image repository's folder, from its first root on; the orchestrator's store and its requests decide nothing. Expiry
is left to the vehicles, who judge it by their own time: a gate that stops signing for a stale file helps nobody.
Where the targets name nobody who may vouch (`attestation`), nothing is asked: so it is in installations from before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from securesystemslib.signer import Key
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets

from signing.attestation import SUMMARY, Attesters, Summary, attesters_of, read_summary, summary_fault
from signing.delegations import find_target
from signing.deltas import is_delta
from signing.errors import EvidenceError, SigningError
from signing.image_repo import ImageRepository
from signing.match import read_shall_match
from signing.roots import check_delegation_keys, check_root_keys, root_versions

_PASSED_MAX = 4096


class DirectedImage(Protocol):
    """An image as the Director would assign it."""

    @property
    def path(self) -> str: ...  # noqa: D102 - named by the protocol's docstring
    @property
    def length(self) -> int: ...  # noqa: D102
    @property
    def sha256(self) -> str: ...  # noqa: D102
    @property
    def hardware_id(self) -> str: ...  # noqa: D102
    @property
    def release_counter(self) -> int: ...  # noqa: D102


class IngestGate:
    """Says of images whether they may be directed. Reads the disk anew when the repository's timestamp changes.

    Args:
        repository: Folder of the Image repository.
    """

    def __init__(self, repository: Path) -> None:
        self._folder = repository / "metadata"
        self._repository = ImageRepository(repository)
        self._seen: tuple[int, int, int] | None = None
        self._targets = Targets()
        self._attesters: Attesters | None = None
        self._passed: set[tuple[object, ...]] = set()

    def fault(self, image: DirectedImage) -> str | None:
        """Why an image must not be directed; None when it may be.

        Raises:
            SigningError: The Image repository does not verify: nothing may be directed.
        """
        return next(iter(self.faults([image]).values()), None)

    def faults(self, images: Iterable[DirectedImage]) -> Mapping[str, str]:
        """Why images must not be directed, by path, without those that may be; one look at the disk for all.

        Raises:
            SigningError: The Image repository does not verify: nothing may be directed.
        """
        self._read_anew()
        if self._attesters is None:
            return {}
        found = ((image.path, self._verdict(image, self._attesters)) for image in images)
        return {path: fault for path, fault in found if fault is not None}

    def listed(self, path: str, hardware_id: str) -> TargetFile | None:
        """An image as offline keys have listed it; None when they have not.

        Raises:
            SigningError: The Image repository does not verify.
        """
        self._read_anew()
        return self._listed(path, hardware_id)

    def attesters(self) -> Attesters | None:
        """Who may vouch for images; None when nobody was ever named.

        Raises:
            SigningError: The Image repository does not verify.
        """
        self._read_anew()
        return self._attesters

    def summary(self, path: str, hardware_id: str) -> tuple[Summary, Sequence[Key]] | None:
        """The summary that vouches for a listed image, and the keys that signed it; None without one.

        Raises:
            SigningError: The Image repository does not verify.
        """
        self._read_anew()
        target = self._listed(path, hardware_id)
        if target is None or self._attesters is None:
            return None
        try:
            return self._summary(target, hardware_id, self._attesters)
        except EvidenceError:
            return None

    def _verdict(self, image: DirectedImage, attesters: Attesters) -> str | None:
        asked = (image.path, image.length, image.sha256, image.hardware_id, image.release_counter)
        if asked in self._passed:
            return None
        # A no is not kept: what is missing may be restored, or come in beside a supplier's list, with no new timestamp.
        fault = self._judge(image, attesters)
        if fault is None:
            if len(self._passed) >= _PASSED_MAX:
                self._passed.clear()
            self._passed.add(asked)
        return fault

    def _judge(self, image: DirectedImage, attesters: Attesters) -> str | None:
        target = self._listed(image.path, image.hardware_id)
        if target is None:
            return "the Image repository does not list it"
        match = read_shall_match(image.path, target)
        listed = (target.length, target.hashes.get("sha256"), match.release_counter)
        if listed != (image.length, image.sha256, image.release_counter) or image.hardware_id not in match.hardware_ids:
            return "the Image repository lists another image under its path"
        try:
            self._summary(target, image.hardware_id, attesters)
        except EvidenceError as exc:
            return str(exc)
        return None

    def _summary(self, target: TargetFile, hardware_id: str, attesters: Attesters) -> tuple[Summary, Sequence[Key]]:
        evidence = self._repository.evidence_of(target)
        if SUMMARY not in evidence:
            raise EvidenceError("no verification summary is listed with it")
        data = self._repository.evidence(evidence[SUMMARY])
        if data is None:
            raise EvidenceError(f"its summary, evidence/{evidence[SUMMARY]}.json, is missing or was changed")
        summary, signers = read_summary(data, attesters)
        if fault := summary_fault(summary, sha256=target.hashes["sha256"], hardware_id=hardware_id, evidence=evidence):
            raise EvidenceError(fault)
        return summary, signers

    def _listed(self, path: str, hardware_id: str) -> TargetFile | None:
        if is_delta(path):
            return None
        loaded = {"targets": self._targets}

        def load(name: str, delegator: str) -> Targets:
            if name not in loaded:
                loaded[name] = self._role(name, loaded[delegator])
            return loaded[name]

        try:
            return find_target(path, (hardware_id,), load)
        except RepositoryError as exc:
            raise self._unverified(exc) from exc

    def _role(self, name: str, delegator: Targets) -> Targets:
        """A supplier's targets, verified by its delegator's keys; none where there is no file."""
        snapshot = self._repository.metadata.load("snapshot", Snapshot)
        meta = snapshot.meta.get(f"{name}.json")
        data = self._repository.metadata_file(f"{meta.version}.{name}.json") if meta else None
        if data is None:
            return Targets()
        metadata = Metadata[Targets].from_bytes(data)
        delegator.verify_delegate(name, metadata.signed_bytes, metadata.signatures)
        check_delegation_keys(metadata.signed)
        return metadata.signed

    def _read_anew(self) -> None:
        try:
            at = (self._folder / "timestamp.json").stat()
            seen = (at.st_mtime_ns, at.st_ino, at.st_size)
            if seen == self._seen:
                return
            self._targets = self._verified_targets()
        except (RepositoryError, OSError) as exc:
            raise self._unverified(exc) from exc
        self._attesters = attesters_of(self._targets)
        self._passed = set()
        self._seen = seen

    def _verified_targets(self) -> Targets:
        root: Root | None = None
        for version in root_versions(self._folder):
            metadata = Metadata[Root].from_bytes((self._folder / f"{version}.root.json").read_bytes())
            for holder in (root, metadata.signed):
                if holder is not None:
                    holder.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
            check_root_keys(metadata.signed)
            root = metadata.signed
        if root is None:
            raise SigningError(f"{self._folder} holds no root")
        found = self._repository.metadata.current("targets")
        root.verify_delegate("targets", found.signed_bytes, found.signatures)
        check_delegation_keys(found.signed)
        targets: Targets = found.signed
        return targets

    def _unverified(self, exc: Exception) -> SigningError:
        return SigningError(f"the Image repository in {self._folder} cannot be verified: {exc}")
