"""`outrider keys delegate|undelegate`: whose lists of images vehicles believe beside our own, and for what.

Leaves a supplier's keys to the commands that change those of any role, and what it lists to `release supply`.
"""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.errors import BadInputError
from orchestrator.cli.keys_change import Ground, Out, RepositoryName, altered
from orchestrator.cli.keys_edit import KEY_HELP, new_key
from orchestrator.cli.keys_sign import PasswordFile, ceremony_errors
from orchestrator.cli.session import Session, operator_command
from signing.change import PendingChange
from signing.supplier_edits import Scope, delegating, edit_suppliers, undelegating

app = typer.Typer(add_completion=False)

SupplierArgument = Annotated[str, typer.Argument(metavar="SUPPLIER", help="Its name: a-z, 0-9, `_` and `-`.")]


@operator_command(app, "delegate")
def delegate(
    session: Session,
    supplier: SupplierArgument,
    keys: Annotated[list[str] | None, typer.Argument(metavar="[KEY...]", help=KEY_HELP)] = None,
    paths: Annotated[
        list[str] | None, typer.Option("--path", metavar="PATTERN", help="Target paths, for example 'acme/*'.")
    ] = None,
    hardware_ids: Annotated[
        list[str] | None, typer.Option("--hardware-id", metavar="ID", help="Hardware. Default: any.")
    ] = None,
    threshold: Annotated[
        int | None, typer.Option("--threshold", metavar="N", min=1, help="How many keys must sign. Default: 1.")
    ] = None,
    terminating: Annotated[
        bool | None,
        typer.Option("--terminating/--not-terminating", help="Whether nobody is asked after it. Default: not."),
    ] = None,
    before: Annotated[
        str, typer.Option("--before", metavar="SUPPLIER", help="Ask it before that one. Default: after all.")
    ] = "",
    by: Annotated[str, typer.Option("--by", metavar="ROLE", help="The role that trusts it.")] = "targets",
    password_file: PasswordFile = None,
    out: Out = None,
) -> None:
    """Have a supplier sign for images of its own: under these paths, for this hardware; or change what it may.

    The keys that sign releases sign the change, and so does the supplier: its first list, which is empty.
    """
    with ceremony_errors("nothing was changed"):
        new = [new_key(each, password_file) for each in keys or ()]
    scope = Scope(
        paths=tuple(paths) if paths else None,
        hardware_ids=tuple(hardware_ids) if hardware_ids else None,
        threshold=threshold,
        terminating=terminating,
        before=before,
    )

    def alter(change: PendingChange, ground: Ground) -> PendingChange:
        edit = delegating(supplier, new, scope)
        return edit_suppliers(change, edit, ground.published, ground.now, by=by, others=(ground.others,))

    altered(session, RepositoryName.IMAGE, out, alter)


@operator_command(app, "undelegate")
def undelegate(session: Session, supplier: SupplierArgument, out: Out = None) -> None:
    """Trust a supplier no more; no vehicle installs an image that only it lists."""

    def alter(change: PendingChange, ground: Ground) -> PendingChange:
        by = change.delegator_of(supplier)
        if by is None:
            raise BadInputError(f"{supplier} is no supplier", remedy="`outrider keys status` lists them")
        return edit_suppliers(change, undelegating(supplier), ground.published, ground.now, by=by)

    altered(session, RepositoryName.IMAGE, out, alter)
