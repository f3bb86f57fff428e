"""What is said of a pending change of keys: what becomes different, everything it says, who signed, who is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import RenderableType
from tuf.api.metadata import Root

from orchestrator.cli.screen import fields, table
from orchestrator.cli.words import moment_of, plain
from signing.change import Demand, PendingChange
from signing.change_edits import ROLES
from signing.key_names import label

REPOSITORIES = {"director": "Director", "image": "Image repository"}
IMAGES_SHOWN = 20
"""Most images of the targets that are named one by one."""


def differences(change: PendingChange) -> list[str]:
    """In words, what is different once the change is published; computed, not taken from the file's word."""
    return [*_root_differences(change), *_targets_differences(change)]


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


def _targets_differences(change: PendingChange) -> Iterator[str]:
    if change.targets is None:
        return
    targets = change.targets.signed
    yield f"targets: {len(targets.targets)} images are signed anew, until {moment_of(targets.expires)}"
    for path in list(targets.targets)[:IMAGES_SHOWN]:
        yield f"targets: lists {path}"
    if len(targets.targets) > IMAGES_SHOWN:
        yield f"targets: and {len(targets.targets) - IMAGES_SHOWN} more, all of them in the file"


def change_document(change: PendingChange, file: Path) -> dict[str, object]:
    """A pending change as JSON."""
    return {
        "file": str(file),
        "repository": change.repository,
        "root_before": change.before.signed.version,
        "files": [
            {"role": each.signed.type, "version": each.signed.version, "expire_time": each.signed.expires.isoformat()}
            for each in change.files()
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
    versions = ", ".join(f"{each.signed.type} version {each.signed.version}" for each in change.files())
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
        keys_table(change.root_after),
        signatures_table(change),
    ]


def keys_table(root: Root) -> RenderableType:
    """Which keys hold which role, and how many must sign."""
    result = table("role", "must sign", "keys")
    for name in ROLES:
        role = root.roles[name]
        keys = ", ".join(label(root.keys[keyid]) for keyid in role.keyids)
        result.add_row(name, f"{role.threshold} of {len(role.keyids)}", plain(keys))
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
