"""Conversion between the wire and the model: here and nowhere else. What does not fit is refused with the field's
name.
"""

from __future__ import annotations

from orchestrator.rpc.convert.attempts import ATTEMPT_STATES, case
from orchestrator.rpc.convert.conditions import (
    condition_faults,
    conditions,
    conditions_out,
    diagnostic_out,
)
from orchestrator.rpc.convert.fleet import explanation, vehicle
from orchestrator.rpc.convert.ledger import ledger_entry
from orchestrator.rpc.convert.polls import (
    EVENTS,
    authorize_response,
    check_in,
    check_in_response,
    directive,
    metadata_files,
)
from orchestrator.rpc.convert.previews import preview
from orchestrator.rpc.convert.releases import release, release_in
from orchestrator.rpc.convert.rollouts import BRAKES, REGION_PHASES, ROLLOUT_STATUSES, VERDICTS, rollout
from orchestrator.rpc.convert.signals import SIGNALS, signal_in
from orchestrator.rpc.convert.wire import duration, malformed, timestamp

__all__ = [
    "ATTEMPT_STATES",
    "BRAKES",
    "EVENTS",
    "REGION_PHASES",
    "ROLLOUT_STATUSES",
    "SIGNALS",
    "VERDICTS",
    "authorize_response",
    "case",
    "check_in",
    "check_in_response",
    "condition_faults",
    "conditions",
    "conditions_out",
    "diagnostic_out",
    "directive",
    "duration",
    "explanation",
    "ledger_entry",
    "malformed",
    "metadata_files",
    "preview",
    "release",
    "release_in",
    "rollout",
    "signal_in",
    "timestamp",
    "vehicle",
]
