"""`outrider keys make|renew|add|revoke|rotate|threshold`: edits, each of which makes or alters a pending change."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qsl, urlparse

import typer
from securesystemslib.signer import CryptoSigner, Key
from tuf.api.metadata import Root

from orchestrator.cli.errors import BadInputError, RefusedError
from orchestrator.cli.image_repo import time_of_signing
from orchestrator.cli.key_secret import new_password, secret_from
from orchestrator.cli.keys_sign import PasswordFile, ceremony_errors
from orchestrator.cli.keys_view import change_document, change_view, next_step
from orchestrator.cli.local import require_folder
from orchestrator.cli.session import Session, local_command, operator_command
from orchestrator.cli.words import plain
from signing.ceremony import DataFolder
from signing.change import PendingChange, load_change, same_signed, save_change
from signing.change_edits import (
    RootEdit,
    adding,
    begin,
    edit_root,
    renewing,
    requiring,
    revoking,
    rotating,
    with_targets,
)
from signing.image_repo import ImageRepository
from signing.key_names import find_key, name_of, named
from signing.key_sources import public_key_at, scheme_of
from signing.keys import save_signer
from signing.names import NAME_PATTERN
from signing.roots import newest_root

app = typer.Typer(add_completion=False)


class RepositoryName(StrEnum):
    """Which of the two repositories."""

    DIRECTOR = "director"
    IMAGE = "image"


class Role(StrEnum):
    """A role of a repository."""

    ROOT = "root"
    TARGETS = "targets"
    SNAPSHOT = "snapshot"
    TIMESTAMP = "timestamp"


RepositoryArgument = Annotated[RepositoryName, typer.Argument(metavar="REPOSITORY", help="director or image.")]
RoleArgument = Annotated[Role, typer.Argument(metavar="ROLE", help="root, targets, snapshot or timestamp.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FILE",
        help="The pending change: edited further if it is there. Default: DIR/pending/REPOSITORY.json.",
    ),
]
KEY_HELP = "[NAME=]KEY: a public or private key file (PEM), or a token as hsm:NUMBER?label=TOKEN."


@local_command(app, "make")
def make(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the private key goes, for example anna.pem.")],
    online: Annotated[
        bool, typer.Option("--online", help="For a role that signs by itself: Ed25519 in place of P-256.")
    ] = False,
    unencrypted: Annotated[bool, typer.Option("--unencrypted", help="Without a password.")] = False,
    password_file: PasswordFile = None,
) -> None:
    """Make a key file, encrypted by a password, with its public half beside it (.pub) to hand around."""
    if file.suffix == ".pub":
        raise BadInputError(f"{file} would be taken by its public half", remedy="name it .pem")
    password = "" if unencrypted else new_password(password_file)
    signer = CryptoSigner.generate_ed25519() if online else CryptoSigner.generate_ecdsa()
    with ceremony_errors("nothing was made"):
        save_signer(signer, file, password=password)
    public = file if unencrypted else file.with_suffix(".pub")
    document = {"file": str(file), "keyid": signer.public_key.keyid, "encrypted": not unencrypted}
    session.screen.answer(
        document,
        plain(f"Made the key {signer.public_key.keyid[:8]} in {file}{'' if unencrypted else ', encrypted'}."),
        plain(f"Next: outrider keys add REPOSITORY ROLE {public}, or keys rotate ... --new {public}"),
    )


@operator_command(app, "renew")
def renew(
    session: Session,
    repository: RepositoryArgument,
    role: Annotated[
        Role, typer.Argument(metavar="[ROLE]", help="root, or targets of image. Default: root.")
    ] = Role.ROOT,
    out: Out = None,
) -> None:
    """Have a root last another year, or the Image repository's targets another 90 days, with the keys they have."""
    if role is Role.ROOT:
        edited(session, repository, out, lambda root: renewing)
    elif role is Role.TARGETS and repository is RepositoryName.IMAGE:
        edited(session, repository, out, None)
    else:
        raise BadInputError(
            f"{role.value} of {repository.value} is renewed online, without a ceremony",
            remedy="`outrider image-repo renew` for the Image repository; the Director's signer does it by itself",
        )


@operator_command(app, "add")
def add(
    session: Session,
    repository: RepositoryArgument,
    role: RoleArgument,
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help=KEY_HELP)],
    password_file: PasswordFile = None,
    out: Out = None,
) -> None:
    """Give a role more keys; how many must sign stays as it is."""
    with ceremony_errors("nothing was changed"):
        new = [new_key(each, password_file) for each in keys]
    edited(session, repository, out, lambda root: adding(role.value, new))


@operator_command(app, "revoke")
def revoke(
    session: Session,
    repository: RepositoryArgument,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its name, or at least six characters of its id.")],
    out: Out = None,
) -> None:
    """Take a key away without a new one in its place. For a role's only key: rotate."""
    edited(session, repository, out, lambda root: revoking(find_key(root, key)))


