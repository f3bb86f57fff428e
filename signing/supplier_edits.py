"""Edits of suppliers: delegated roles of the Image repository, what each may speak for, and what it lists.

A supplier is trusted by the list of images that names its keys: the repository's own, or another supplier's. Who edits
has no say; the keys of the trusting role sign what a supplier may do, the supplier's keys what it lists. Changes of a
supplier's keys are those of any other role (`change_edits`).
Source: Uptane 2.1.0, Delegations to Targets roles.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain

from securesystemslib.signer import Key
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Root, TargetFile, Targets

from signing.attestation import ATTEST
from signing.change import PendingChange
from signing.change_edits import add_key, check_thresholds, opened, with_listings
from signing.delegations import HARDWARE_IDS_FIELD, ROLES_MAX
from signing.errors import ChangeRefusedError, VerificationError
from signing.key_names import label
from signing.keys import key_value
from signing.names import NAME_PATTERN, SUPPLIER_PATTERN
from signing.publication import NewImage, check_publication, new_entry
from signing.roots import check_delegation_keys
from signing.supplier_rules import allow

TargetsEdit = Callable[[Targets], None]
Published = Mapping[str, Metadata[Targets]]
"""The lists of images that are published, by role."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a supplier may speak for; None leaves what stands, or takes the default of a new one."""

    paths: tuple[str, ...] | None = None
    """Patterns of target paths, such as `acme/*`: `*` stops at `/`. A new supplier has to have some."""
    hardware_ids: tuple[str, ...] | None = None
    """Default: any hardware that nobody before it speaks for."""
    threshold: int | None = None
    """How many of its keys must sign. Default: one."""
    terminating: bool | None = None
    """Whether nobody after it is asked for what it may speak for. Default: no."""
    before: str = ""
    """The supplier that it is asked before; empty: after all others, or where it stands."""


def edit_suppliers(
    change: PendingChange,
    edit: TargetsEdit,
    published: Published,
    now: datetime,
    *,
    by: str = Targets.type,
    others: Sequence[Root] = (),
) -> PendingChange:
    """A change with the suppliers of a role edited, and with every list of images to be signed that this asks for.

    Args:
        change: Left as it is.
        edit: `delegating`, `undelegating`, or an edit of keys.
        published: What is published.
        now: Fleet time, UTC.
        by: The role that trusts them.
        others: Roots whose keys are refused here: one theft is one role.

    Raises:
        ChangeRefusedError: Vehicles would refuse the result, or a supplier could not be signed for.
    """
    if by != Targets.type and change.delegator_of(by) is None:
        raise ChangeRefusedError(f"{by} is no supplier, so that it can trust none")
    change = opened(change, by, published, now)
    change = replace(change, listings=copy.deepcopy(dict(change.listings)))
    targets = change.listings[by].signed
    if targets.delegations is None:
        targets.delegations = Delegations({}, {})
    edit(targets)
    _check(change, targets, [change.root_after, *others])
    return with_listings(change, published, now)


def delegating(name: str, keys: Sequence[Key], scope: Scope) -> TargetsEdit:
    """Trust a new supplier, or change what one may speak for."""

    def edit(targets: Targets) -> None:
        if name == ATTEST and (scope.paths or scope.hardware_ids or scope.before):
            raise ChangeRefusedError(f"{ATTEST} vouches for images and lists none: it has keys, and no paths")
        roles = _roles(targets)
        role = roles.get(name)
        if role is None:
            role = _new_role(name, keys, scope)
            roles[name] = role
        for key in keys:
            add_key(targets, name, key)
        if scope.paths is not None:
            role.paths = list(scope.paths)
        if scope.hardware_ids is not None:
            role.unrecognized_fields[HARDWARE_IDS_FIELD] = list(scope.hardware_ids)
        role.threshold = scope.threshold or role.threshold
        role.terminating = role.terminating if scope.terminating is None else scope.terminating
        if scope.before:
            _move(roles, name, scope.before)

    return edit


def undelegating(name: str) -> TargetsEdit:
    """Trust a supplier no more. Its list stays named in the snapshot: vehicles would take its absence for an attack."""

    def edit(targets: Targets) -> None:
        roles = _roles(targets)
        if name == ATTEST:
            raise ChangeRefusedError(f"without {ATTEST} images would be directed unseen; rotate its keys instead")
        if name not in roles:
            raise ChangeRefusedError(f"{name} is no supplier; there are {', '.join(roles) or 'none'}")
        for keyid in list(roles[name].keyids):
            targets.revoke_key(keyid, name)
        del roles[name]

    return edit


