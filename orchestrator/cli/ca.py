"""`outrider ca`: client identities for operators, and the installation's own authorities."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

import typer

from orchestrator.cli.errors import BadInputError, RefusedError
from orchestrator.cli.local import certificate_time, require_folder, settings_of
from orchestrator.cli.screen import fields
from orchestrator.cli.session import Session, local_command
from orchestrator.cli.words import moment_of, plain
from signing.ceremony import DataFolder, add_operator, renew_authority
from signing.errors import KeyFileError, SigningError

app = typer.Typer(no_args_is_help=True, add_completion=False)


class Role(StrEnum):
    """What an operator may do. All may look; an approver does not operate; an admin may everything."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    ADMIN = "admin"


class AuthorityName(StrEnum):
    """Whom an authority vouches for."""

    SERVER = "server"
    VEHICLE = "vehicle"
    OPERATOR = "operator"


@app.callback()
def group() -> None:
    """Issue certificates to operators, and renew the authorities behind all certificates."""


@local_command(app, "issue-operator")
def issue_operator(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The operator's name; stands in the ledger.")],
    role: Annotated[Role, typer.Option("--role", help="What the operator may do.")],
    days: Annotated[
        int | None,
        typer.Option("--days", min=1, max=825, help="Life of the certificate. Default: as the settings say (365)."),
    ] = None,
) -> None:
    """Issue a client identity into DIR/operators/NAME; hand that folder to the operator."""
    data = require_folder(session.data)
    settings = settings_of(data)
    life = timedelta(days=days or settings.certificate_operator_days)
    now = certificate_time()
    try:
        folder = add_operator(
            DataFolder(data), trust_domain=settings.trust_domain, name=name, role=role.value, now=now, life=life
        )
    except KeyFileError as exc:
        raise RefusedError(str(exc), remedy="nothing was issued") from exc
    except SigningError as exc:
        raise BadInputError(str(exc), remedy="choose another name") from exc
    document = {
        "name": name,
        "role": role.value,
        "folder": str(folder),
        "trust_domain": settings.trust_domain,
        "expire_time": (now + life).isoformat(),
    }
    session.screen.answer(
        document,
        fields(
            ("operator", plain(name, "bold")),
            ("role", role.value),
            ("identity", plain(str(folder))),
            ("valid until", moment_of(now + life)),
        ),
        plain(f"Next: outrider --as {name} rollout list"),
    )


@local_command(app, "renew")
def renew(
    session: Session,
    name: Annotated[AuthorityName, typer.Argument(metavar="AUTHORITY", help="server, vehicle or operator.")],
    days: Annotated[int, typer.Option("--days", min=1, max=7300, help="Life of the new certificate.")] = 3650,
) -> None:
    """Give an authority a certificate that lasts longer, under the same key; `serve` notices by itself.

    Nothing that was issued loses its validity. Vehicles learn of a new server authority when they renew their own
    certificate: renew it while they still have time for that.
    """
    data = DataFolder(require_folder(session.data))
    try:
        done = renew_authority(data, name.value, now=certificate_time(), life=timedelta(days=days))
    except KeyFileError as exc:
        raise RefusedError(str(exc), remedy="run this where the authority's key is") from exc
    except SigningError as exc:
        raise RefusedError(str(exc), remedy="give more --days") from exc
    document = {
        "authority": name.value,
        "expire_time_before": done.expires_before.isoformat(),
        "expire_time": done.expires.isoformat(),
        "files": [str(path) for path in done.files],
    }
    session.screen.answer(
        document,
        fields(
            ("authority", plain(name.value, "bold")),
            ("ended", moment_of(done.expires_before)),
            ("ends now", moment_of(done.expires)),
            ("written to", plain(", ".join(str(path) for path in done.files))),
        ),
        plain(f"`outrider serve` takes it up within seconds; {_AFTER[name]}"),
    )


_AFTER = {
    AuthorityName.SERVER: "vehicles get it with their next certificate, operators elsewhere need server-ca.pem anew.",
    AuthorityName.VEHICLE: "vehicles need nothing.",
    AuthorityName.OPERATOR: "operators need nothing.",
}
