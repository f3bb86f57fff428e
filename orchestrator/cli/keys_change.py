"""Makes or alters the file of a pending change where the installation is, and shows it: for all edits alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from tuf.api.metadata import Delegations, Metadata, Root, Targets

from orchestrator.cli.errors import BadInputError, RefusedError
from orchestrator.cli.image_repo import time_of_signing
from orchestrator.cli.keys_sign import ceremony_errors
from orchestrator.cli.keys_view import change_document, change_view, next_step
from orchestrator.cli.local import require_folder
from orchestrator.cli.session import Session
from orchestrator.cli.words import plain
from signing.ceremony import DataFolder
from signing.change import PendingChange, delegations_of, load_change, same_signed, save_change
from signing.change_edits import ROLES, begin
from signing.errors import SigningError
from signing.image_repo import ImageRepository
from signing.key_names import find_key
from signing.roots import newest_root


class RepositoryName(StrEnum):
    """Which of the two repositories."""

    DIRECTOR = "director"
    IMAGE = "image"


Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FILE",
        help="The pending change: edited further if it is there. Default: DIR/pending/REPOSITORY.json.",
    ),
]


@dataclass(frozen=True, slots=True)
class Ground:
    """What a change is made on."""

    now: datetime
    """Fleet time."""
    others: Root
    """The other repository's root, whose keys are refused."""
    published: Mapping[str, Metadata[Targets]]
    """The Image repository's lists of images by role; none for the Director."""

    def delegator(self, change: PendingChange, role: str, key: str) -> str | None:
        """Which role trusts a supplier, by its name or one of its keys; None for what the root binds.

        Raises:
            BadInputError: there is no such role.
        """
        if role in ROLES:
            return None
        if not role:
            return next((by for by, each in change.delegations_after.items() if holds(each, key)), None)
        by = change.delegator_of(role)
        if by is None:
            suppliers = [name for each in change.delegations_after.values() for name in each.roles or {}]
            raise BadInputError(
                f"{role} is no role of {change.repository}", remedy=f"it has {', '.join([*ROLES, *suppliers])}"
            )
        return by


def altered(
    session: Session,
    repository: RepositoryName,
    out: Path | None,
    alter: Callable[[PendingChange, Ground], PendingChange],
) -> None:
    """Make or alter a pending change in whatever way, and show it.

    Args:
        session: Of the command.
        repository: Whose keys.
        out: The change's file; None takes the data folder's.
        alter: Gives the change as it shall be.
    """
    data = DataFolder(require_folder(session.data))
    file = out or data.pending(repository.value)
    now = time_of_signing(session)
    image = repository is RepositoryName.IMAGE
    with ceremony_errors("nothing was changed"):
        published = ImageRepository(data.image_repo).metadata.listings() if image else {}
        others = newest_root(data.metadata_of("director" if image else "image")).signed
        change = alter(started(file, repository, data, published), Ground(now, others, published))
        save_change(change, file)
    session.screen.answer(change_document(change, file), *change_view(change, file), plain(next_step(change, file)))


def started(
    file: Path, repository: RepositoryName, data: DataFolder, published: Mapping[str, Metadata[Targets]]
) -> PendingChange:
    """The change in a file, or a new one; never one that the repository has left behind.

    Raises:
        RefusedError: the file is of the other repository, or follows another root or other suppliers.
    """
    current = newest_root(data.metadata_of(repository.value))
    if not file.exists():
        return begin(repository.value, current, published)
    change = load_change(file)
    if (
        change.repository != repository.value
        or not same_signed(change.before, current)
        or dict(change.delegations) != delegations_of(published)
    ):
        raise RefusedError(
            f"{file} is a change of {change.repository} after root {change.before.signed.version}; "
            f"{repository.value} has root {current.signed.version}, or other suppliers by now",
            remedy="remove it to start anew, or name another --out",
        )
    return change


def holds(delegations: Delegations, key: str) -> bool:
    """Whether a key of that name or id is among those of suppliers."""
    try:
        find_key(delegations, key)
    except SigningError:
        return False
    return True
