"""Checks an installation, whether it runs, stands still or is half dead, and says what is wrong and how to mend it.

Looks and changes nothing. Leaves to the command line how findings are shown.
"""

from __future__ import annotations

from orchestrator.app.doctor.checks import CHECKS, Check, examine
from orchestrator.app.doctor.findings import Finding, Level
from orchestrator.app.doctor.patient import Patient

__all__ = ["CHECKS", "Check", "Finding", "Level", "Patient", "examine"]
