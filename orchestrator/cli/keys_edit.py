"""`outrider keys make|renew|add|revoke|rotate|threshold`: edits, each of which makes or alters a pending change."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qsl, urlparse

import typer
from securesystemslib.signer import CryptoSigner, Key
from tuf.api.metadata import Delegations, Root, Targets

from orchestrator.cli.errors import BadInputError
from orchestrator.cli.key_secret import new_password, secret_from
from orchestrator.cli.keys_change import Ground, Out, RepositoryName, altered
from orchestrator.cli.keys_sign import PasswordFile, ceremony_errors
from orchestrator.cli.session import Session, local_command, operator_command
from orchestrator.cli.words import plain
from signing.ceremony import DataFolder
from signing.change import PendingChange
from signing.change_edits import (
    Holder,
    KeysEdit,
    adding,
    edit_root,
    keys_of,
    renewing,
    requiring,
    revoking,
    roles_of,
    rotating,
    with_listings,
)
from signing.key_names import find_key, name_of, named
from signing.key_sources import public_key_at, scheme_of
from signing.keys import save_signer
from signing.names import NAME_PATTERN
from signing.supplier_edits import edit_suppliers

app = typer.Typer(add_completion=False)


RepositoryArgument = Annotated[RepositoryName, typer.Argument(metavar="REPOSITORY", help="director or image.")]
RoleArgument = Annotated[
    str, typer.Argument(metavar="ROLE", help="root, targets, snapshot or timestamp; of image also a supplier.")
]
ONLINE = ("snapshot", "timestamp")
"""Roles that sign by themselves in both repositories; the Director's targets do as well."""
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
        str, typer.Argument(metavar="[ROLE]", help="root; of image also targets or a supplier. Default: root.")
    ] = "root",
    out: Out = None,
) -> None:
    """Have a root last another year, or a list of images another 90 days, with the keys they have."""
    if role == "root":
        edited(session, repository, out, role, lambda holder: renewing)
    elif role in ONLINE or repository is RepositoryName.DIRECTOR:
        raise BadInputError(
            f"{role} of {repository.value} is renewed online, without a ceremony",
            remedy="`outrider image-repo renew` for the Image repository; the Director's signer does it by itself",
        )
    else:
        out = out or (None if role == "targets" else session.data / "pending" / f"{role}.json")
        edited(session, repository, out, role, None)


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
    edited(session, repository, out, role, lambda holder: adding(role, new))


@operator_command(app, "revoke")
def revoke(
    session: Session,
    repository: RepositoryArgument,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its name, or at least six characters of its id.")],
    out: Out = None,
) -> None:
    """Take a key away without a new one in its place. For a role's only key: rotate."""
    edited(session, repository, out, "", lambda holder: revoking(held_key(holder, key)), key=key)


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

    def edit(holder: Holder) -> KeysEdit:
        leaving = [held_key(holder, each) for each in old or ()]
        if new:
            return rotating(role, leaving, [new_key(each, password_file) for each in new])
        count = len(leaving) or len(roles_of(holder)[role].keyids)
        made.update(fresh_keys(DataFolder(session.data).keys_of(repository.value), repository, role, holder, count))
        return rotating(role, leaving, [named(signer.public_key, path.stem) for path, signer in made.items()])

    def keep() -> None:
        for path, signer in made.items():
            save_signer(signer, path)
            session.screen.note(f"made {path}; it is used once the change is published")

    edited(session, repository, out, role, edit, keep)


@operator_command(app, "threshold")
def threshold(
    session: Session,
    repository: RepositoryArgument,
    role: RoleArgument,
    count: Annotated[int, typer.Argument(metavar="N", min=1, help="How many of its keys must sign.")],
    out: Out = None,
) -> None:
    """Ask for another number of signatures for a role."""
    edited(session, repository, out, role, lambda holder: requiring(role, count))


def edited(
    session: Session,
    repository: RepositoryName,
    out: Path | None,
    role: str,
    edit: Callable[[Holder], KeysEdit] | None,
    keep: Callable[[], None] = lambda: None,
    *,
    key: str = "",
) -> None:
    """Make or alter a pending change of a role's keys, and show it.

    Args:
        session: Of the command.
        repository: Whose keys.
        out: The change's file; None takes the data folder's.
        role: Whose keys; empty: of whom `key` is.
        edit: Makes the edit of what binds that role's keys; None has its list of images signed anew instead.
        keep: Called when the edit was taken, before the change is written.
        key: Name or id of a key.
    """

    def alter(change: PendingChange, ground: Ground) -> PendingChange:
        by = ground.delegator(change, role, key)
        if edit is not None and by is None:
            change = edit_root(change, edit(change.root_after), ground.now, others=ground.others)
        elif edit is not None:
            holder = Targets(delegations=change.delegations_after[by or ""])
            others = (ground.others,)
            change = edit_suppliers(change, edit(holder), ground.published, ground.now, by=by or "", others=others)
        if repository is RepositoryName.IMAGE:
            change = with_listings(change, ground.published, ground.now, renew="" if edit else role)
        keep()
        return change

    altered(session, repository, out, alter)


def held_key(holder: Holder, text: str) -> Key:
    """The key of a root, or of the suppliers that a list of images trusts, that a person means.

    Raises:
        SigningError: no key or more than one is called so.
    """
    return find_key(holder if isinstance(holder, Root) else holder.delegations or Delegations({}, {}), text)


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
    folder: Path, repository: RepositoryName, role: str, holder: Holder, count: int
) -> Iterator[tuple[Path, CryptoSigner]]:
    """New keys for a role that signs by itself, under names that are free.

    Raises:
        BadInputError: the role's keys are offline ones, which are made where they stay.
    """
    if role not in ONLINE and (repository is RepositoryName.IMAGE or role != "targets"):
        raise BadInputError(
            f"{role} keys of {repository.value} are offline keys: none is made on this machine",
            remedy="`outrider keys make anna.pem` where it shall stay, then name it here by --new anna.pub",
        )
    taken = {name_of(key) for key in keys_of(holder).values()}
    names = (f"{role}-{number}" for number in itertools.count(2))
    there = {path.stem for path in folder.glob(f"{role}*.*")}  # also a file that says where a key is
    free = (name for name in names if name not in taken and name not in there)
    for name in itertools.islice(free, count):
        yield folder / f"{name}.pem", CryptoSigner.generate_ed25519()
