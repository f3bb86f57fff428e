"""A supplier with its key, and an Image repository that trusts it by whole ceremonies."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from securesystemslib.signer import CryptoSigner

from signing.ceremony import DataFolder
from signing.change import PendingChange, sign_change
from signing.change_edits import begin, with_listings
from signing.change_publication import Published, publish_image
from signing.image_repo import ImageRepository, NewImage
from signing.key_names import named
from signing.keys import load_signer
from signing.roots import newest_root
from signing.supplier_edits import Scope, TargetsEdit, delegating, edit_suppliers, supplying
from tests.signing.uptane_simulator import NOW

SCOPE = Scope(paths=("acme/*",), hardware_ids=("acme-brake-1",))


def a_key(name: str) -> CryptoSigner:
    """A key with a name, as `keys make` makes it."""
    signer = CryptoSigner.generate_ecdsa()
    named(signer.public_key, name)
    return signer


@dataclass
class Suppliers:
    """Ceremonies of suppliers on one data folder; each step is a minute after the one before."""

    data: DataFolder
    folder: Path
    now: datetime = NOW
    keys: dict[str, CryptoSigner] = field(default_factory=dict)
    """By the supplier that was last given each."""

    @property
    def repository(self) -> ImageRepository:
        return ImageRepository(self.data.image_repo)

    def begin(self) -> PendingChange:
        self.now += timedelta(minutes=1)
        return begin("image", newest_root(self.data.metadata_of("image")), self.repository.metadata.listings())

    def edit(self, edit: TargetsEdit, *, by: str = "targets", change: PendingChange | None = None) -> PendingChange:
        published = self.repository.metadata.listings()
        others = [newest_root(self.data.director_metadata).signed]
        return edit_suppliers(change or self.begin(), edit, published, self.now, by=by, others=others)

    def signed(self, change: PendingChange, *signers: CryptoSigner) -> PendingChange:
        for signer in signers:
            change, _ = sign_change(change, signer)
        return change

    @property
    def releases(self) -> CryptoSigner:
        """The key of the repository's own list."""
        return load_signer(self.data.image_keys, "targets")

    def publish(self, change: PendingChange) -> Published:
        return publish_image(change, self.data, self.now, images=self.folder)

    def add(self, name: str, scope: Scope = SCOPE, *, by: str = "targets") -> CryptoSigner:
        """Trust a supplier with one key, by a ceremony of both."""
        self.keys[name] = a_key(f"{name}-1")
        change = self.edit(delegating(name, [self.keys[name].public_key], scope), by=by)
        trusting = self.releases if by == "targets" else self.keys[by]
        self.publish(self.signed(change, trusting, self.keys[name]))
        return self.keys[name]

    def image(self, path: str = "acme/brake-2.img", counter: int = 2, **changes: object) -> NewImage:
        """An image of the supplier's own, its bytes in the folder that is brought."""
        file = self.folder / path.rpartition("/")[2]
        file.write_bytes(f"{path} {counter}".encode())
        fields = {"hardware_id": "acme-brake-1", "release_counter": counter, "version": "1.2.0"} | changes
        return NewImage(path, file, **fields)  # type: ignore[arg-type]

    def supply(self, name: str, *images: NewImage) -> PendingChange:
        """What a supplier signs at home: its list with more images, not yet signed."""
        published = self.repository.metadata.listings()
        change = with_listings(self.begin(), published, self.now, renew=name)
        return supplying(change, name, images, dict(change.listings), self.now)

    def release(self, name: str, *images: NewImage) -> None:
        """A supplier's images, signed and published."""
        self.publish(self.signed(self.supply(name, *images), self.keys[name]))


def sha256_of(image: NewImage) -> str:
    return hashlib.sha256(image.file.read_bytes()).hexdigest()
