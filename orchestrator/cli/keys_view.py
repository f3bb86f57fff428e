"""What is said of a pending change of keys: what becomes different, everything it says, who signed, who is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import RenderableType
from securesystemslib.signer import Key
from tuf.api.metadata import DelegatedRole, Delegations, TargetFile, Targets

from orchestrator.cli.screen import fields, table
from orchestrator.cli.words import moment_of, plain
from signing.change import Demand, PendingChange
from signing.change_edits import ROLES
from signing.delegations import HARDWARE_IDS_FIELD
from signing.key_names import label
from signing.match import read_shall_match

REPOSITORIES = {"director": "Director", "image": "Image repository"}
IMAGES_SHOWN = 20
"""Most images of the repository's own that are named one by one; a supplier reads all of what it signs."""


def differences(change: PendingChange) -> list[str]:
    """In words, what is different once the change is published; computed, not taken from the file's word."""
    return [*_root_differences(change), *_supplier_differences(change), *_listing_differences(change)]


def _root_differences(change: PendingChange) -> Iterator[str]:
    if change.root is None:
        return
    before, after = change.before.signed, change.root.signed
    for role in ROLES:
        old, new = before.roles[role], after.roles[role]
        for keyid in new.keyids:
            if keyid not in old.keyids:
                yield f"{role}: key {label(after.keys[keyid])} is new"
        for keyid in old.keyids:
            if keyid not in new.keyids:
                yield f"{role}: key {label(before.keys[keyid])} is taken away"
        if old.threshold != new.threshold:
            yield f"{role}: {new.threshold} must sign, {old.threshold} did"
    yield f"root: ends {moment_of(after.expires)}, ended {moment_of(before.expires)}"


def _listing_differences(change: PendingChange) -> Iterator[str]:
    for role, file in change.listings.items():
        targets = file.signed
        yield f"{role}: {len(targets.targets)} images are signed anew, until {moment_of(targets.expires)}"
        shown = IMAGES_SHOWN if role == Targets.type else None
        for path in list(targets.targets)[:shown]:
            yield f"{role}: lists {_image(role, targets.targets[path])}"
        if shown and len(targets.targets) > shown:
            yield f"{role}: and {len(targets.targets) - shown} more, all of them in the file"


def _image(role: str, target: TargetFile) -> str:
    """An image of the repository's own by its path; what a supplier signs with all that makes it the right one."""
    if role == Targets.type:
        return target.path
    match = read_shall_match(target.path, target)
    return (
        f"{target.path} for {', '.join(match.hardware_ids)}, release counter {match.release_counter}, "
        f"{target.length} bytes, sha256 {target.hashes.get('sha256', 'none')}"
    )


def _supplier_differences(change: PendingChange) -> Iterator[str]:
    before, after = _suppliers(change.delegations), _suppliers(change.delegations_after)
    for name, supplier in after.items():
        yield from _differences_of(supplier, before.get(name))
    for name, supplier in before.items():
        if name not in after:
            yield f"{supplier.by}: supplier {name} is trusted no more"
    if [name for name in before if name in after] != [name for name in after if name in before]:
        yield f"suppliers are asked in another order: {', '.join(after)}"


def _differences_of(new: _Supplier, old: _Supplier | None) -> Iterator[str]:
    name, scope = new.role.name, scope_words(new.role)
    if old is None:
        yield f"{new.by}: supplier {name} is new: {scope}"
    elif scope_words(old.role) != scope:
        yield f"{new.by}: supplier {name}: {scope}; it was {scope_words(old.role)}"
    keys = old.keys if old else {}
    yield from (f"{name}: key {label(key)} is new" for keyid, key in new.keys.items() if keyid not in keys)
    yield from (f"{name}: key {label(key)} is taken away" for keyid, key in keys.items() if keyid not in new.keys)
    if old is None or old.role.threshold != new.role.threshold:
        yield f"{name}: {new.role.threshold} must sign" + (f", {old.role.threshold} did" if old else "")


