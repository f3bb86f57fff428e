"""`outrider restore`: an installation out of a backup, in a state from which it may safely be served.

Owns that what was in the file arrives byte for byte, that every rollout stands still and says why, and that what the
store forgot to do for what the ledger already knows is done again. What happened after the backup nobody here knows:
vehicles tell it when they call (`service/vehicles`: a vehicle that holds newer files than we remember).

Until it came to its end the folder is none that can be served: yesterday's store would go on where it stood.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.app.archive import MANIFEST, digest
from orchestrator.app.backup import FORMAT, LEDGER_FILE, STORE_FILE
from orchestrator.app.fleet_time import open_clock
from orchestrator.app.installation import Installation, InstallationError
from orchestrator.clock import MachineClock
from orchestrator.ledger import Ledger
from orchestrator.ledger.copying import copy_ledger, holds
from orchestrator.model.ids import FleetTime
from orchestrator.service.ledger_feed import LedgerFeed
from orchestrator.service.pausing import pause_unproven
from orchestrator.settings import FILE_NAME, Settings, load
from orchestrator.store.base import JournalEntry
from orchestrator.store.redis import EmbeddedServer, RedisStore
from orchestrator.store.redis.snapshot import lay_snapshot


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What came of it."""

    made_at: str
    """When the backup was taken."""
    files: int
    ledger_entries: int
    """Of the backup."""
    ledger_survived: bool
    """Whether the database still had them, and perhaps later ones: then it stays as it is."""
    paused: tuple[str, ...]
    """Rollouts that ran when the backup was taken."""
    keys: bool
    """Whether the backup had private keys."""
    images: bool
    """Whether it had the bytes of images."""
    images_at: str
    """Where they lie that are in no backup, as the setting `images` names it; empty for the data folder."""


def restore(
    archive: Path,
    installation: Installation,
    *,
    actor: str,
    machine: MachineClock,
    step: Callable[[str], None] = lambda what: None,
) -> RestoreReport:
    """Make a data folder out of a backup; it is served by nobody yet.

    Args:
        archive: as `back_up` wrote it.
        installation: the data folder to be; absent or empty.
        actor: who does it, for the ledger.
        machine: the machine's clocks.
        step: told what is being done.

    Raises:
        InstallationError: the file is no whole backup, or the folder is not empty.
        StoreError: the store does not take its data.
        orchestrator.ledger.LedgerError: the ledger's place is taken, or cannot be reached.
        OSError: something cannot be read or written.
    """
    if installation.data.exists() and any(installation.data.iterdir()):
        raise InstallationError(f"{installation.data} is not empty: restore into a new folder, and move it afterwards")
    installation.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = installation.restoring
    folder.mkdir()
    step("reading and proving the file")
    try:
        manifest = unpack(archive, folder)
    except BaseException:
        shutil.rmtree(folder)
        raise
    step("the store")
    lay_snapshot(folder / STORE_FILE, installation.store)
    step("the ledger")
    settings = load(folder)
    place = installation.ledger_at(settings.ledger_url)
    of_backup = manifest["ledger"]
    survived = isinstance(place, str) and holds(place, of_backup["entries"], of_backup["head_hash"])
    if not survived:
        copy_ledger(folder / LEDGER_FILE, place)
    step("pausing rollouts")
    made_at = str(manifest["made_at"])
    paused = asyncio.run(_settle(installation, settings, made_at=made_at, actor=actor, machine=machine))
    for name in (STORE_FILE, LEDGER_FILE, MANIFEST):
        (folder / name).unlink()
    for part in sorted(folder.iterdir()):
        part.rename(installation.data / part.name)
    folder.rmdir()
    return RestoreReport(
        made_at=made_at,
        files=len(manifest["files"]),
        ledger_entries=int(of_backup["entries"]),
        ledger_survived=survived,
        paused=paused,
        keys=bool(manifest["keys"]),
        images=bool(manifest["images"]),
        images_at=settings.images,
    )


def unpack(archive: Path, folder: Path) -> Mapping[str, Any]:
    """Unpack a backup, and see that each file is what was taken; what the manifest says.

    Raises:
        InstallationError: it is not whole, was changed, or a newer Outrider made it.
        OSError: it cannot be read.
    """
    try:
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files, form = dict(manifest["files"]), int(manifest["format"])
    except (tarfile.TarError, ValueError, KeyError, TypeError, FileNotFoundError) as exc:
        raise InstallationError(f"{archive} is no whole backup ({exc}): name another one") from exc
    if form != FORMAT:
        raise InstallationError(f"{archive} has format {form}, this Outrider knows {FORMAT}: use the one that made it")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {MANIFEST}
    for name in sorted(found ^ files.keys()):
        what = "lacks" if name in files else "has more than was taken:"
        raise InstallationError(f"{archive} {what} {name}: it was changed; name another one")
    for name, expected in files.items():
        if digest(folder / name) != expected:
            raise InstallationError(f"{archive}: {name} is not what was taken: the file is damaged; name another one")
    if FILE_NAME not in files:
        (folder / FILE_NAME).touch()
    return dict(manifest)


async def _settle(
    installation: Installation, settings: Settings, *, made_at: str, actor: str, machine: MachineClock
) -> tuple[str, ...]:
    server = EmbeddedServer(installation.store)
    server.start()
    try:
        store = await RedisStore.connect(server.url)
        ledger = Ledger(installation.ledger_at(settings.ledger_url))
        try:
            clock = await open_clock(store, settings, machine)
            now = FleetTime(clock.now())
            reason = f"restored from the backup of {made_at}; what happened since is known to the vehicles alone"
            about = {"actor": actor, "reason": reason, "made_at": made_at}
            await store.record(JournalEntry("fleet", "", "installation_restored", now, about))
            rollouts = await store.rollouts()
            paused = [rollout.rollout_id for rollout in rollouts if await pause_unproven(store, rollout, reason, now)]
            # The ledger was copied after the store: what it took in between had consequences that the copy of the
            # store has not seen, as a slot given back.
            await LedgerFeed(store, ledger).settle_again()
        finally:
            await ledger.close()
            await store.close()
    finally:
        server.stop()
    return tuple(paused)
