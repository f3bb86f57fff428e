"""The function library: the Lua files behind one rendered prelude, loaded under one versioned name.

The prelude holds what Lua and Python must agree on and neither may repeat: key suffixes, positions of record fields,
the transition table. It is generated from `keys`, `codec` and `engine.attempts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources

from orchestrator.engine.attempts import SAFETY_CLASS, TRANSITIONS, case_cause
from orchestrator.engine.controls import HEARD_AFTER_MS
from orchestrator.engine.habits import SAME_CONTACT_MS
from orchestrator.model.attempt import BEFORE_PERMIT_STATES, AttemptState
from orchestrator.model.fleet import OTHER
from orchestrator.model.rollout import BrakeKind
from orchestrator.store.base import BANDWIDTH_AHEAD_MS, DARK_WAIT_MS
from orchestrator.store.contacts import HALF_HOUR_MS, HALF_HOURS_KEPT
from orchestrator.store.counters import FAILED_STATES
from orchestrator.store.redis import codec, keys
from orchestrator.store.redis.control_records import CONTROL
from orchestrator.store.redis.ended import ENDED, FRAME, LIVE_ORDER, OVER_ORDER
from orchestrator.store.redis.inventory import SHAPE
from orchestrator.store.redis.packing import SCHEMA, SCHEMA_ENDED
from orchestrator.store.refusals import REFUSED_BY_BRAKE, REFUSED_BY_STATUS
from orchestrator.store.silence import OWN_WORD

LIBRARY = "outrider_v10"
"""Raised whenever functions of an earlier build could not serve this one."""
PREFIX = f"{LIBRARY}_"
"""In front of every function's name."""
FILES = (
    "core.lua",
    "inventory.lua",
    "ended.lua",
    "vehicles.lua",
    "contacts.lua",
    "controls.lua",
    "cases.lua",
    "attempts.lua",
    "import.lua",
    "exclude.lua",
    "read.lua",
    "search.lua",
    "assign.lua",
    "apply.lua",
    "change.lua",
    "sweep.lua",
    "tokens.lua",
    "places.lua",
    "reserve.lua",
    "authorize.lua",
    "rollout.lua",
    "fleet.lua",
    "verify.lua",
)
"""In the order in which one needs another."""
READS = frozenset(
    [
        *("attempts", "case", "cases", "journal_beyond", "look_places", "look_profiles", "look_vehicles", "standing"),
        *("tally", "unsettled", "vehicle"),
    ]
)
"""Functions that write nothing: they need not wait for replicas."""


def render() -> str:
    """The source of the library as it is loaded."""
    folder = resources.files("orchestrator.store.redis") / "functions"
    bodies = [f"-- {name}\n{(folder / name).read_text(encoding='utf-8')}" for name in FILES]
    return "\n".join([f"#!lua name={LIBRARY}", prelude(), *bodies])


def prelude() -> str:
    """The tables that are generated."""
    causes = {state.value: cause for state in AttemptState if (cause := case_cause(state, True))}
    moves = {
        f"{state.value}|{'p' if exposed else 'b'}|{event.value}": transition.state.value
        for (state, exposed, event), transition in TRANSITIONS.items()
    }
    live = {state.value: index for index, state in enumerate(LIVE_ORDER, start=1)}
    return "\n".join(
        [
            f"local PREFIX, SCHEMA, SCHEMA_ENDED = '{PREFIX}', {SCHEMA}, {SCHEMA_ENDED}",
            "local READABLE = {[SCHEMA]=1, [SCHEMA_ENDED]=1}",
            f"local UNIT, GROUP = '\\{ord(codec.UNIT)}', '\\{ord(codec.GROUP)}'",
            f"local BANDWIDTH_AHEAD_MS, DARK_WAIT_MS = {BANDWIDTH_AHEAD_MS}, {DARK_WAIT_MS}",
            f"local SAFETY_CLASS, SAME_CONTACT_MS = '{SAFETY_CLASS}', {SAME_CONTACT_MS}",
            f"local OTHER = '{OTHER}'",
            f"local HEARD_AFTER_MS = {HEARD_AFTER_MS}",
            f"local HALF_HOUR_MS, HALF_HOURS_KEPT = {HALF_HOUR_MS}, {HALF_HOURS_KEPT}",
            _table("KEY", keys.ALL_KEYS),
            _table("SHAPE", _positions(SHAPE)),
            _table("HOT", _positions(codec.HOT)),
            _table("ATTEMPT", _positions(codec.ATTEMPT)),
            _table("CASE", _positions(codec.CASE)),
            _table("CONTROL", _positions(CONTROL)),
            _table("FRAME", _positions(FRAME)),
            _table("ENDED", _positions(ENDED)),
            _table("OVER_NUMBER", {state.value: index for index, state in enumerate(OVER_ORDER, start=1)}),
            f"local OVER = {{{', '.join(repr(state.value) for state in OVER_ORDER)}}}",
            _table("LIVE", live),
            _table("BEFORE_PERMIT", {state.value: 1 for state in BEFORE_PERMIT_STATES}),
            _table("NEXT", moves),
            _table("CAUSE", causes),
            _table("FAILED", {state.value: 1 for state in FAILED_STATES}),
            _table("OWN_WORD", {state.value: 1 for state in OWN_WORD}),
            _table("REFUSED_BY_STATUS", {status.value: word.value for status, word in REFUSED_BY_STATUS.items()}),
            _table("REFUSED_BY_BRAKE", {kind.value: word.value for kind, word in REFUSED_BY_BRAKE.items()}),
            _table("BRAKE_RANK", {kind.value: rank for rank, kind in enumerate(BrakeKind, start=1)}),
        ]
    )


def _positions(fields: tuple[str, ...]) -> dict[str, int]:
    return {name: index for index, name in enumerate(fields, start=1)}


def _table(name: str, values: Mapping[str, str | int]) -> str:
    cells = [f"['{key}']={value if isinstance(value, int) else repr(str(value))}" for key, value in values.items()]
    return f"local {name} = {{{', '.join(sorted(cells))}}}"
