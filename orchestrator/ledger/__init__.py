"""The append-only, hash-chained record of decisions and outcomes. Knows nothing of stores or rollouts."""

from orchestrator.ledger.archive import Archived, Archiving, NothingToArchiveError, archive_ledger
from orchestrator.ledger.entry import LedgerEntry, Recorded
from orchestrator.ledger.errors import LedgerBrokenError, LedgerEntryError, LedgerError, LedgerUnavailableError
from orchestrator.ledger.export import export_ledger, verify_exports
from orchestrator.ledger.heads import SignedHead
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.reader import EntryFilter, LedgerReader
from orchestrator.ledger.verify import VerifyReport

__all__ = [
    "Archived",
    "Archiving",
    "EntryFilter",
    "Ledger",
    "LedgerBrokenError",
    "LedgerEntry",
    "LedgerEntryError",
    "LedgerError",
    "LedgerReader",
    "LedgerUnavailableError",
    "NothingToArchiveError",
    "Recorded",
    "SignedHead",
    "VerifyReport",
    "archive_ledger",
    "export_ledger",
    "verify_exports",
]
