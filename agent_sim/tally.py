"""What the shell counts while it works: calls by method and status, downloads, bytes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Counts of one run; written by the shell only."""

    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By method and gRPC status name."""
    downloads: Counter[str] = field(default_factory=Counter)
    """`started`, `resumed`, `broken`, `slow`, `complete`, `refused`."""
    bytes_downloaded: int = 0
    deltas: Counter[str] = field(default_factory=Counter)
    """`applied`, `refused`, `given_up`: what became of those that were tried."""
    bytes_saved: int = 0
    """Length of the images that deltas led to, without that of these deltas."""
    verifications: Counter[str] = field(default_factory=Counter)
    """`good`, or the attack's code."""
