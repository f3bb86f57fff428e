"""A repository of the vectors, as plain values: the same input gives the same bytes, faults included.

Keys come from published seeds and are Ed25519, so that anybody can make the vectors again. Nothing of Outrider's own
writers is used: what is written here only has to be what a vector says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner

VEHICLE = "vehicle-1"
GOOD_UNTIL, EXPIRED = "2031-06-01T12:00:00Z", "2031-05-01T11:59:59Z"
ROLES = ("root", "targets", "snapshot", "timestamp")
Payload = dict[str, Any]
Change = Callable[[Payload], object]


def key(seed: str) -> CryptoSigner:
    """The key of a seed."""
    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed.encode()).digest()))


def envelope(payload: Payload, signers: Sequence[CryptoSigner], repeat: int = 1) -> str:
    """A signed file; each signature stands there `repeat` times."""
    signed = encode_canonical(payload).encode()
    signatures = [signer.sign(signed).to_dict() for signer in signers] * repeat
    return json.dumps(
        {"signatures": signatures, "signed": payload}, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )


def public(signer: CryptoSigner) -> Payload:
    """A key as root metadata and delegations list it."""
    return dict(signer.public_key.to_dict())


@dataclass
class Repository:
    """One repository; set what is to be wrong before `files`."""

    name: str
    vehicle: str | None = None
    targets: Payload = field(default_factory=dict)
    delegations: Payload | None = None
    delegated: dict[str, Payload] = field(default_factory=dict)
    """Targets entries of each delegated role."""
    versions: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ROLES, 1))
    change: dict[str, Change] = field(default_factory=dict)
    """By role: edits the payload before it is signed."""
    rewrite: dict[str, Callable[[str], str]] = field(default_factory=dict)
    """By role: edits the text after it was signed."""
    signers: dict[str, list[CryptoSigner]] = field(default_factory=dict)
    repeat: dict[str, int] = field(default_factory=dict)
    rotations: list[tuple[Change, list[CryptoSigner]]] = field(default_factory=list)
    """Roots after the first: what each changes, and who signs it."""

    def keys(self, role: str) -> list[CryptoSigner]:
        """Who signs for a role, unless a vector says otherwise."""
        count = 2 if role == "root" else 1
        return [key(f"{self.name} {role} {number}") for number in range(1, count + 1)]

    def first_root(self) -> str:
        """The root that a vehicle leaves the factory with."""
        return envelope(self._root(), self.keys("root"))

    def files(self) -> dict[str, str]:
        """Everything that this repository serves but its first root, which every vehicle has."""
        files, root = dict[str, str](), self._root()
        for change, signers in self.rotations:
            root["version"] += 1
            change(root)
            text = envelope(root, signers, self.repeat.get("root", 1))
            files[f"{len(files) + 2}.root.json"] = self.rewrite.get("root", str)(text)
        listed = {"targets.json": {"version": self.versions["targets"]}}
        for name, entries in self.delegated.items():
            payload = self._head("targets") | {"version": 1, "targets": entries}
            files[f"1.{name}.json"] = self._signed(name, payload, [key(f"supplier {name}")])
            listed[f"{name}.json"] = {"version": 1}
        payload = self._head("targets") | {"targets": self.targets}
        if self.delegations is not None:
            payload["delegations"] = self.delegations
        files[f"{self.versions['targets']}.targets.json"] = self._signed("targets", payload)
        snapshot = self._signed("snapshot", self._head("snapshot") | {"meta": listed})
        files[f"{self.versions['snapshot']}.snapshot.json"] = snapshot
        digest = hashlib.sha256(snapshot.encode()).hexdigest()
        pinned = {"version": self.versions["snapshot"], "hashes": {"sha256": digest}, "length": len(snapshot.encode())}
        files["timestamp.json"] = self._signed(
            "timestamp", self._head("timestamp") | {"meta": {"snapshot.json": pinned}}
        )
        return files

    def _head(self, role: str) -> Payload:
        bound = {"vehicleId": self.vehicle} if self.vehicle is not None else {}
        head = {"_type": role, "spec_version": "1.0.31", "version": self.versions[role], "expires": GOOD_UNTIL}
        return head | bound

    def _root(self) -> Payload:
        keys = {signer.public_key.keyid: public(signer) for role in ROLES for signer in self.keys(role)}
        roles = {
            role: {"keyids": [signer.public_key.keyid for signer in self.keys(role)], "threshold": len(self.keys(role))}
            for role in ROLES
        }
        fields = {"consistent_snapshot": True, "keys": keys, "roles": roles, "version": 1}
        head = {"_type": "root", "spec_version": "1.0.31", "expires": GOOD_UNTIL}
        return head | fields

    def _signed(self, role: str, payload: Payload, signers: list[CryptoSigner] | None = None) -> str:
        self.change.get(role, lambda _: None)(payload)
        by = self.signers.get(role, signers if signers is not None else self.keys(role))
        return self.rewrite.get(role, str)(envelope(payload, by, self.repeat.get(role, 1)))


def target(content: str, hardware_ids: Sequence[str], counter: int, serials: Sequence[str] = ()) -> Payload:
    """An entry; with serials it is the Director's."""
    custom: Payload = {"shallMatch": {"hardwareIds": list(hardware_ids), "releaseCounter": counter}}
    if serials:
        custom["ecuIdentifiers"] = {serial: {"hardwareId": hardware_ids[0]} for serial in serials}
    data = content.encode()
    return {"length": len(data), "hashes": {"sha256": hashlib.sha256(data).hexdigest()}, "custom": custom}


def delegate(*roles: tuple[str, Payload]) -> Payload:
    """Delegations to suppliers, in this order; each with fields that differ from the usual ones."""
    keys, listed = {}, []
    for name, fields in roles:
        signer = key(f"supplier {name}")
        keys[signer.public_key.keyid] = public(signer)
        usual = {"name": name, "keyids": [signer.public_key.keyid], "threshold": 1, "terminating": False}
        listed.append(usual | {"paths": ["acme/*"]} | fields)
    return {"keys": keys, "roles": listed}
