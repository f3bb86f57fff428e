"""`outrider restore`: an installation out of a backup."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType

from orchestrator.app.installation import Installation, InstallationError
from orchestrator.app.restore import RestoreReport
from orchestrator.app.restore import restore as restore_installation
from orchestrator.cli.errors import CliError, NotFoundError, RefusedError
from orchestrator.cli.local import wrong_settings
from orchestrator.cli.session import Session, local_command
from orchestrator.cli.words import count, plain
from orchestrator.clock import MachineClock
from orchestrator.ledger import LedgerError
from orchestrator.logs import configure_logging
from orchestrator.settings import SettingsError
from orchestrator.store.base import StoreError

app = typer.Typer(add_completion=False)

AGAIN = "nothing is served from that folder yet; empty it before another try"


@local_command(app, "restore")
def restore(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="As `outrider backup` wrote it.")],
) -> None:
    """Make a data folder out of a backup. Rollouts that ran come up paused; vehicles tell what the backup missed."""
    if not file.is_file():
        raise NotFoundError(f"there is no file {file}", remedy="name a backup")
    configure_logging(level="critical", log_format="auto", stream=sys.stderr)
    installation, actor = Installation(session.data.absolute()), getpass.getuser()
    with session.screen.progress("Restoring", None) as progress:

        def step(what: str) -> None:
            progress.update(progress.task_ids[0], description=f"Restoring: {what}")

        try:
            report = restore_installation(file, installation, actor=actor, machine=MachineClock(), step=step)
        except InstallationError as exc:
            raise RefusedError(str(exc), remedy=AGAIN) from exc
        except SettingsError as exc:
            raise wrong_settings(installation.data, exc) from exc
        except (StoreError, LedgerError, OSError) as exc:
            raise CliError(str(exc), remedy=AGAIN) from exc
    document = {
        "data": str(installation.data),
        "made_at": report.made_at,
        "files": report.files,
        "ledger_entries": report.ledger_entries,
        "ledger_survived": report.ledger_survived,
        "paused": list(report.paused),
        "keys": report.keys,
        "images": report.images,
        "images_at": report.images_at,
    }
    session.screen.answer(document, *told(report, installation.data))


def told(report: RestoreReport, data: Path) -> list[RenderableType]:
    """What came of it, and what to do next, in order."""
    entries = count(report.ledger_entries)
    lines = [f"Restored {data} from the backup of {report.made_at}, {entries} entries of the ledger."]
    if report.ledger_survived:
        lines.append("The ledger's database had them still, and keeps what came after.")
    if report.paused:
        lines.append(f"Paused: {', '.join(report.paused)}. What happened since the backup, their vehicles will tell.")
    if not report.keys:
        lines.append("Put keys/, authorities/*.key and operators/ back: the backup has none.")
    if report.images_at:
        lines.append(f"Images lie in {report.images_at}: outrider doctor --data {data} says whether each is there.")
    elif not report.images:
        lines.append("Put image-repo/targets back: the backup has no images.")
    lines += [
        f"Next: outrider image-repo renew --data {data}, and publish again what was published since the backup;",
        f"then outrider serve --data {data}, let vehicles call, and resume rollouts one by one.",
    ]
    return [plain(line) for line in lines]
