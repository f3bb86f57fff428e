"""`outrider backup`: everything that an installation is, in one file, while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.app.backup import back_up
from orchestrator.app.installation import Installation, InstallationError
from orchestrator.cli.errors import CliError, RefusedError
from orchestrator.cli.ingest_policy import FILE_NAME, keys_named
from orchestrator.cli.local import certificate_time, require_folder, settings_of
from orchestrator.cli.session import Session, local_command
from orchestrator.cli.words import count, plain
from orchestrator.ledger import LedgerError
from orchestrator.store.base import StoreError

app = typer.Typer(add_completion=False)


@local_command(app, "backup")
def backup(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to; must not exist.")],
    keys: Annotated[bool, typer.Option("--keys", help="With private keys: whoever has the file has them.")] = False,
    images: Annotated[
        bool, typer.Option("--images/--no-images", help="With the bytes of images. Default: yes.")
    ] = True,
) -> None:
    """Take a backup of an installation, running or not, into one file: store, ledger, metadata, images, settings."""
    installation = Installation(require_folder(session.data).resolve())
    settings = settings_of(session.data)
    made_at = certificate_time().isoformat().replace("+00:00", "Z")
    with session.screen.progress("Taking a backup", None) as progress:

        def step(what: str) -> None:
            progress.update(progress.task_ids[0], description=f"Taking {what}")

        try:
            report = back_up(
                installation,
                settings,
                file.absolute(),
                made_at=made_at,
                keys=keys,
                images=images,
                builder_keys=keys_named(installation.data / FILE_NAME),
                step=step,
            )
        except InstallationError as exc:
            raise RefusedError(str(exc), remedy="nothing was written") from exc
        except (StoreError, LedgerError, OSError) as exc:
            raise CliError(str(exc), remedy="no file was written; the installation is as it was") from exc
    document = {
        "file": str(report.path),
        "size_bytes": report.size_bytes,
        "files": report.files,
        "dataset_id": report.ledger.dataset_id,
        "ledger_entries": report.ledger.entries,
        "ledger_head": report.ledger.head_hash,
        "keys": report.keys,
        "images": report.images,
        "images_at": report.images_at,
        "left_out": list(report.left_out),
    }
    elsewhere = [plain(f"Images are not in it: they lie in {report.images_at}, whose copies are yours to keep.")]
    left_out = [plain(f"Not in it, and yours to keep: {', '.join(report.left_out)}.")]
    session.screen.answer(
        document,
        plain(f"{report.path}: {count(report.size_bytes)} bytes, {count(report.files)} files."),
        f"Ledger: {count(report.ledger.entries)} entries, each proven; head {report.ledger.head_hash}",
        *(elsewhere if report.images_at else ()),
        *(left_out if report.left_out else ()),
        plain("Private keys are in it: guard it as you guard them." if keys else NO_KEYS),
        plain(f"Next: outrider restore {file} --data NEW-FOLDER, on a machine of your choice, to see that it works."),
    )


NO_KEYS = "No private keys are in it: keep keys/, authorities/*.key and operators/ elsewhere; nothing runs without."
