"""`outrider release supply`: a supplier adds the images of a release to its list, at home, to be signed there.

Needs the pending change that the other side sent, or the one of the release before, and the images; no server, no data
folder. Leaves signing to `keys sign`, and the taking in of list and images to `keys publish`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from tuf.api.metadata import Targets

from orchestrator.cli.errors import BadInputError
from orchestrator.cli.image_repo import time_of_signing
from orchestrator.cli.keys_sign import ceremony_errors
from orchestrator.cli.keys_view import change_document, next_step, signatures_table
from orchestrator.cli.release_file import read_release
from orchestrator.cli.screen import table
from orchestrator.cli.session import Session, operator_command
from orchestrator.cli.words import count, plain
from signing.change import PendingChange, load_change, save_change
from signing.publication import NewImage
from signing.supplier_edits import supplying

app = typer.Typer(add_completion=False)


@operator_command(app, "supply")
def supply(
    session: Session,
    file: Annotated[Path, typer.Argument(help="Release file (YAML); see docs/cli.md.")],
    change_file: Annotated[Path, typer.Argument(metavar="CHANGE", help="The list, as `keys renew` made it.")],
    supplier: Annotated[str, typer.Option("--supplier", metavar="NAME", help="Whose list, where it has several.")] = "",
) -> None:
    """Add the images of a release to a supplier's list, which the supplier then signs; needs no server.

    The images travel beside the list. Nothing outside of what the supplier may speak for is taken.
    """
    description = read_release(file)
    if any(image.supplier for image in description.images):
        raise BadInputError(f"{file} names images of a supplier", remedy="name image files by `file:`")
    images = [
        NewImage(image.path, image.file, image.hardware_id, image.release_counter, description.version)
        for image in description.images
    ]
    with ceremony_errors("correct the release file, or ask who trusts you for more; nothing was changed"):
        change = load_change(change_file)
        name = supplier_in(change, change_file, supplier)
        change = supplying(change, name, images, dict(change.listings), time_of_signing(session))
        save_change(change, change_file)
    listed = change.listings[name].signed.targets
    shown = table("image", "hardware id", "sha256", "counter", "bytes", numbers=2)
    for image in images:
        entry = listed[image.path]
        shown.add_row(
            plain(image.path),
            plain(image.hardware_id),
            plain(entry.hashes["sha256"]),
            str(image.release_counter),
            count(entry.length),
        )
    session.screen.answer(
        change_document(change, change_file),
        plain(f"Release {description.version}: {len(images)} images in the list of {name}, to be signed."),
        shown,
        signatures_table(change),
        plain(next_step(change, change_file)),
        plain("Send the list and the image files together."),
    )


def supplier_in(change: PendingChange, file: Path, name: str) -> str:
    """Whose list a change holds.

    Raises:
        BadInputError: of nobody, of several, or of others than the one that is named.
    """
    held = [role for role in change.listings if role != Targets.type]
    if name in held or (not name and len(held) == 1):
        return name or held[0]
    if not held:
        raise BadInputError(
            f"{file} holds no supplier's list", remedy="have one made by `outrider keys renew image SUPPLIER`"
        )
    raise BadInputError(f"{file} holds the lists of {', '.join(held)}", remedy="say which by --supplier NAME")
