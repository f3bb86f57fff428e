"""What can go wrong with a ledger, by what the caller does about it."""

from __future__ import annotations


class LedgerError(Exception):
    """Base of what the ledger can raise."""


class LedgerUnavailableError(LedgerError):
    """Not now: try again later. Nothing is lost, what was not taken stays in the journal."""


class LedgerBrokenError(LedgerError):
    """This ledger cannot be used as it is: a person has to look. The message says what to do."""


class LedgerEntryError(LedgerError):
    """An entry that cannot be recorded as it is; a mistake of whoever made it."""
