"""What a check says: one finding a fact, with a cause and a remedy of one line each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How a finding weighs, from best to worst."""

    OK = "ok"
    SKIPPED = "skipped"
    """Could not be looked at, for the reason given; says nothing about the installation."""
    WARNING = "warning"
    """Works today; will not, or not as well, if nobody does anything."""
    ERROR = "error"
    """A promise is broken, or part of the service does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about an installation."""

    check: str
    """Name of the check, for example `store`."""
    level: Level
    cause: str
    """What was found, with the numbers, one line."""
    remedy: str = ""
    """What to do about it, one line; empty where nothing needs doing."""


def ok(check: str, cause: str) -> Finding:
    """All is well."""
    return Finding(check, Level.OK, cause)


def skipped(check: str, cause: str, remedy: str = "") -> Finding:
    """It could not be looked at."""
    return Finding(check, Level.SKIPPED, cause, remedy)


def warning(check: str, cause: str, remedy: str) -> Finding:
    """It will go wrong."""
    return Finding(check, Level.WARNING, cause, remedy)


def error(check: str, cause: str, remedy: str) -> Finding:
    """It is wrong."""
    return Finding(check, Level.ERROR, cause, remedy)
