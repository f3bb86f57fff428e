"""`outrider keys status`: which keys hold which role, when every file ends, and what waits for signatures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import typer
from rich.console import RenderableType
from tuf.api.metadata import Targets

from orchestrator.cli import durations
from orchestrator.cli.image_repo import time_of_signing
from orchestrator.cli.keys_sign import ceremony_errors
from orchestrator.cli.keys_view import REPOSITORIES
from orchestrator.cli.local import require_folder
from orchestrator.cli.screen import table
from orchestrator.cli.session import Session, operator_command
from orchestrator.cli.words import NONE, moment_of, plain, status
from signing.ceremony import DataFolder
from signing.change import PendingChange, delegations_of, load_change, same_signed
from signing.change_edits import ROLES, Holder, keys_of, roles_of
from signing.image_repo import ImageRepository
from signing.key_names import label
from signing.names import RepositoryName
from signing.roots import newest_root

app = typer.Typer(add_completion=False)

MARGINS = {
    "root": timedelta(days=91),
    "targets": timedelta(days=30),
    "snapshot": timedelta(days=2),
    "timestamp": timedelta(hours=8),
}
"""How long before its end a file is due: a root nine months into its year, the online ones when nobody renewed them."""
REMEDIES = {
    ("director", "root"): "outrider keys renew director",
    ("image", "root"): "outrider keys renew image",
    ("image", "targets"): "outrider keys renew image targets, or publish any release",
    ("image", "supplier"): "outrider keys renew image SUPPLIER, signed by its key; or it publishes any release",
    ("image", "snapshot"): "outrider image-repo renew",
    ("image", "timestamp"): "outrider image-repo renew",
}


@dataclass(frozen=True, slots=True)
class RoleState:
    """One role of one repository."""

    repository: RepositoryName
    role: str
    threshold: int
    keys: tuple[str, ...]
    version: int | None
    """None for files of which every vehicle has its own."""
    expires: datetime | None
    """Fleet time; None likewise."""

    def word(self, now: datetime) -> str:
        """`ok`, `due`, `expired`, or `online` for what is signed as it is needed."""
        if self.expires is None:
            return "online"
        if self.expires <= now:
            return "expired"
        return "due" if self.expires - now < MARGINS.get(self.role, MARGINS["targets"]) else "ok"


@operator_command(app, "status")
def status_(session: Session) -> None:
    """Show the keys of both repositories, when each file ends, and changes that wait for signatures."""
    data = DataFolder(require_folder(session.data))
    with ceremony_errors("restore director/ and image-repo/ from the backup of this installation"):
        states = [*director_roles(data), *image_roles(data)]
        waiting = list(pending_changes(data))
    now = time_of_signing(session)
    document = {
        "fleet_time": now.isoformat(),
        "roles": [_role_document(state, now) for state in states],
        "pending": [_pending_document(path, change, fits) for path, change, fits in waiting],
    }
    session.screen.answer(document, *_view(states, waiting, now))


def director_roles(data: DataFolder) -> Iterator[RoleState]:
    """The Director's roles; of those that are signed online every vehicle has files of its own."""
    root = newest_root(data.director_metadata).signed
    for role in ROLES:
        ends = (root.version, root.expires) if role == "root" else (None, None)
        yield RoleState("director", role, *_holders(root, role), *ends)


def image_roles(data: DataFolder) -> Iterator[RoleState]:
    """The Image repository's roles, with the files that readers see now."""
    metadata = ImageRepository(data.image_repo).metadata
    root = metadata.current("root").signed
    for role in ROLES:
        file = metadata.current(role).signed
        yield RoleState("image", role, *_holders(root, role), file.version, file.expires)
    listings = metadata.listings()
    for each in delegations_of(listings).values():
        for name in each.roles or {}:
            # A role that vouches for images has keys, and no file of its own that could end.
            ends = (listings[name].signed.version, listings[name].signed.expires) if name in listings else (None, None)
            yield RoleState("image", name, *_holders(Targets(delegations=each), name), *ends)


def pending_changes(data: DataFolder) -> Iterator[tuple[Path, PendingChange, bool]]:
    """Changes in the data folder, and whether each still follows the root of its repository."""
    for path in sorted(data.pending("director").parent.glob("*.json")):
        change = load_change(path)
        yield path, change, same_signed(change.before, newest_root(data.metadata_of(change.repository)))


def _holders(holder: Holder, role: str) -> tuple[int, tuple[str, ...]]:
    held = roles_of(holder)[role]
    return held.threshold, tuple(label(keys_of(holder)[keyid]) for keyid in held.keyids)


def _role_document(state: RoleState, now: datetime) -> dict[str, object]:
    return {
        "repository": state.repository,
        "role": state.role,
        "threshold": state.threshold,
        "keys": list(state.keys),
        "version": state.version or 0,
        "expire_time": state.expires.isoformat() if state.expires else "",
        "state": state.word(now),
        "remedy": _remedy(state, now),
    }


def _remedy(state: RoleState, now: datetime) -> str:
    if state.word(now) not in ("due", "expired"):
        return ""
    supplier = (state.repository, "supplier")
    return REMEDIES.get((state.repository, state.role)) or REMEDIES[supplier].replace("SUPPLIER", state.role)


def _pending_document(path: Path, change: PendingChange, fits: bool) -> dict[str, object]:
    return {
        "file": str(path),
        "repository": change.repository,
        "lacking": sum(demand.lacking for demand in change.demands()),
        "overtaken": not fits,
    }


def _signed_when(state: RoleState) -> str:
    return "signed as vehicles call" if state.repository == "director" else "signed image by image"


def _view(
    states: list[RoleState], waiting: list[tuple[Path, PendingChange, bool]], now: datetime
) -> Iterator[RenderableType]:
    shown = table("repository", "role", "must sign", "keys", "version", "ends, fleet time", "left", "state")
    for state in states:
        left = durations.in_words((state.expires - now).total_seconds()) if state.expires else NONE
        shown.add_row(
            REPOSITORIES[state.repository],
            state.role,
            f"{state.threshold} of {len(state.keys)}",
            plain(", ".join(state.keys)),
            str(state.version or ("each vehicle's" if state.repository == "director" else NONE)),
            moment_of(state.expires) if state.expires else _signed_when(state),
            left,
            status(state.word(now)),
        )
    yield shown
    for state in states:
        if remedy := _remedy(state, now):
            yield plain(f"{REPOSITORIES[state.repository]}, {state.role}: {state.word(now)} -> {remedy}")
    for path, change, fits in waiting:
        if not fits:
            yield plain(f"{path} was overtaken by another root -> remove it, and make the change anew")
            continue
        lacking = sum(demand.lacking for demand in change.demands())
        words = (
            f"waits for {lacking} more signature(s) -> outrider keys show" if lacking else "-> outrider keys publish"
        )
        yield plain(f"{path} {words} {path}")
