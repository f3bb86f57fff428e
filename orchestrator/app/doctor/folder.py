"""Checks of the data folder itself: layout, who can read it, settings, disk, time zones."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from orchestrator.app.doctor.findings import Finding, error, ok, skipped, warning
from orchestrator.app.doctor.patient import Patient
from orchestrator.app.installation import InstallationError
from orchestrator.settings import FILE_NAME, SettingsError, load

DISK_ERROR_BYTES = 256 * 1024**2
"""Free space below which the append-only file may not be able to be rewritten."""
DISK_WARNING_SHARE = 0.1
_ALL_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def check_layout(patient: Patient) -> Iterator[Finding]:
    """Whether the folder was made, and by a whole ceremony."""
    data = patient.installation.data
    if not data.is_dir():
        yield error("folder", f"there is no data folder {data}", f"make it: `outrider keys init --data {data}`")
        return
    try:
        patient.installation.check()
    except InstallationError as fault:
        cause, _, remedy = str(fault).partition(": ")
        yield error("folder", cause, remedy)
        return
    leftovers = sorted(path.name for path in data.glob(".ceremony-*"))
    if leftovers:
        yield warning(
            "folder",
            f"a key ceremony was cut short and left {', '.join(leftovers)}, with private keys in it",
            f"remove it: `rm -r {data / leftovers[0]}`",
        )
    yield ok("folder", f"{data} has authorities, keys and both repositories")


def check_permissions(patient: Patient) -> Iterator[Finding]:
    """Whether nobody else can read a private key, and this user can read all of them."""
    data = patient.installation.data
    keys = sorted({*data.glob("authorities/*.key"), *data.glob("keys/*/*.pem"), *data.glob("operators/*/*.key")})
    if not keys:
        yield skipped("permissions", "there are no private keys to look at")
        return
    open_to_others = [key for key in keys if key.stat().st_mode & _ALL_OTHERS]
    unreadable = [key for key in keys if not os.access(key, os.R_OK)]
    for key in open_to_others:
        mode = stat.S_IMODE(key.stat().st_mode)
        yield error("permissions", f"{key} can be read by others (mode {mode:04o})", f"close it: `chmod 600 {key}`")
    for key in unreadable:
        owner = key.stat().st_uid
        yield error(
            "permissions",
            f"{key} belongs to user {owner} and cannot be read by user {os.getuid()}",
            "run `outrider serve` and this command as the user who owns the folder",
        )
    if not open_to_others and not unreadable:
        yield ok("permissions", f"{len(keys)} private keys are readable by their owner only")


def check_settings(patient: Patient) -> Iterator[Finding]:
    """Whether every setting can be used."""
    try:
        settings = load(patient.installation.data)
    except SettingsError as fault:
        for problem in fault.problems:
            cause, _, remedy = problem.rpartition("; ")
            yield error("settings", cause or problem, remedy if cause else f"correct {FILE_NAME}")
        return
    yield ok("settings", f"{FILE_NAME} and the environment can be used; {settings.workers} worker(s)")
    if settings.scale != 1.0:
        yield warning(
            "settings",
            f"fleet time runs {settings.scale:g} times as fast as the machine's (scale)",
            "for simulations only: a real fleet needs a data folder that was first served with scale 1",
        )


def check_disk(patient: Patient) -> Iterator[Finding]:
    """Whether what is acknowledged can be put on disk."""
    folder = patient.installation.data
    if not folder.is_dir():
        yield skipped("disk", f"there is no data folder {folder}")
        return
    usage = shutil.disk_usage(folder)
    free_mib, share = usage.free // 1024**2, usage.free / usage.total
    remedy = "free space or grow the disk; docs/runbooks/disk-full.md says what may be removed"
    try:
        _probe(folder)
    except OSError as fault:
        yield error("disk", f"{folder} cannot be written and synced: {fault.strerror or fault}", remedy)
        return
    if usage.free < DISK_ERROR_BYTES:
        yield error("disk", f"{free_mib} MiB are free ({share:.0%}), fewer than {DISK_ERROR_BYTES // 1024**2}", remedy)
    elif share < DISK_WARNING_SHARE:
        yield warning("disk", f"{free_mib} MiB are free, {share:.0%} of the disk", remedy)
    else:
        yield ok("disk", f"{free_mib} MiB are free ({share:.0%}); a file was written, synced and removed")


def _probe(folder: Path) -> None:
    """Write, sync and remove a small file.

    Raises:
        OSError: the disk does not take it.
    """
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
        file.write(b"\0" * 4096)
        file.flush()
        os.fsync(file.fileno())


def check_zones(patient: Patient) -> Iterator[Finding]:
    """Whether windows in local time can be judged."""
    del patient
    try:
        ZoneInfo("Europe/Berlin")
    except ZoneInfoNotFoundError:
        yield error(
            "time zones",
            "this machine has no time zone data: plans with windows would be refused",
            "install the system's tzdata package, or `pip install tzdata` into Outrider's environment",
        )
        return
    yield ok("time zones", "time zone data is there")