@dataclass(frozen=True, slots=True)
class _Supplier:
    by: str
    """The role that trusts it."""
    keys: Mapping[str, Key]
    role: DelegatedRole


def _suppliers(delegations: Mapping[str, Delegations]) -> Mapping[str, _Supplier]:
    """Every supplier by name, in the order in which vehicles ask."""
    return {
        role.name: _Supplier(by, {keyid: each.keys[keyid] for keyid in role.keyids}, role)
        for by, each in delegations.items()
        for role in (each.roles or {}).values()
    }


def scope_words(role: DelegatedRole) -> str:
    """What a supplier may speak for."""
    if not role.paths:
        return "vouches for images, lists none"
    hardware_ids = role.unrecognized_fields.get(HARDWARE_IDS_FIELD)
    hardware = f"hardware {', '.join(hardware_ids)}" if hardware_ids else "any hardware"
    ends = "; nobody is asked after it" if role.terminating else ""
    return f"paths {', '.join(role.paths or ())}, {hardware}{ends}"


def change_document(change: PendingChange, file: Path) -> dict[str, object]:
    """A pending change as JSON."""
    return {
        "file": str(file),
        "repository": change.repository,
        "root_before": change.before.signed.version,
        "files": [
            {"role": role, "version": each.signed.version, "expire_time": each.signed.expires.isoformat()}
            for role, each in change.files().items()
        ],
        "differences": differences(change),
        "signatures": [_demand_document(demand) for demand in change.demands()],
        "complete": not any(demand.lacking for demand in change.demands()),
    }


def _demand_document(demand: Demand) -> dict[str, object]:
    return {
        "role": demand.role,
        "by": demand.by,
        "threshold": demand.threshold,
        "signed": [label(key) for key in demand.signed],
        "missing": [label(key) for key in demand.missing],
        "lacking": demand.lacking,
    }


def change_view(change: PendingChange, file: Path) -> list[RenderableType]:
    """A pending change for people: before they sign, and when they ask who has not."""
    versions = ", ".join(f"{role} version {each.signed.version}" for role, each in change.files().items())
    return [
        fields(
            ("change", plain(str(file), "bold")),
            (
                "of",
                f"{REPOSITORIES[change.repository]}: {versions}; its root is version {change.before.signed.version}",
            ),
        ),
        "",
        plain("What becomes different:"),
        *(plain(f"  {line}") for line in differences(change)),
        "",
        plain("Every key from then on:"),
        keys_table(change),
        signatures_table(change),
    ]


def keys_table(change: PendingChange) -> RenderableType:
    """Which keys hold which role, and how many must sign."""
    root = change.root_after
    result = table("role", "must sign", "keys")
    for name in ROLES:
        role = root.roles[name]
        keys = ", ".join(label(root.keys[keyid]) for keyid in role.keyids)
        result.add_row(name, f"{role.threshold} of {len(role.keyids)}", plain(keys))
    for name, supplier in _suppliers(change.delegations_after).items():
        held = supplier.keys.values()
        result.add_row(name, f"{supplier.role.threshold} of {len(held)}", plain(", ".join(map(label, held))))
    return result


def signatures_table(change: PendingChange) -> RenderableType:
    """Who signed, and who is missing."""
    result = table("file", "asks for", "signed", "have not signed", "lacking")
    for demand in change.demands():
        result.add_row(
            demand.role,
            f"{demand.threshold} of the {demand.by}",
            plain(", ".join(label(key) for key in demand.signed) or "nobody"),
            plain(", ".join(label(key) for key in demand.missing) or "–"),
            plain(str(demand.lacking) if demand.lacking else "✓ met"),
        )
    return result


def next_step(change: PendingChange, file: Path) -> str:
    """What to do now."""
    if any(demand.lacking for demand in change.demands()):
        return (
            f"Next: outrider keys sign {file} --key KEY, wherever a key is; then outrider keys collect {file} COPY..."
        )
    return f"Next: outrider keys publish {file}"
