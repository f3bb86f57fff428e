"""`outrider keys init`, the first step of an installation; and the group of all commands about keys.

Leaves changes of keys to `keys_edit` and `keys_suppliers`, signing and publishing them to `keys_sign`, and where all
stand to `keys_status`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType

from orchestrator.cli import keys_edit, keys_sign, keys_status, keys_suppliers, keys_use
from orchestrator.cli.errors import BadInputError, RefusedError
from orchestrator.cli.local import certificate_time, settings_of
from orchestrator.cli.screen import table
from orchestrator.cli.session import Session, local_command
from orchestrator.cli.words import plain
from orchestrator.settings import FILE_NAME, Settings, default_toml
from signing import ceremony
from signing.errors import KeyFileError, SigningError
from signing.quorums import Quorums, chosen

app = typer.Typer(no_args_is_help=True, add_completion=False)

TRUST_DOMAIN = "demo.outrider.invalid"


@dataclass(frozen=True, slots=True)
class Made:
    """A part of what a ceremony makes."""

    path: str
    """Path or pattern within the data folder."""
    purpose: str
    place: str
    """Where it belongs."""
    offline: bool = False
    """Whether it must go offline before production: whoever steals this machine must not find it."""


def made_by(quorums: Mapping[str, Quorums]) -> Sequence[Made]:
    """What a ceremony makes, what for, and where it belongs."""
    director, image = quorums["director"], quorums["image"]

    def files(role: str) -> str:
        return f"keys/image/{role}{'*' if image[role].keys > 1 else ''}.pem"

    def signing(purpose: str, role: str) -> str:
        return purpose if image[role].keys == 1 else f"{purpose}, {image[role]} sign"

    return (
        Made("authorities/", "certificate authorities for servers, vehicles and operators", f"{HERE}, private"),
        Made("keys/director/root-*.pem", f"root keys of the Director, {director['root']} sign", A_NEW_ROOT, True),
        Made("keys/director/", "its online keys: targets, snapshot, timestamp", f"{HERE}, private"),
        Made("keys/image/root-*.pem", f"root keys of the Image repository, {image['root']} sign", A_NEW_ROOT, True),
        Made(
            files("targets"),
            signing("signs releases", "targets"),
            "take offline: `outrider release publish` only",
            True,
        ),
        Made(files("attest"), signing("vouches for images", "attest"), "take offline: where evidence is judged", True),
        Made("keys/image/", "its online keys: snapshot, timestamp", "move to where `outrider image-repo renew` runs"),
        Made("director/, image-repo/", "both repositories with their first metadata", HERE),
        Made("provisioning/", "what a factory puts into a vehicle", "hand to the factory, authentically"),
        Made("operators/admin/", "client identity of the first operator", "keep private"),
        Made(FILE_NAME, "settings, each explained", "read before production"),
    )


HERE = "keep on this server"
A_NEW_ROOT = "take offline: a new root only"


@app.callback()
def group() -> None:
    """Make the keys of an installation, change them, and see when they end."""


@local_command(app, "init")
def init(
    session: Session,
    trust_domain: Annotated[
        str,
        typer.Option(
            "--trust-domain", metavar="NAME", help=f"SPIFFE trust domain of all certificates. Default: {TRUST_DOMAIN}."
        ),
    ] = "",
    keys: Annotated[
        list[str] | None,
        typer.Option(
            "--keys",
            metavar="REPOSITORY.ROLE=M/N",
            help="Make N keys for a role, of which M must sign. Default: 2/3 for both roots, else 1/1.",
        ),
    ] = None,
) -> None:
    """Make everything that `outrider serve` needs: authorities, keys, both repositories, the first operator."""
    data = session.data
    try:
        made = made_by(chosen(keys or ()))
    except SigningError as exc:
        raise BadInputError(str(exc), remedy="correct --keys; nothing was made") from exc
    settings, fresh = prepare_settings(data, trust_domain)
    origin = settings.fleet_origin
    try:
        with session.screen.progress("Making keys", None):
            ceremony.initialise(
                data,
                trust_domain=settings.trust_domain,
                now=certificate_time(),
                fleet_now=origin.astimezone(UTC).replace(microsecond=0) if origin else None,
                keys=keys or (),
            )
    except (SigningError, OSError) as exc:
        if fresh:
            (data / FILE_NAME).unlink(missing_ok=True)
        if isinstance(exc, KeyFileError):
            raise RefusedError(str(exc), remedy="the keys that stand are untouched") from exc
        raise BadInputError(str(exc), remedy="correct the command and try again") from exc
    document = {
        "data": str(data),
        "trust_domain": settings.trust_domain,
        "made": [part.path for part in made],
        "take_offline": [part.path for part in made if part.offline],
    }
    session.screen.answer(document, *summary(data, settings.trust_domain, made))


def prepare_settings(data: Path, trust_domain: str) -> tuple[Settings, bool]:
    """Settings of the installation to be, written down if there are none yet; and whether they were.

    Raises:
        BadInputError: the settings that stand are wrong, or name another trust domain.
    """
    path = data / FILE_NAME
    if path.exists():
        settings = settings_of(data)
        if trust_domain not in ("", settings.trust_domain):
            raise BadInputError(
                f"--trust-domain {trust_domain}, but {path} says {settings.trust_domain}",
                remedy="change one of them: every certificate carries this name",
            )
        return settings, False
    fallback = Settings.model_fields["trust_domain"].default
    chosen = f'trust_domain = "{trust_domain or TRUST_DOMAIN}"'
    try:
        data.mkdir(parents=True, exist_ok=True)
        path.write_text(default_toml().replace(f'#trust_domain = "{fallback}"', chosen), encoding="utf-8")
    except OSError as exc:
        raise BadInputError(
            f"{path} cannot be written ({exc.strerror})", remedy="name another folder by --data"
        ) from exc
    try:
        return settings_of(data), True
    except BadInputError:
        path.unlink()
        raise


def summary(data: Path, trust_domain: str, parts: Sequence[Made]) -> list[RenderableType]:
    """What was made, what has to go offline, and the next step."""
    made = table("what", "what for", "where it belongs")
    for part in parts:
        made.add_row(plain(part.path, "bold"), part.purpose, part.place)
    offline = ", ".join(part.path for part in parts if part.offline)
    return [
        plain(f"Made the installation {data}, trust domain {trust_domain}."),
        made,
        plain(f"Before production, take offline: {offline}. See SECURITY.md."),
        plain(f"Next: outrider serve --data {data}"),
    ]


app.add_typer(keys_edit.app)
app.add_typer(keys_use.app)
app.add_typer(keys_suppliers.app)
app.add_typer(keys_sign.app)
app.add_typer(keys_status.app)
