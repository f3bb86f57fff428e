"""What an entry of the list of requirements and attacks is, and what may be said of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique


@unique
class Verdict(StrEnum):
    """How far an entry is kept. Declared and never derived, so that a test which vanishes is noticed."""

    MET = "met"
    """All of it, each half by a test."""
    PARTLY = "partly met"
    """What tests cite it for; the entry says what is lacking."""
    NOT_MET = "not met"
    """No test cites it; the entry says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One requirement, or one attack."""

    key: str
    """As tests cite it, for example `C-root` or `A10`."""
    source: str
    """Section of Uptane 2.1.0, or where else it comes from."""
    asks: str
    """What has to hold, in our own words, one sentence."""
    verdict: Verdict = Verdict.MET
    lacking: str = ""
    """What is not done, and why; empty exactly when it is met."""

    def __post_init__(self) -> None:
        if (self.verdict is Verdict.MET) == bool(self.lacking):
            raise ValueError(f"{self.key}: what is lacking is said exactly when something is")


def met(key: str, source: str, asks: str) -> Entry:
    """An entry that is kept in full."""
    return Entry(key, source, asks)


def partly(key: str, source: str, asks: str, lacking: str) -> Entry:
    """An entry of which something is lacking."""
    return Entry(key, source, asks, Verdict.PARTLY, lacking)


def not_met(key: str, source: str, asks: str, lacking: str) -> Entry:
    """An entry that nothing is done for."""
    return Entry(key, source, asks, Verdict.NOT_MET, lacking)
