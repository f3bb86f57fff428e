"""Root metadata: the one place where keys are bound to roles.

A root editor that lets one public key stand under two ids voids a threshold, so every root made here is checked by
the same rule that vehicles apply.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Delegations, Metadata, Role, Root, Targets
from tuf.api.serialization.json import JSONSerializer

from signing.errors import AttackCode, SigningError, VerificationError
from signing.key_names import named
from signing.keys import duplicate_key, load_signer
from signing.quorums import DIRECTOR, Quorums, key_names
from signing.versions import require_utc

ROOT_LIFE = timedelta(days=365)
_NAME = re.compile(r"([1-9][0-9]{0,9})\.root\.json")


def first_root(keys_folder: Path, now: datetime, quorums: Quorums = DIRECTOR) -> bytes:
    """Version 1 of a repository's root, signed by all its root keys.

    Args:
        keys_folder: Holds the keys, as `keys.generate_keys` made them.
        now: Fleet time, UTC; it expires a year later.
        quorums: How many keys each role has, and how many must sign.

    Raises:
        KeyFileError: A key is missing.
        SigningError: A key stands in two places.
    """
    root = Root(version=1, expires=require_utc(now) + ROOT_LIFE, consistent_snapshot=True)
    for role in root.roles:
        for name in key_names(role, quorums[role]):
            root.add_key(named(load_signer(keys_folder, name).public_key, name), role)
        root.roles[role].threshold = quorums[role].threshold
    return sign_root(root, [load_signer(keys_folder, name) for name in key_names("root", quorums["root"])])


def newest_root(metadata: Path) -> Metadata[Root]:
    """The newest root in a folder of `<n>.root.json`.

    Raises:
        SigningError: There is none, or it is damaged.
    """
    versions = root_versions(metadata)
    if not versions:
        raise SigningError(f"no root in {metadata}: restore it from where the keys were made")
    path = metadata / f"{versions[-1]}.root.json"
    try:
        return Metadata[Root].from_bytes(path.read_bytes())
    except (RepositoryError, OSError) as exc:
        raise SigningError(f"{path} is damaged or cannot be read: restore it from where the keys were made") from exc


def root_versions(metadata: Path) -> list[int]:
    """The versions of the roots in a folder, in order."""
    return sorted(int(found[1]) for path in metadata.glob("*.root.json") if (found := _NAME.fullmatch(path.name)))


def sign_root(root: Root, signers: Sequence[CryptoSigner]) -> bytes:
    """The signed bytes of `root`, signed by all `signers`.

    Args:
        root: The new root; for version N+1 the signers must meet the thresholds of N and of N+1.
        signers: Whoever signs.

    Raises:
        SigningError: A key stands in two places, or its own threshold is not met.
    """
    try:
        check_root_keys(root)
    except VerificationError as exc:
        raise SigningError(f"this root would be refused by every vehicle: {exc}") from exc
    metadata = Metadata(root)
    for signer in signers:
        metadata.sign(signer, append=True)
    result = root.get_verification_result("root", metadata.signed_bytes, metadata.signatures)
    if not result.verified:
        raise SigningError(f"root needs {result.threshold} signatures of its root keys, got {len(result.signed)}")
    return metadata.to_bytes(JSONSerializer(compact=True))


def check_root_keys(root: Root) -> None:
    """Refuse a root in which a public key could count twice or serve two roles.

    Source: Uptane 2.1.0, How to check Root metadata ("unique keys"); Deployment Best Practices, key uniqueness.

    Raises:
        VerificationError: DUPLICATE_KEY, or MALFORMED for a key that cannot be read.
    """
    used: dict[str, str] = {}
    for name, role in root.roles.items():
        _check_threshold(name, role)
        for keyid in role.keyids:
            if keyid in used:
                raise VerificationError(
                    AttackCode.DUPLICATE_KEY, f"key {keyid[:16]} serves the roles {used[keyid]} and {name}"
                )
            used[keyid] = name
    _check_unique(root, "root metadata")


def check_delegation_keys(targets: Targets) -> None:
    """Refuse targets that delegate to a public key that stands under two ids, or by an odd threshold.

    Raises:
        VerificationError: DUPLICATE_KEY, or MALFORMED for a key that cannot be read.
    """
    if targets.delegations is not None:
        for name, role in (targets.delegations.roles or {}).items():
            _check_threshold(name, role)
        _check_unique(targets.delegations, "delegations")


def _check_threshold(name: str, role: Role) -> None:
    """python-tuf refuses less than one; `true` is one to Python and no number to other readers."""
    if type(role.threshold) is not int:
        raise VerificationError(AttackCode.MALFORMED, f"the threshold of {name} is {role.threshold!r}, no number")


def _check_unique(holder: Root | Delegations, where: str) -> None:
    try:
        pair = duplicate_key(holder.keys.values())
    except SigningError as exc:
        raise VerificationError(AttackCode.MALFORMED, f"{where}: {exc}") from exc
    if pair:
        raise VerificationError(
            AttackCode.DUPLICATE_KEY, f"{where}: one public key stands under the ids {pair[0][:16]} and {pair[1][:16]}"
        )
