"""Silence that is our own: while orchestrator, store or every worker was away, no vehicle could be heard.

Owns how long to listen after an absence before checkpoints and deadlines count again. Waiting costs nothing but time:
what is not aged keeps the permit ceiling shut, what is not timed out keeps its slot. Counting at once would take our
own outage for a bad release.
"""

from __future__ import annotations

from orchestrator.model.ids import FleetTime

LISTEN_TIMES = 4
"""How many times as long as we were away we listen: a vehicle's next try comes later the longer it tried in vain."""
LISTEN_MAX_MS = 30 * 60 * 1000
"""Fleet time after which every vehicle with something to tell has tried again; the longest backoff of an agent."""


class Absence:
    """When we were last there, and until when we listen."""

    def __init__(self) -> None:
        self._away = False
        self._heard_at: FleetTime | None = None
        self._listens_until = FleetTime(0)

    def begin(self) -> None:
        """We are away: the store does not answer, or no worker does."""
        self._away = True

    def resume(self, heard_at: FleetTime | None) -> None:
        """We start; an earlier run last heard something at `heard_at`, None when there was none."""
        self._away, self._heard_at = True, heard_at

    def notice(self, now: FleetTime, *, longest_ms: int) -> None:
        """We come back: more than `longest_ms` since we were last there is an absence that nobody told us of.

        A suspended machine, or a clock that jumped ahead: nothing failed, and yet nobody was heard.
        """
        if self._heard_at is not None and now - self._heard_at > longest_ms:
            self._away = True

    def hear(self, now: FleetTime) -> None:
        """We were there the whole tick."""
        self._heard_at = now

    def end(self, now: FleetTime) -> int:
        """We are there: how long we were not, milliseconds of fleet time; 0 when we never left."""
        if not self._away:
            return 0
        self._away = False
        away_ms = max(0, now - self._heard_at) if self._heard_at is not None else 0
        self._listens_until = FleetTime(max(self._listens_until, now + min(LISTEN_TIMES * away_ms, LISTEN_MAX_MS)))
        return away_ms

    def listens(self, now: FleetTime) -> bool:
        """Whether vehicles still have time to tell what they could not."""
        return now < self._listens_until
