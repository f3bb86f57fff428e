"""When an exposure counts as silent: one statement for both stores."""

from __future__ import annotations

from orchestrator.model.attempt import AttemptState

OWN_WORD = frozenset({AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.ROLLED_BACK})
"""States that only the vehicle's own word leads to, by report or manifest. An exposure in any other at a checkpoint is
silent, TIMED_OUT included: a deadline is our word, not its.
"""
