"""Edits of a repository's keys, each of which makes or alters a pending change: renew, add, revoke, rotate, threshold.

An edit is refused where the result would be refused by vehicles, or would leave a role that cannot be signed for. What
is edited loses the signatures it had: they were for something else. Deciding who may edit is nobody's matter: an
unsigned change is worth nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Root, Targets

from signing.change import PendingChange
from signing.errors import ChangeRefusedError, VerificationError
from signing.image_metadata import TARGETS_LIFE
from signing.key_names import label, name_of
from signing.keys import key_value
from signing.names import RepositoryName
from signing.roots import ROOT_LIFE, check_root_keys
from signing.versions import next_version, require_utc

ROLES = ("root", "targets", "snapshot", "timestamp")
RootEdit = Callable[[Root], None]


def edit_root(change: PendingChange, edit: RootEdit, now: datetime, *, others: Root | None = None) -> PendingChange:
    """A change with its root edited once more; it lasts a year from now.

    Args:
        change: What it starts from, `begin` for the first edit. Left as it is.
        edit: One of `adding`, `revoking`, `rotating`, `requiring`, `renewing`.
        now: Fleet time, UTC.
        others: The other repository's root: a key of that one is refused here.

    Raises:
        ChangeRefusedError: Vehicles would refuse the result, or a role could not be signed for.
    """
    root = Metadata(copy.deepcopy(change.root_after))
    root.signed.version = change.before.signed.version + 1
    root.signed.expires = require_utc(now) + ROOT_LIFE
    edit(root.signed)
    _check(root.signed, change.repository, others)
    return replace(change, root=root)


def begin(repository: RepositoryName, root: Metadata[Root]) -> PendingChange:
    """Nothing changed yet; only edits make something of it that can be kept."""
    return PendingChange(repository=repository, before=root, root=None, targets=None)


def with_targets(
    change: PendingChange, current: Metadata[Targets], now: datetime, *, renew: bool = False
) -> PendingChange:
    """The change with the Image repository's targets to be signed anew, if the new keys ask for it, or to last longer.

    Args:
        change: After its edits of the root. Left as it is.
        current: The targets that are published.
        now: Fleet time, UTC.
        renew: Also if the signatures that stand would do.

    Raises:
        ChangeRefusedError: The Director's targets are made by its signer, one for each vehicle.
    """
    if change.repository != "image":
        raise ChangeRefusedError("the Director's targets are signed online, vehicle by vehicle; renew `root` instead")
    after = change.root_after
    verified = after.get_verification_result("targets", current.signed_bytes, current.signatures).verified
    if verified and not (renew or change.targets is not None):
        return change
    targets = Metadata(copy.deepcopy(current.signed))
    targets.signed.version = next_version(current.signed.version, now)
    targets.signed.expires = require_utc(now) + TARGETS_LIFE
    return replace(change, targets=targets)


def renewing(root: Root) -> None:
    """Change nothing but version and expiry."""


def adding(role: str, keys: Sequence[Key]) -> RootEdit:
    """Give a role more keys; its threshold stays."""

    def edit(root: Root) -> None:
        for key in keys:
            _add(root, role, key)

    return edit


def revoking(key: Key) -> RootEdit:
    """Take a key away from its role, without a new one in its place."""

    def edit(root: Root) -> None:
        root.revoke_key(key.keyid, _role_of(root, key))

    return edit


def rotating(role: str, old: Sequence[Key], new: Sequence[Key]) -> RootEdit:
    """Put new keys in the place of old ones of a role; no old ones named means all of them."""

    def edit(root: Root) -> None:
        for keyid in [key.keyid for key in old] or list(root.roles[role].keyids):
            if keyid not in root.roles[role].keyids:
                raise ChangeRefusedError(f"{keyid[:8]} is no {role} key, but one of {_role_of(root, root.keys[keyid])}")
            root.revoke_key(keyid, role)
        for key in new:
            _add(root, role, key)

    return edit


def requiring(role: str, threshold: int) -> RootEdit:
    """Ask for another number of signatures for a role."""

    def edit(root: Root) -> None:
        root.roles[role].threshold = threshold

    return edit


def _add(root: Root, role: str, key: Key) -> None:
    if key.keyid in root.keys:
        raise ChangeRefusedError(f"{label(root.keys[key.keyid])} is a {_role_of(root, key)} key already")
    if name_of(key) and name_of(key) in {name_of(other) for other in root.keys.values()}:
        raise ChangeRefusedError(f"another key is named {name_of(key)}; give this one a name of its own, NAME=FILE")
    root.add_key(key, role)


def _role_of(root: Root, key: Key) -> str:
    for name, role in root.roles.items():
        if key.keyid in role.keyids:
            return name
    raise ChangeRefusedError(f"{label(key)} has no role in this root")


def _check(root: Root, repository: RepositoryName, others: Root | None) -> None:
    try:
        check_root_keys(root)
    except VerificationError as exc:
        raise ChangeRefusedError(f"every vehicle would refuse this root: {exc}") from exc
    for name in ROLES:
        role = root.roles[name]
        if not 1 <= role.threshold <= len(role.keyids):
            raise ChangeRefusedError(
                f"{name} would have {len(role.keyids)} keys of which {role.threshold} must sign; add a key, rotate "
                "instead of revoking, or change the threshold first"
            )
    if repository == "director":
        _check_online(root)
    if others is not None:
        theirs = {key_value(key) for key in others.keys.values()}
        shared = [key for key in root.keys.values() if key_value(key) in theirs]
        if shared:
            raise ChangeRefusedError(
                f"{label(shared[0])} is a key of the other repository: each has keys of its own, so that one theft is "
                "one repository"
            )


def _check_online(root: Root) -> None:
    """The Director's files are made again from their inputs: one key a role, whose signatures repeat."""
    for name in ROLES[1:]:
        keys = [root.keys[keyid] for keyid in root.roles[name].keyids]
        if len(keys) != 1 or keys[0].scheme != "ed25519":
            raise ChangeRefusedError(
                f"the Director's {name} has exactly one key, Ed25519, which its signer holds; rotate it instead"
            )
