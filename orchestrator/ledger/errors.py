"""What can go wrong with a ledger, by what the caller does about it."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class LedgerError(Exception):
    """Base of what the ledger can raise."""


class LedgerUnavailableError(LedgerError):
    """Not now: try again later. Nothing is lost, what was not taken stays in the journal."""


class LedgerBrokenError(LedgerError):
    """This file cannot be used as it is: a person has to look. The message says what to do."""


class LedgerEntryError(LedgerError):
    """An entry that cannot be recorded as it is; a mistake of whoever made it."""


_LATER = {
    "SQLITE_FULL": "the disk is full; free some space, what was not written stays in the journal",
    "SQLITE_BUSY": "another process holds it for writing; if this lasts, find out who has the file open",
    "SQLITE_LOCKED": "another connection holds it; try again",
    "SQLITE_IOERR": "the disk reported an error; check the disk and its mount",
}
_NEVER = {
    "SQLITE_CORRUPT": "the file is damaged; stop, keep a copy for evidence and restore the last backup",
    "SQLITE_NOTADB": "this is not a ledger; move it away, or name the right file",
    "SQLITE_READONLY": "it cannot be written; see to it that this user owns the file and its folder",
    "SQLITE_CANTOPEN": "it cannot be opened; see to it that the folder exists and this user may write there",
    "SQLITE_PERM": "access is denied; see to it that this user owns the file and its folder",
    "SQLITE_AUTH": "access is denied; see to it that this user owns the file and its folder",
}


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite raises inside into a LedgerError with the cause and the remedy.

    Raises:
        LedgerUnavailableError: full, busy, or the disk failed.
        LedgerBrokenError: damaged, foreign, not accessible; or a rule of the ledger itself said no.
    """
    try:
        yield
    except sqlite3.Error as exc:
        # Extended codes carry the cause in the name after the base one: SQLITE_IOERR_WRITE, SQLITE_READONLY_DIRECTORY.
        base = "_".join(getattr(exc, "sqlite_errorname", "").split("_")[:2])
        if base in _LATER:
            raise LedgerUnavailableError(f"ledger {path}: {_LATER[base]} ({exc})") from exc
        remedy = _NEVER.get(base, "this should not happen; keep a copy of the file and report it")
        raise LedgerBrokenError(f"ledger {path}: {remedy} ({exc})") from exc
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise LedgerUnavailableError(f"ledger {path}: {_LATER['SQLITE_FULL']} ({exc})") from exc
        raise LedgerBrokenError(f"ledger {path}: {_NEVER['SQLITE_CANTOPEN']} ({exc})") from exc
