"""The gate: what counters, controls and people say of a release, as verdicts that their inputs alone repeat."""

from orchestrator.engine.gates.budget import AGED_MIN, blast_upper, permit_allowance
from orchestrator.engine.gates.judgement import (
    INCONSISTENT,
    NO_RULE,
    STRATA_HALTED,
    UNUSABLE,
    Judgement,
    judge,
    judge_by,
    judge_rollout,
    waiver,
)
from orchestrator.engine.gates.terms import (
    HELD_UNTIL,
    HOLD_ABOVE,
    SILENCE_HELD_UNTIL,
    SILENCE_HOLD_ABOVE,
    Terms,
    scope_name,
)

__all__ = [
    "AGED_MIN",
    "HELD_UNTIL",
    "HOLD_ABOVE",
    "INCONSISTENT",
    "NO_RULE",
    "SILENCE_HELD_UNTIL",
    "SILENCE_HOLD_ABOVE",
    "STRATA_HALTED",
    "UNUSABLE",
    "Judgement",
    "Terms",
    "blast_upper",
    "judge",
    "judge_by",
    "judge_rollout",
    "permit_allowance",
    "scope_name",
    "waiver",
]
