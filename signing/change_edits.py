"""Edits of keys, each of which makes or alters a pending change: renew, add, revoke, rotate, threshold.

An edit is refused where the result would be refused by vehicles, or would leave a role that cannot be signed for. What
is edited loses the signatures it had: they were for something else. Deciding who may edit is nobody's matter: an
unsigned change is worth nothing. Which suppliers there are, and for what, is `supplier_edits`' matter.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from securesystemslib.signer import Key
from tuf.api.metadata import DelegatedRole, Metadata, Role, Root, Targets

from signing.change import PendingChange, delegations_of
from signing.errors import ChangeRefusedError, VerificationError
from signing.image_metadata import TARGETS_LIFE
from signing.key_names import label, name_of
from signing.keys import key_value
from signing.names import RepositoryName
from signing.roots import ROOT_LIFE, check_root_keys
from signing.versions import next_version, require_utc

ROLES = ("root", "targets", "snapshot", "timestamp")
Holder = Root | Targets
"""What binds keys to roles: a root to its four, a list of images to its suppliers."""
RootEdit = Callable[[Root], None]
KeysEdit = Callable[[Holder], None]
"""Of a root's roles, and of suppliers alike."""


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


def begin(
    repository: RepositoryName, root: Metadata[Root], published: Mapping[str, Metadata[Targets]] | None = None
) -> PendingChange:
    """Nothing changed yet; only edits make something of it that can be kept.

    Args:
        repository: Whose keys.
        root: In force.
        published: The Image repository's lists of images, by role; None for the Director's, which has none.
    """
    return PendingChange(repository=repository, before=root, root=None, delegations=delegations_of(published or {}))


def with_listings(
    change: PendingChange, published: Mapping[str, Metadata[Targets]], now: datetime, *, renew: str = ""
) -> PendingChange:
    """The change with every list of images to be signed anew whose keys would ask for it, and one that is to last.

    Args:
        change: After its edits. Left as it is.
        published: The Image repository's lists, by role: `targets`, and suppliers.
        now: Fleet time, UTC.
        renew: A role whose list is to be signed also if the signatures that stand would do.

    Raises:
        ChangeRefusedError: The Director's targets are made by its signer, one for each vehicle; nobody trusts that
            role.
    """
    if change.repository != "image":
        raise ChangeRefusedError("the Director's targets are signed online, vehicle by vehicle; renew `root` instead")
    roles = [Targets.type, *change.suppliers_after]
    if renew and renew not in roles:
        raise ChangeRefusedError(f"{renew} is no role of the Image repository; it has {', '.join(roles)}")
    for role in roles:
        file = change.listings.get(role) or published.get(role) or Metadata(Targets())
        judge = change.judge_of(role)
        signed = judge is not None and judge.get_verification_result(role, file.signed_bytes, file.signatures).verified
        if role in change.listings or role == renew or not signed:
            change = opened(change, role, published, now)
    gone = change.listings.keys() - roles
    return replace(change, listings={role: file for role, file in change.listings.items() if role not in gone})


def opened(
    change: PendingChange, role: str, published: Mapping[str, Metadata[Targets]], now: datetime
) -> PendingChange:
    """The change with a list of images in it, as it stands there, else as published, to be edited and signed."""
    file = change.listings.get(role) or published.get(role) or Metadata(Targets())
    known = published[role].signed.version if role in published else 0
    targets = Metadata(copy.deepcopy(file.signed))
    targets.signed.version = next_version(known, now)
    targets.signed.expires = require_utc(now) + TARGETS_LIFE
    return replace(change, listings=dict(change.listings) | {role: targets})


def renewing(holder: Holder) -> None:
    """Change nothing but version and expiry."""


def adding(role: str, keys: Sequence[Key]) -> KeysEdit:
    """Give a role more keys; its threshold stays."""

    def edit(holder: Holder) -> None:
        for key in keys:
            add_key(holder, role, key)

    return edit


def revoking(key: Key) -> KeysEdit:
    """Take a key away from its role, without a new one in its place."""

    def edit(holder: Holder) -> None:
        holder.revoke_key(key.keyid, _role_of(holder, key))

    return edit


def rotating(role: str, old: Sequence[Key], new: Sequence[Key]) -> KeysEdit:
    """Put new keys in the place of old ones of a role; no old ones named means all of them."""

    def edit(holder: Holder) -> None:
        held = roles_of(holder)[role].keyids
        for keyid in [key.keyid for key in old] or list(held):
            if keyid not in held:
                key = keys_of(holder)[keyid]
                raise ChangeRefusedError(f"{keyid[:8]} is no {role} key, but one of {_role_of(holder, key)}")
            holder.revoke_key(keyid, role)
        for key in new:
            add_key(holder, role, key)

    return edit


def requiring(role: str, threshold: int) -> KeysEdit:
    """Ask for another number of signatures for a role."""

    def edit(holder: Holder) -> None:
        roles_of(holder)[role].threshold = threshold

    return edit


def roles_of(holder: Holder) -> Mapping[str, Role | DelegatedRole]:
    """The roles whose keys a root or a list of images names."""
    if isinstance(holder, Root):
        return holder.roles
    return (holder.delegations.roles if holder.delegations else None) or {}


def keys_of(holder: Holder) -> Mapping[str, Key]:
    """The keys that a root or a list of images names, by id."""
    if isinstance(holder, Root):
        return holder.keys
    return holder.delegations.keys if holder.delegations else {}


def add_key(holder: Holder, role: str, key: Key) -> None:
    """Give a role a key that has none yet.

    Raises:
        ChangeRefusedError: It has a role, or its name is taken.
    """
    keys = keys_of(holder)
    if key.keyid in keys:
        raise ChangeRefusedError(f"{label(keys[key.keyid])} is a {_role_of(holder, key)} key already")
    if name_of(key) and name_of(key) in {name_of(other) for other in keys.values()}:
        raise ChangeRefusedError(f"another key is named {name_of(key)}; give this one a name of its own, NAME=FILE")
    holder.add_key(key, role)


def check_thresholds(roles: Mapping[str, Role | DelegatedRole]) -> None:
    """Refuse a role that nobody could sign for, or anybody.

    Raises:
        ChangeRefusedError: Its threshold is not between one and the number of its keys.
    """
    for name, role in roles.items():
        if not 1 <= role.threshold <= len(role.keyids):
            raise ChangeRefusedError(
                f"{name} would have {len(role.keyids)} keys of which {role.threshold} must sign; add a key, rotate "
                "instead of revoking, or change the threshold first"
            )


def _role_of(holder: Holder, key: Key) -> str:
    for name, role in roles_of(holder).items():
        if key.keyid in role.keyids:
            return name
    raise ChangeRefusedError(f"{label(key)} has no role here")


def _check(root: Root, repository: RepositoryName, others: Root | None) -> None:
    try:
        check_root_keys(root)
    except VerificationError as exc:
        raise ChangeRefusedError(f"every vehicle would refuse this root: {exc}") from exc
    check_thresholds(root.roles)
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
