"""`outrider keys show|sign|collect|publish`: from a pending change to the next root.

Showing, signing and collecting need no server and no data folder: they are done where a key is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
from securesystemslib.signer import Key
from tuf.api.metadata import Delegations, Root

from orchestrator.cli.confirm import confirm_name
from orchestrator.cli.errors import BadInputError, CliError, RefusedError
from orchestrator.cli.image_repo import time_of_signing
from orchestrator.cli.key_secret import secret_from
from orchestrator.cli.keys_view import REPOSITORIES, change_document, change_view, next_step, signatures_table
from orchestrator.cli.local import images_of, require_folder
from orchestrator.cli.session import Session, local_command, operator_command
from orchestrator.cli.words import plain
from signing.ceremony import DataFolder
from signing.change import PendingChange, collect, load_change, save_change, sign_change
from signing.change_publication import publish_director, publish_image
from signing.errors import ChangeFileError, SigningError
from signing.key_names import find_key
from signing.key_sources import scheme_of, signer_at

app = typer.Typer(add_completion=False)

ChangeArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The pending change.")]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        metavar="PATH",
        help="File with the password of the key or the PIN of the token. Default: "
        "$OUTRIDER_KEY_PASSWORD_FILE, else asked for.",
    ),
]


@contextmanager
def ceremony_errors(remedy: str) -> Iterator[None]:
    """Errors of a ceremony as ends of a command."""
    try:
        yield
    except ChangeFileError as exc:
        raise BadInputError(str(exc), remedy=remedy) from exc
    except SigningError as exc:
        raise RefusedError(str(exc), remedy=remedy) from exc
    except OSError as exc:
        raise CliError(f"{exc.filename}: {exc.strerror}", remedy=remedy) from exc


@local_command(app, "show")
def show(session: Session, file: ChangeArgument) -> None:
    """Show what a pending change would do, who signed it, and who is missing."""
    with ceremony_errors("nothing was changed"):
        change = load_change(file)
    session.screen.answer(change_document(change, file), *change_view(change, file), plain(next_step(change, file)))


@local_command(app, "sign")
def sign(
    session: Session,
    file: ChangeArgument,
    key: Annotated[
        str,
        typer.Option(
            "--key",
            metavar="KEY",
            help="A key file (PEM, encrypted or not), a token as hsm:NUMBER?label=TOKEN, or another signer's URI.",
        ),
    ],
    which: Annotated[
        str, typer.Option("--as-key", metavar="NAME", help="Which key of the change a URI is; not needed for tokens.")
    ] = "",
    password_file: PasswordFile = None,
    yes: Annotated[bool, typer.Option("--yes", help="Sign without asking.")] = False,
) -> None:
    """Sign a pending change, where the key is; needs no server. Says what is signed first."""
    with ceremony_errors("nothing was signed"):
        change = load_change(file)
        known = find_known(change, which) if which else None
        if scheme_of(key) not in ("", "hsm") and known is None:
            raise BadInputError(f"{key} does not tell its public key", remedy="say which it is: --as-key NAME")
    if not yes:
        for part in change_view(change, file):
            session.screen.note(part)
        role, first = next(iter(change.files().items()))
        name = change.repository if role in ("root", "targets") else role
        confirm_name(f"{name}-{first.signed.version}", to="sign it")
    with ceremony_errors("nothing was signed"):
        change, signed = sign_change(change, signer_at(key, secret_from(password_file), known))
        save_change(change, file)
    session.screen.answer(
        change_document(change, file) | {"newly_signed": list(signed)},
        plain(f"Signed {' and '.join(signed)} of the {REPOSITORIES[change.repository]} in {file}."),
        signatures_table(change),
        plain(next_step(change, file)),
    )


@local_command(app, "collect")
def collect_(
    session: Session,
    file: ChangeArgument,
    copies: Annotated[list[Path], typer.Argument(metavar="COPY...", help="Copies of it that others have signed.")],
) -> None:
    """Bring the signatures of copies together in one file, and say who is missing."""
    with ceremony_errors("nothing was collected; have the copy signed anew from this file"):
        change = collect(load_change(file), [load_change(path) for path in copies])
        save_change(change, file)
    session.screen.answer(change_document(change, file), signatures_table(change), plain(next_step(change, file)))


@operator_command(app, "publish")
def publish(
    session: Session,
    file: ChangeArgument,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images", metavar="FOLDER", help="Where images are that a supplier lists. Default: beside FILE."
        ),
    ] = None,
    password_file: PasswordFile = None,
) -> None:
    """Publish a change whose thresholds are met; refused below them, and onto another root than the one it follows."""
    data = DataFolder(require_folder(session.data))
    with ceremony_errors("nothing was published"):
        change = load_change(file)
        now = time_of_signing(session)
        secret = secret_from(password_file)
        if change.repository == "director":
            done = publish_director(change, data, now, secret)
        else:
            done = publish_image(change, data, now, secret, images=images or file.parent, store=images_of(session.data))
        file.unlink()
    document = {
        "repository": change.repository,
        "root": change.root_after.version,
        "files": [str(path) for path in done.files],
        "signed": list(done.signed),
        "fleet_time": now.isoformat(),
    }
    session.screen.answer(
        document,
        plain(f"Published. The {REPOSITORIES[change.repository]} has root version {change.root_after.version}."),
        *([plain(f"  signed anew by keys that are here: {', '.join(done.signed)}")] if done.signed else []),
        *(plain(f"  wrote {path}") for path in done.files),
        plain("Running services take it up by themselves; each vehicle follows when it next calls."),
        plain(
            "Next: hand DIR/provisioning to the factory; keep the key files that were replaced from being used again."
        ),
    )


def find_known(change: PendingChange, name: str) -> Key:
    """A key of a change, before or after it."""
    holders: Sequence[Root | Delegations] = (change.root_after, *change.delegations_after.values())
    for holder in holders:
        with suppress(SigningError):
            return find_key(holder, name)
    return find_key(change.before.signed, name)
