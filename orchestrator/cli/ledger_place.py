"""Where an installation's ledger is, for commands that read it without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from orchestrator.app.installation import Installation
from orchestrator.cli.errors import CliError, NotFoundError
from orchestrator.cli.local import settings_of
from orchestrator.cli.session import Session
from orchestrator.ledger import Ledger, LedgerError

T = TypeVar("T")


def place_of(session: Session) -> Path | str:
    """The file, or the URL of the database.

    Raises:
        NotFoundError: the file is not there.
    """
    place = Installation(session.data).ledger_at(settings_of(session.data).ledger_url)
    if isinstance(place, Path) and not place.is_file():
        raise NotFoundError(f"there is no ledger {place}", remedy="it is made when `outrider serve` first runs")
    return place


def ask(session: Session, question: Callable[[Ledger], Awaitable[T]]) -> T:
    """The ledger's answer to one question.

    Raises:
        CliError: there is no ledger, or it cannot be read.
    """
    place = place_of(session)

    async def answer() -> T:
        ledger = Ledger(place)
        try:
            return await question(ledger)
        finally:
            await ledger.close()

    try:
        return asyncio.run(answer())
    except LedgerError as exc:
        raise CliError(str(exc), remedy="nothing was changed") from exc
