"""`outrider keys use`: has a role that signs by itself sign by a token or a service instead of a file."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.errors import BadInputError
from orchestrator.cli.key_secret import secret_from
from orchestrator.cli.keys_change import RepositoryName
from orchestrator.cli.keys_edit import ONLINE, RepositoryArgument
from orchestrator.cli.keys_sign import PasswordFile, ceremony_errors
from orchestrator.cli.local import require_folder
from orchestrator.cli.session import Session, local_command
from orchestrator.cli.words import plain
from signing.attestation import ATTEST
from signing.ceremony import DataFolder
from signing.key_folder import refer
from signing.key_sources import public_key_at, scheme_of

app = typer.Typer(add_completion=False)


@local_command(app, "use")
def use(
    session: Session,
    repository: RepositoryArgument,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="targets, snapshot or timestamp; of image also attest.")],
    uri: Annotated[
        str, typer.Argument(metavar="URI", help="A token as hsm:NUMBER?label=TOKEN, or another signer's URI.")
    ],
    public: Annotated[
        str, typer.Option("--public", metavar="FILE", help="Its public key (PEM); a token tells it by itself.")
    ] = "",
    password_file: PasswordFile = None,
) -> None:
    """Sign for a role by a token or a service: publications, the renewal and the Director's signer use it from then on.

    The key counts once the root, or for attest the targets, names it: `keys rotate` or `keys add`, in any order.
    """
    image = repository is RepositoryName.IMAGE
    if role not in ("targets", *ONLINE, *((ATTEST,) if image else ())):
        raise BadInputError(
            f"nothing signs for {role} of {repository.value} by itself",
            remedy="a ceremony takes the URI where it is signed: `outrider keys sign FILE --key URI`",
        )
    if scheme_of(uri) not in ("", "hsm") and not public:
        raise BadInputError(f"{uri} does not tell its public key", remedy="name a file with it: --public key.pub")
    folder = DataFolder(require_folder(session.data)).keys_of(repository.value)
    with ceremony_errors("nothing was changed"):
        key = public_key_at(public or uri, secret_from(password_file))
        if not image and key.scheme != "ed25519":
            raise BadInputError(
                f"the key at {uri} is {key.scheme}; the Director signs by ed25519 only, which repeats its bytes",
                remedy="keep the Director's online keys in encrypted files (docs/keys.md), or name an ed25519 service",
            )
        path = refer(folder, role, uri, key)
    session.screen.answer(
        {"file": str(path), "keyid": key.keyid, "uri": uri},
        plain(f"{path} says where the key {key.keyid[:8]} is."),
        plain(
            f"It signs once it is named: `outrider keys rotate {repository.value} {role} "
            f"--new {path.with_suffix('.pub')}`"
        ),
    )
