"""Verdicts: what one scenario found about a clause, and what all of them together say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What is said of a clause."""

    PASS = "PASS"  # noqa: S105 - no password
    FAIL = "FAIL"
    NOT_JUDGED = "NOT JUDGED"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one scenario found about one clause."""

    clause: str
    verdict: Verdict
    scenario: str
    seen: str
    """What was seen, one sentence; empty for a PASS that needs no words."""


@dataclass(frozen=True, slots=True)
class ClauseVerdict:
    """What all scenarios together say of a clause."""

    clause: str
    verdict: Verdict
    findings: tuple[Finding, ...]
    """Those that decided."""


def summed(clause: str, findings: Iterable[Finding]) -> ClauseVerdict:
    """One breach is a FAIL, whatever went well elsewhere; without any PASS nothing was judged."""
    mine = [finding for finding in findings if finding.clause == clause]
    for verdict in (Verdict.FAIL, Verdict.PASS, Verdict.NOT_JUDGED):
        deciding = tuple(finding for finding in mine if finding.verdict is verdict)
        if deciding:
            return ClauseVerdict(clause, verdict, deciding)
    return ClauseVerdict(clause, Verdict.NOT_JUDGED, ())
