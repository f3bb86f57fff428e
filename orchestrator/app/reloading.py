"""Settings that change while the service runs: which may, and what is said about the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.settings import Settings

LIVE = frozenset({"poll_s", "poll_live_s", "quarantine_after", "log_level"})
"""Settings that count from the next call on. All others shape ports, processes, the store or time itself."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a fresh look at the settings brought."""

    settings: Settings
    """Those that count from now on."""
    applied: Sequence[str]
    """Names of those that changed."""
    waiting: Sequence[str]
    """Names of those that changed and count from the next start."""


def reloaded(current: Settings, fresh: Settings) -> Reloaded:
    """Compare settings as they count with those that were read."""
    changed = sorted(name for name in Settings.model_fields if getattr(current, name) != getattr(fresh, name))
    applied = [name for name in changed if name in LIVE]
    return Reloaded(
        settings=current.model_copy(update={name: getattr(fresh, name) for name in applied}),
        applied=applied,
        waiting=[name for name in changed if name not in LIVE],
    )
