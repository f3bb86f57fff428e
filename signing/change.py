"""A pending change of a repository's keys: what shall be signed, by whom, and who has signed so far.

One value, and one file that holds it: it is made by an edit (`change_edits`), carried to whoever signs, collected, and
published when every threshold is met (`change_publication`). It carries the root before it, so that a person far from
any server is shown what would become different, and so that a repository which has moved on refuses it. Nothing in it
is secret, and nothing in it is believed: signatures are checked each time, the words for people are computed.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, Signature, Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Root, Targets
from tuf.api.serialization.json import JSONSerializer

from signing import canonical
from signing.delegations import suppliers_in
from signing.errors import ChangeFileError, KeyFileError, StaleChangeError, WrongKeyError
from signing.files import write_atomically
from signing.key_names import label
from signing.key_sources import did_not_sign
from signing.names import SUPPLIER_PATTERN, RepositoryName

CHANGE_MAX_BYTES = 16 * 1024 * 1024
"""Twice what the targets of an Image repository may have."""

_KIND = "outrider pending change"
_FORM = 1
_S = TypeVar("_S", Root, Targets)


@dataclass(frozen=True, slots=True)
class Demand:
    """One threshold that a file has to meet."""

    role: str
    """Which file: `root`, `targets` or the name of a supplier."""
    by: str
    """Whose keys, in words."""
    threshold: int
    signed: tuple[Key, ...]
    missing: tuple[Key, ...]
    """Keys that have not signed; `lacking` of them must."""

    @property
    def lacking(self) -> int:
        """How many signatures are still needed; 0 when it is met."""
        return max(0, self.threshold - len(self.signed))


@dataclass(frozen=True, slots=True)
class PendingChange:
    """New files of one repository on their way to their signatures."""

    repository: RepositoryName
    before: Metadata[Root]
    """The root that vehicles have now, version N."""
    root: Metadata[Root] | None
    """Version N+1; None when keys stay as they are."""
    listings: Mapping[str, Metadata[Targets]] = field(default_factory=dict)
    """Files of the Image repository that list images and are to be signed: its own, `targets`, and those of suppliers
    by their names. Where other keys or more of them must sign, what is listed changes, or it is to last longer."""
    delegations: Mapping[str, Delegations] = field(default_factory=dict)
    """What is published of suppliers: by the role that trusts them."""

    @property
    def root_after(self) -> Root:
        """The root in force once this is published."""
        return (self.root or self.before).signed

    @property
    def delegations_after(self) -> Mapping[str, Delegations]:
        """Likewise of suppliers, by the role that trusts them."""
        found: dict[str, Delegations] = {}
        to_visit: list[str] = [Targets.type]
        while to_visit:
            name = to_visit.pop(0)
            file = self.listings.get(name)
            each = file.signed.delegations if file else self.delegations.get(name)
            if each is not None and each.roles and name not in found:
                found[name] = each
                to_visit += each.roles
        return found

    @property
    def suppliers_after(self) -> Mapping[str, DelegatedRole]:
        """Likewise who lists images beside the repository, by name, in the order in which vehicles ask."""
        return {name: role for each in self.delegations_after.values() for name, role in suppliers_in(each).items()}

    def delegator_of(self, supplier: str) -> str | None:
        """The role that trusts a supplier once this is published; None when nobody does."""
        return next((name for name, each in self.delegations_after.items() if supplier in (each.roles or {})), None)

    def delegation_of(self, supplier: str) -> DelegatedRole | None:
        """What a supplier may speak for once this is published; None when nobody trusts it."""
        delegator = self.delegator_of(supplier)
        return (self.delegations_after[delegator].roles or {})[supplier] if delegator else None

    def judge_of(self, role: str) -> Root | Targets | None:
        """Whose keys say whether a listing is signed, once this is published; None when nobody trusts that role."""
        if role == Targets.type:
            return self.root_after
        delegator = self.delegator_of(role)
        return Targets(delegations=self.delegations_after[delegator]) if delegator else None

    def demands(self) -> tuple[Demand, ...]:
        """Every threshold, with who signed and who did not."""
        found = []
        if self.root is not None:
            version = self.before.signed.version
            found.append(_demand("root", self.root, self.before.signed, f"root keys of version {version}"))
            found.append(_demand("root", self.root, self.root.signed, f"root keys of version {version + 1}"))
        for role, file in self.listings.items():
            if (judge := self.judge_of(role)) is not None:
                found.append(_demand(role, file, judge, f"{role} keys"))
        return tuple(found)

    def files(self) -> Mapping[str, Metadata[Root] | Metadata[Targets]]:
        """What is to be signed, by role."""
        return ({} if self.root is None else {"root": self.root}) | dict(self.listings)


def sign_change(change: PendingChange, signer: Signer) -> tuple[PendingChange, tuple[str, ...]]:
    """Add a key's signature to every file that wants it.

    Args:
        change: Left as it is.
        signer: Whose key; a token or service may be asked for its secret here.

    Returns:
        The change with the signature, and the files that were signed: `root`, `targets`, suppliers.

    Raises:
        WrongKeyError: No file of this change wants that key, or its signature does not fit its public half.
        KeyFileError: The token or service behind the key would not sign.
    """
    keyid = signer.public_key.keyid
    wanted = {
        demand.role for demand in change.demands() if keyid in {key.keyid for key in (*demand.signed, *demand.missing)}
    }
    if not wanted:
        able = sorted({label(key) for demand in change.demands() for key in (*demand.signed, *demand.missing)})
        raise WrongKeyError(f"key {keyid[:8]} has nothing to sign in this change; it asks for {', '.join(able)}")
    signed = copy.deepcopy(change)
    for role, file in signed.files().items():
        if role in wanted:
            signature = _signature(signer, file.signed_bytes)
            _check_signature(signer.public_key, signature, file.signed_bytes, "what was just signed")
            file.signatures[keyid] = signature
    return signed, tuple(sorted(wanted))


def collect(change: PendingChange, copies: Sequence[PendingChange]) -> PendingChange:
    """The change with the signatures of all its copies.

    Raises:
        StaleChangeError: A copy is of another change, also when its versions are the same.
        WrongKeyError: A copy has a signature of a key of this change that does not fit.
    """
    merged = copy.deepcopy(change)
    for other in copies:
        if not _same(change, other):
            raise StaleChangeError(
                f"the copy is of another change ({_versions(other)}, this one is {_versions(change)} or was edited "
                "since); have that copy signed anew from this file"
            )
        theirs = other.files()
        for role, file in merged.files().items():
            known = {key.keyid: key for key in _signing_keys(merged, role)}
            for keyid, signature in theirs[role].signatures.items():
                if keyid in known:
                    _check_signature(known[keyid], signature, file.signed_bytes, f"{role} in the copy")
                    file.signatures[keyid] = signature
    return merged


def load_change(path: Path) -> PendingChange:
    """Read the file of a pending change.

    Raises:
        ChangeFileError: Missing, too long, or not such a file.
    """
    try:
        with path.open("rb") as file:
            data = file.read(CHANGE_MAX_BYTES + 1)
    except OSError as exc:
        raise ChangeFileError(f"cannot read the change {path}: {exc.strerror}") from exc
    if len(data) > CHANGE_MAX_BYTES:
        raise ChangeFileError(f"{path} has more than {CHANGE_MAX_BYTES} bytes: it is no pending change")
    try:
        return _from_json(canonical.decode(data))
    except (ValueError, KeyError, TypeError, AttributeError, RepositoryError) as exc:
        raise ChangeFileError(f"{path} is no pending change, or is damaged ({exc}); copy it anew") from exc


def save_change(change: PendingChange, path: Path) -> None:
    """Write the file of a pending change, whole or not at all.

    Raises:
        ChangeFileError: It could not be written; what stood there stands.
    """
    value = {
        "kind": _KIND,
        "form": _FORM,
        "repository": change.repository,
        "before": change.before.to_dict(),
        "root": change.root.to_dict() if change.root else None,
        "listings": {role: file.to_dict() for role, file in change.listings.items()},
        "delegations": {role: each.to_dict() for role, each in change.delegations.items()},
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())
    except OSError as exc:
        raise ChangeFileError(f"cannot write the change {path}: {exc.strerror}") from exc


def published_bytes(file: Metadata[_S], keyids: Collection[str]) -> bytes:
    """A signed file as the repository serves it, without signatures of keys that have no say in it.

    Args:
        file: Signed.
        keyids: Whose signatures count.
    """
    kept = copy.deepcopy(file)
    kept.signatures = {keyid: signature for keyid, signature in file.signatures.items() if keyid in keyids}
    return kept.to_bytes(JSONSerializer(compact=True))


def root_bytes(root: Metadata[Root], before: Root) -> bytes:
    """A root as the repository serves it: the keys of the one before it sign as well."""
    return published_bytes(root, {*before.roles["root"].keyids, *root.signed.roles["root"].keyids})


def delegations_of(published: Mapping[str, Metadata[Targets]]) -> dict[str, Delegations]:
    """What lists of images say of suppliers, by the role that trusts them."""
    said = {role: file.signed.delegations for role, file in published.items()}
    return {role: copy.deepcopy(each) for role, each in said.items() if each is not None and each.roles}


def same_signed(one: Metadata[_S], other: Metadata[_S]) -> bool:
    """Whether two files say the same, whoever signed them."""
    return one.signed_bytes == other.signed_bytes


def _same(one: PendingChange, other: PendingChange) -> bool:
    return one.repository == other.repository and _contents(one) == _contents(other)


def _contents(change: PendingChange) -> Mapping[str, bytes]:
    return {role: file.signed_bytes for role, file in {"before": change.before, **change.files()}.items()}


def _versions(change: PendingChange) -> str:
    return f"{change.repository} " + ", ".join(f"{role} {file.signed.version}" for role, file in change.files().items())


def _demand(role: str, file: Metadata[Any], by: Root | Targets, words: str) -> Demand:
    result = by.get_verification_result(role, file.signed_bytes, file.signatures)
    return Demand(
        role=role,
        by=words,
        threshold=result.threshold,
        signed=tuple(result.signed.values()),
        missing=tuple(result.unsigned.values()),
    )


def _signing_keys(change: PendingChange, role: str) -> list[Key]:
    return [key for demand in change.demands() if demand.role == role for key in (*demand.signed, *demand.missing)]


def _signature(signer: Signer, data: bytes) -> Signature:
    try:
        return signer.sign(data)
    except Exception as exc:  # what tokens and services raise is not documented; securesystemslib says to catch all
        raise KeyFileError(did_not_sign(signer, exc)) from exc


def _check_signature(key: Key, signature: Signature, data: bytes, where: str) -> None:
    try:
        key.verify_signature(signature, data)
    except UnverifiedSignatureError as exc:
        raise WrongKeyError(
            f"the signature of {label(key)} does not fit {where}: it is over other content, or by another key"
        ) from exc


def _from_json(value: Mapping[str, Any]) -> PendingChange:
    if value.get("kind") != _KIND or value.get("form") != _FORM:
        raise ValueError(f"it is not of kind {_KIND!r}, form {_FORM}")
    if value["repository"] not in ("director", "image"):
        raise ValueError(f"{str(value['repository'])[:40]!r} is no repository")
    change = PendingChange(
        repository=value["repository"],
        before=_metadata(value["before"], "root"),
        root=_metadata(value["root"], "root") if value["root"] is not None else None,
        listings={_role(role): _metadata(value["listings"][role], "targets") for role in _in_order(value["listings"])},
        delegations={
            _role(role): Delegations.from_dict(copy.deepcopy(each)) for role, each in value["delegations"].items()
        },
    )
    if not change.files():
        raise ValueError("it changes nothing")
    if change.root is not None and change.root.signed.version != change.before.signed.version + 1:
        raise ValueError(f"root {change.root.signed.version} does not follow {change.before.signed.version}")
    return change


def _in_order(roles: Iterable[str]) -> list[str]:
    """The repository's own list first, as a person reads them."""
    return sorted(roles, key=lambda role: (role != Targets.type, role))


def _role(name: str) -> str:
    if name != Targets.type and not SUPPLIER_PATTERN.fullmatch(name):
        raise ValueError(f"{name[:40]!r} is no role that lists images")
    return name


def _metadata(value: Any, role: str) -> Metadata[Any]:
    metadata: Metadata[Any] = Metadata.from_dict(copy.deepcopy(value))
    if metadata.signed.type != role:
        raise ValueError(f"{metadata.signed.type} stands in the place of {role}")
    return metadata