@operator_command(app, "rotate")
def rotate(
    session: Session,
    repository: RepositoryArgument,
    role: RoleArgument,
    old: Annotated[
        list[str] | None, typer.Option("--old", metavar="KEY", help="Name or id of a key to replace. Default: all.")
    ] = None,
    new: Annotated[
        list[str] | None,
        typer.Option("--new", metavar="KEY", help=f"{KEY_HELP} Default: made in DIR/keys/REPOSITORY, one for each."),
    ] = None,
    password_file: PasswordFile = None,
    out: Out = None,
) -> None:
    """Put new keys in the place of old ones."""
    made: dict[Path, CryptoSigner] = {}

    def edit(root: Root) -> RootEdit:
        leaving = [find_key(root, each) for each in old or ()]
        if new:
            return rotating(role.value, leaving, [new_key(each, password_file) for each in new])
        count = len(leaving) or len(root.roles[role.value].keyids)
        made.update(fresh_keys(DataFolder(session.data).keys_of(repository.value), repository, role, root, count))
        return rotating(role.value, leaving, [named(signer.public_key, path.stem) for path, signer in made.items()])

    def keep() -> None:
        for path, signer in made.items():
            save_signer(signer, path)
            session.screen.note(f"made {path}; it is used once the change is published")

    edited(session, repository, out, edit, keep)


@operator_command(app, "threshold")
def threshold(
    session: Session,
    repository: RepositoryArgument,
    role: RoleArgument,
    count: Annotated[int, typer.Argument(metavar="N", min=1, help="How many of its keys must sign.")],
    out: Out = None,
) -> None:
    """Ask for another number of signatures for a role."""
    edited(session, repository, out, lambda root: requiring(role.value, count))


def edited(
    session: Session,
    repository: RepositoryName,
    out: Path | None,
    edit: Callable[[Root], RootEdit] | None,
    keep: Callable[[], None] = lambda: None,
) -> None:
    """Make or alter a pending change, and show it.

    Args:
        session: Of the command.
        repository: Whose keys.
        out: The change's file; None takes the data folder's.
        edit: Makes the edit of a root, the one that the change has by now; None renews the targets instead.
        keep: Called when the edit was taken, before the change is written.
    """
    data = DataFolder(require_folder(session.data))
    file = out or data.pending(repository.value)
    now = time_of_signing(session)
    with ceremony_errors("nothing was changed"):
        change = started(file, repository, data)
        others = newest_root(data.metadata_of("image" if repository is RepositoryName.DIRECTOR else "director"))
        if edit is not None:
            change = edit_root(change, edit(change.root_after), now, others=others.signed)
        if repository is RepositoryName.IMAGE:
            targets = ImageRepository(data.image_repo).metadata.current("targets")
            change = with_targets(change, targets, now, renew=edit is None)
        keep()
        save_change(change, file)
    session.screen.answer(change_document(change, file), *change_view(change, file), plain(next_step(change, file)))


def started(file: Path, repository: RepositoryName, data: DataFolder) -> PendingChange:
    """The change in a file, or a new one; never one that the repository has left behind.

    Raises:
        RefusedError: the file is of the other repository, or follows another root.
    """
    current = newest_root(data.metadata_of(repository.value))
    if not file.exists():
        return begin(repository.value, current)
    change = load_change(file)
    if change.repository != repository.value or not same_signed(change.before, current):
        raise RefusedError(
            f"{file} is a change of {change.repository} after root {change.before.signed.version}; "
            f"{repository.value} has root {current.signed.version}",
            remedy="remove it to start anew, or name another --out",
        )
    return change


def new_key(text: str, password_file: Path | None) -> Key:
    """The public key that `[NAME=]KEY` names, with a name: that of the file or token where none is given."""
    name, equals, source = text.partition("=")
    if not equals or not NAME_PATTERN.fullmatch(name):
        name, source = "", text
    key = public_key_at(source, secret_from(password_file))
    if not name:
        name = dict(parse_qsl(urlparse(source).query)).get("label", "") if scheme_of(source) else Path(source).stem
    return named(key, name) if name else key


def fresh_keys(
    folder: Path, repository: RepositoryName, role: Role, root: Root, count: int
) -> Iterator[tuple[Path, CryptoSigner]]:
    """New keys for a role that signs by itself, under names that are free.

    Raises:
        BadInputError: the role's keys are offline ones, which are made where they stay.
    """
    if role is Role.ROOT or (repository is RepositoryName.IMAGE and role is Role.TARGETS):
        raise BadInputError(
            f"{role.value} keys of {repository.value} are offline keys: none is made on this machine",
            remedy="`outrider keys make anna.pem` where it shall stay, then name it here by --new anna.pub",
        )
    taken = {name_of(key) for key in root.keys.values()}
    names = (f"{role.value}-{number}" for number in itertools.count(2))
    free = (name for name in names if name not in taken and not (folder / f"{name}.pem").exists())
    for name in itertools.islice(free, count):
        yield folder / f"{name}.pem", CryptoSigner.generate_ed25519()
