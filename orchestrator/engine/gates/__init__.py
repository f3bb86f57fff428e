"""The gate: what counters, controls and people say of a release, as verdicts that their inputs alone repeat."""

from orchestrator.engine.gates.budget import AGED_MIN, blast_upper, permit_allowance
from orchestrator.engine.gates.judgement import (
    INCONSISTENT,
    STRATA_HALTED,
    UNUSABLE,
    Judgement,
    judge,
    judge_by,
    judge_rollout,
    waiver,
)
from orchestrator.engine.gates.terms import (
    HOLD_ABOVE,
    SILENCE_HELD_UNTIL,
    SILENCE_HOLD_ABOVE,
    scope_name,
)

__all__ = [
    "AGED_MIN",
    "HOLD_ABOVE",
    "INCONSISTENT",
    "SILENCE_HELD_UNTIL",
    "SILENCE_HOLD_ABOVE",
    "STRATA_HALTED",
    "UNUSABLE",
    "Judgement",
    "blast_upper",
    "judge",
    "judge_by",
    "judge_rollout",
    "permit_allowance",
    "scope_name",
    "waiver",
]
