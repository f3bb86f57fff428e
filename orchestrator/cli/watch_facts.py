"""What a live page shows beside the rollout itself: its last decisions, its open cases, the fleet time as it goes on.

Owns the thread that asks for these. They are extras: where one cannot be had, the page stands without it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from google.protobuf.timestamp_pb2 import Timestamp
from outrider.v1.case_pb2 import ListCasesRequest
from outrider.v1.ledger_pb2 import LedgerEntry, ListLedgerEntriesRequest

from orchestrator.cli.client import OperatorClient
from orchestrator.cli.errors import CliError

EVERY_S = 2.0
PAGE_SIZE = 200
ENDING_S = 5.0
"""How long the end waits for a question that is under way."""


class Extras:
    """Asks again and again while the block runs, and hands on what it finds.

    Args:
        client: to ask; its calls may be made from several threads.
        name: `rollouts/{rollout_id}`.
        found: takes the last decisions, the open cases (None when unknown) and fleet time (None when unknown).
    """

    def __init__(
        self,
        client: OperatorClient,
        name: str,
        found: Callable[[Sequence[LedgerEntry], int | None, Timestamp | None], None],
    ) -> None:
        self._client = client
        self._name = name
        self._found = found
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch-extras", daemon=True)
        self._events: list[LedgerEntry] = []
        self._token = ""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(ENDING_S)

    def _run(self) -> None:
        while not self._over.is_set():
            # Whoever watches the stream says what is wrong with the connection; nothing is lost but extras.
            with contextlib.suppress(CliError):
                self.look()
            self._over.wait(EVERY_S)

    def look(self) -> None:
        """Ask once and hand on the answers.

        Raises:
            CliError: the server does not answer, or refuses.
        """
        client = self._client
        cases = client.ask(client.cases.ListCases, ListCasesRequest(rollout=self._name, page_size=1))
        self._read_on()
        now: Timestamp | None = None
        if client.fleet_time is not None:
            now = Timestamp()
            now.FromDatetime(client.fleet_time)
        self._found(self._events, cases.open_count, now)

    def _read_on(self) -> None:
        """Read what was decided since the last look: the page that was last once is asked again until it is full."""
        while True:
            request = ListLedgerEntriesRequest(
                rollout=self._name, decisions_only=True, page_size=PAGE_SIZE, page_token=self._token
            )
            page = self._client.ask(self._client.ledger.ListLedgerEntries, request)
            known = {entry.number for entry in self._events}
            fresh = [entry for entry in page.entries if entry.number not in known]
            self._events = [*self._events, *fresh][-PAGE_SIZE:]
            if not page.next_page_token:
                return
            self._token = page.next_page_token