def supplying(
    change: PendingChange, supplier: str, images: Sequence[NewImage], published: Published, now: datetime
) -> PendingChange:
    """A change with more images in a supplier's list, to be signed by the supplier.

    Args:
        change: Left as it is.
        supplier: Whose list.
        images: All of one release.
        published: What is known to be published; a supplier at home knows its own change only.
        now: Fleet time, UTC.

    Raises:
        ImageRefusedError: An image outside of what the supplier may speak for, or one that no list would take.
        ChangeRefusedError: There is no such supplier.
    """
    role = change.delegation_of(supplier)
    if role is None:
        raise ChangeRefusedError(f"{supplier} is no supplier of this repository")
    entries = [new_entry(image) for image in images]
    for entry in entries:
        allow(role, entry)
    change = opened(change, supplier, published, now)
    targets = change.listings[supplier].signed
    check_publication(images, entries, targets.targets)
    listed: dict[str, TargetFile] = targets.targets | {entry.path: entry for entry in entries}
    targets.targets = listed
    return change


def _new_role(name: str, keys: Sequence[Key], scope: Scope) -> DelegatedRole:
    if name == ATTEST and keys:
        return DelegatedRole(name, [], 1, False, [])
    if not SUPPLIER_PATTERN.fullmatch(name):
        raise ChangeRefusedError(f"{name[:80]!r} is no name of a supplier: a-z, 0-9, `_` and `-`, a letter first")
    if not keys or not scope.paths:
        raise ChangeRefusedError(f"{name} is a new supplier: say its keys and at least one pattern of paths")
    return DelegatedRole(name, [], 1, False, [])


def _roles(targets: Targets) -> dict[str, DelegatedRole]:
    if targets.delegations is None or targets.delegations.roles is None:
        raise ChangeRefusedError("these targets delegate to bins of hashes, which no command here edits")
    return targets.delegations.roles


def _move(roles: dict[str, DelegatedRole], name: str, before: str) -> None:
    if before not in roles or before == name:
        raise ChangeRefusedError(f"{before} is no other supplier; there are {', '.join(roles)}")
    moved = roles.pop(name)
    order = list(roles.items())
    place = [each for each, _ in order].index(before)
    roles.clear()
    roles.update([*order[:place], (name, moved), *order[place:]])


def _check(change: PendingChange, edited: Targets, roots: Sequence[Root]) -> None:
    after = change.delegations_after
    roles = [role for each in after.values() for role in (each.roles or {}).values()]
    names = [role.name for role in roles]
    if len(names) != len(set(names)):
        raise ChangeRefusedError("a supplier of that name is trusted by another role already; choose another name")
    if len(names) >= ROLES_MAX:
        raise ChangeRefusedError(f"{len(names)} suppliers; vehicles look at fewer than {ROLES_MAX}")
    for role in roles:
        _check_scope(role)
    check_thresholds({role.name: role for role in roles})
    try:
        check_delegation_keys(edited)
    except VerificationError as exc:
        raise ChangeRefusedError(f"every vehicle would refuse these suppliers: {exc}") from exc
    used = {key_value(key): "a key of a root" for root in roots for key in root.keys.values()}
    for key in chain.from_iterable(each.keys.values() for each in after.values()):
        if where := used.get(key_value(key)):
            raise ChangeRefusedError(f"{label(key)} is {where} already: each role has keys of its own")
        used[key_value(key)] = "a key of another supplier"


def _check_scope(role: DelegatedRole) -> None:
    if role.name == ATTEST:
        return
    if not role.paths:
        raise ChangeRefusedError(f"{role.name} would have no paths, and so no say; remove it instead")
    for path in role.paths:
        if not path.isascii() or not path.isprintable() or path.startswith("/") or ".." in path or len(path) > 255:
            raise ChangeRefusedError(f"{path[:80]!r} is no pattern of target paths, such as acme/*")
    hardware_ids = role.unrecognized_fields.get(HARDWARE_IDS_FIELD)
    if hardware_ids is not None and not hardware_ids:
        raise ChangeRefusedError(f"{role.name} would have no hardware ids, and so no say; remove it instead")
    for hardware_id in hardware_ids or ():
        if not NAME_PATTERN.fullmatch(hardware_id):
            raise ChangeRefusedError(f"{hardware_id[:80]!r} is no hardware id")
