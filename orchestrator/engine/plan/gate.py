"""What bounds the harm and the pace of a plan: its gate, its limits, its retries, its deadlines.

Owns these fields of the file, their defaults and bounds, what contradicts itself in them, and the way back. What they
mean while a rollout runs is the matter of `gates`, `admission`, `regions`, `retries` and `attempts`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from orchestrator.engine import controls
from orchestrator.engine.plan import readers as read
from orchestrator.engine.plan.fields import Field, Group, Places
from orchestrator.engine.plan.nodes import Place
from orchestrator.engine.plan.values import write_duration, write_ratio
from orchestrator.model.attempt import AttemptState
from orchestrator.model.fleet import Habit
from orchestrator.model.plan import GateLimits, Limits, Retries

_SECOND, _MINUTE, _HOUR, _DAY = 1_000, 60_000, 3_600_000, 86_400_000
_YEAR = 365 * _DAY
_COUNT_MAX = 100_000_000
_AGES_MOST = 8
NONE = "none"
"""What `habit_ages` says where nobody is judged earlier, `controls` where nobody waits, and `retries.never` where no
failure code is final.
"""

DEFAULT_GATE = GateLimits(
    failure_ratio_max=0.01,
    sample_min=20,
    checkpoints_ms=(12 * _HOUR, _DAY, 3 * _DAY),
    silence_reference=(0.055, 0.05, 0.043),
    alpha=0.05,
    habit_ages_ms=MappingProxyType({Habit.OFTEN: (6 * _HOUR,)}),
    stratum_sample_min=5,
    hold_final_ms=7 * _DAY,
    controls_per_exposure=None,
    safety_critical=False,
)
DEFAULT_LIMITS = Limits(
    in_flight_max=0,
    starts_per_minute_max=100,
    blast_budget=0,
    attempts_max=3,
    retry_backoff_ms=10 * _MINUTE,
    permit_valid_ms=15 * _MINUTE,
    patience_ms=14 * _DAY,
)
"""`in_flight` and `blast_budget` 0: filled in at the start, see `reach`."""
DEFAULT_DEADLINES: Mapping[AttemptState, int] = MappingProxyType(
    {
        AttemptState.OFFERED: _DAY,
        AttemptState.DOWNLOADING: 7 * _DAY,
        AttemptState.DOWNLOADED: 7 * _DAY,
        AttemptState.PERMITTED: _HOUR,
        AttemptState.INSTALLING: 2 * _HOUR,
        AttemptState.REBOOTING: _DAY,
        AttemptState.VERIFYING: _DAY,
        AttemptState.DEFERRED: 14 * _DAY,
    }
)

_whole = read.count(1, _COUNT_MAX)
_age = read.duration(_SECOND, _YEAR)
_few: read.Reader[int | None] = read.Reader(read.count(1, 20).read, read.count(1, 20).schema)
_ages = read.several(_age, "a list of durations such as [24h, 72h]", most=_AGES_MOST)
_shares = read.several(read.ratio(0.0, 0.5), "a list of ratios such as [5%, 4.3%]", most=_AGES_MOST)

_HABITS = Group(
    "habit_ages",
    tuple(
        Field(habit.value, _ages, (), f"Ages at which vehicles that call {often} are judged.")
        for habit, often in (
            (Habit.OFTEN, "every 3 h or more often"),
            (Habit.DAILY, "about once a day"),
            (Habit.SELDOM, "less often"),
        )
    ),
    "By habit: ages, below the first checkpoint, at which silence is judged among vehicles that call so often.",
    wanted="a mapping such as {often: [6h]}",
)


def _read_habit_ages(place: Place) -> Mapping[Habit, tuple[int, ...]] | None:
    known = len(place.faults)
    section = _HABITS.at(place)
    found = {
        Habit(field.name): field.of(section)
        for field in _HABITS.fields
        if isinstance(field, Field) and field.name in section
    }
    for habit, ages in found.items():
        _check_ascending(section[habit.value], ages, "ages are not ascending")
    return found if len(place.faults) == known else None


_FAILURE_RATIO = Field(
    "failure_ratio", read.ratio(0.0, 0.4), DEFAULT_GATE.failure_ratio_max, "Share of exposures that may fail."
)
_SAMPLE = Field("sample", _whole, DEFAULT_GATE.sample_min, "Exposures below which a wave is not promoted.")
_STRATUM_SAMPLE = Field(
    "stratum_sample",
    read.count(0, _COUNT_MAX),
    DEFAULT_GATE.stratum_sample_min,
    "Vehicles of each region x hardware that the first wave admits at least, where there are so many.",
)
_CHECKPOINTS = Field("checkpoints", _ages, DEFAULT_GATE.checkpoints_ms, "Ages at which silence is judged, ascending.")
_HABIT_AGES = Field(
    "habit_ages",
    read.or_word(read.Reader(_read_habit_ages, _HABITS.schema), NONE, {}),
    DEFAULT_GATE.habit_ages_ms,
    _HABITS.meaning,
)
_CONTROLS: Field[int | None] = Field(
    "controls",
    read.or_word(_few, NONE, 0),
    DEFAULT_GATE.controls_per_exposure,
    "Vehicles that wait one more call beside each exposure, to show what silence is normal; default 3, in fleets of "
    "fewer than 100 none.",
)
_SILENCE_REFERENCE = Field(
    "silence_reference", _shares, (), "Share of vehicles that is normally silent at each checkpoint."
)
_ALPHA = Field("alpha", read.ratio(0.0, 0.5), DEFAULT_GATE.alpha, "Chance accepted of halting a good release.")
_HOLD_FINAL = Field("hold_final", _age, 0, "How long a hold lasts until it needs a person.")
_SAFETY_CRITICAL = Field(
    "safety_critical",
    read.truth,
    DEFAULT_GATE.safety_critical,
    "Whether a failure can hurt people: a quarter of the blast budget, first promotions at the last checkpoint.",
)
GATE = Group(
    "gate",
    (
        _FAILURE_RATIO,
        _SAMPLE,
        _STRATUM_SAMPLE,
        _CHECKPOINTS,
        _HABIT_AGES,
        _CONTROLS,
        _SILENCE_REFERENCE,
        _ALPHA,
        _HOLD_FINAL,
        _SAFETY_CRITICAL,
    ),
    "When to hold and when to halt.",
)

_IN_FLIGHT = Field(
    "in_flight",
    _whole,
    DEFAULT_LIMITS.in_flight_max,
    "Attempts that hold a slot at once; default max(1000, 10 % of the targeted vehicles), at most a day of starts.",
)
_STARTS = Field(
    "starts_per_minute", _whole, DEFAULT_LIMITS.starts_per_minute_max, "Permits to install a minute of fleet time."
)
_BLAST_BUDGET = Field(
    "blast_budget",
    _whole,
    DEFAULT_LIMITS.blast_budget,
    "Vehicles that may be hurt at worst by exposures not yet aged; default max(20, 0.2 % of the targeted vehicles).",
)
_ATTEMPTS = Field("attempts", read.count(1, 100), DEFAULT_LIMITS.attempts_max, "Tries that a vehicle has.")
_RETRY_BACKOFF = Field(
    "retry_backoff",
    read.duration(_SECOND, 30 * _DAY),
    DEFAULT_LIMITS.retry_backoff_ms,
    "Wait before the second try; doubles with each further one.",
)
_PERMIT_VALID = Field(
    "permit_valid", read.duration(_SECOND, _HOUR), DEFAULT_LIMITS.permit_valid_ms, "How long a permit is good for."
)
_PATIENCE = Field("patience", _age, DEFAULT_LIMITS.patience_ms, "How long a wave waits for vehicles that do not call.")
LIMITS = Group(
    "limits",
    (_IN_FLIGHT, _STARTS, _BLAST_BUDGET, _ATTEMPTS, _RETRY_BACKOFF, _PERMIT_VALID, _PATIENCE),
    "Limits over all regions.",
)

_CODES = read.several(
    read.matching(re.compile(r"[a-z0-9_]{1,63}[a-z0-9_*]?", re.ASCII), "a failure code such as disk_full or unpack_*"),
    "a list of failure codes such as [disk_full, unpack_*]",
)
_NEVER: Field[tuple[str, ...]] = Field(
    "never",
    read.or_word(read.different(_CODES), NONE, ()),
    (),
    "Failure codes after which a vehicle is not tried again; a last `*` stands for any ending.",
)
_LONGEST = Field("longest", _age, 0, "Longest wait between two tries.")
RETRIES = Group("retries", (_NEVER, _LONGEST), "Which attempts that end before a permit are followed by another one.")

_DEADLINES = {
    state: Field(state.value, _age, default, f"How long an attempt may be {state.value} before it is timed out.")
    for state, default in DEFAULT_DEADLINES.items()
}
DEADLINES = Group("deadlines", tuple(_DEADLINES.values()), "How long an attempt may stay in each state.")


def gate(fields: Places) -> GateLimits:
    """The gate of a plan.

    Args:
        fields: Of the top level.
    """
    section = GATE.below(fields)
    checkpoints = _CHECKPOINTS.of(section)
    reference = _SILENCE_REFERENCE.of(section) or tuple(map(_usual_silence, checkpoints))
    _check_ascending(section.get(_CHECKPOINTS.name), checkpoints, "checkpoints are not ascending")
    if len(reference) != len(checkpoints):
        section[_SILENCE_REFERENCE.name].fault(
            f"{len(reference)} silence references for {len(checkpoints)} checkpoints", "write one for each checkpoint"
        )
    hold_final = _HOLD_FINAL.of(section) or max(DEFAULT_GATE.hold_final_ms, checkpoints[-1])
    if hold_final < checkpoints[0]:
        section[_HOLD_FINAL.name].fault(
            f"a hold would be final ({write_duration(hold_final)}) before the first checkpoint "
            f"({write_duration(checkpoints[0])}) could clear it",
            "raise gate.hold_final or lower gate.checkpoints",
        )
    found = GateLimits(
        failure_ratio_max=_FAILURE_RATIO.of(section),
        sample_min=_SAMPLE.of(section),
        checkpoints_ms=checkpoints,
        silence_reference=reference,
        alpha=_ALPHA.of(section),
        habit_ages_ms=_habit_ages(section, checkpoints[0]),
        controls_per_exposure=_CONTROLS.of(section),
        stratum_sample_min=_STRATUM_SAMPLE.of(section),
        hold_final_ms=hold_final,
        safety_critical=_SAFETY_CRITICAL.of(section),
    )
    if found.controls_per_exposure and not controls.can_be_heard(found):
        section[_CONTROLS.name].fault(
            f"an age at which silence is judged is below {write_duration(controls.YOUNGEST_MS)}: no control could be "
            "heard by then",
            f"raise gate.checkpoints and gate.habit_ages, or write controls: {NONE}",
        )
    return found


def _usual_silence(age_ms: int) -> float:
    """What is normally silent at an age, by the default checkpoint that is as old or younger; else by the first."""
    known = zip(DEFAULT_GATE.checkpoints_ms, DEFAULT_GATE.silence_reference, strict=True)
    return [share for default_ms, share in known if default_ms <= max(age_ms, DEFAULT_GATE.checkpoints_ms[0])][-1]


def _habit_ages(section: Places, first_ms: int) -> dict[Habit, tuple[int, ...]]:
    """Ages by habit; of the default those that are early enough, of the plan's own all."""
    ages = _HABIT_AGES.of(section)
    place = section.get(_HABIT_AGES.name)
    if place is not None:
        for habit, own in ages.items():
            if own and own[-1] >= first_ms:
                place.fault(
                    f"age {write_duration(own[-1])} for vehicles that call {habit} is not below the first checkpoint "
                    f"({write_duration(first_ms)}), where all are judged",
                    "write ages below it, or raise gate.checkpoints",
                )
    kept = {habit: tuple(age for age in own if age < first_ms) for habit, own in ages.items()}
    return {habit: own for habit, own in kept.items() if own}


def _check_ascending(place: Place | None, ages: tuple[int, ...], message: str) -> None:
    if place is not None and list(ages) != sorted(set(ages)):
        place.fault(message, "write the youngest first, none twice")


def limits(fields: Places) -> Limits:
    """The limits of a plan over all regions.

    Args:
        fields: Of the top level.
    """
    section = LIMITS.below(fields)
    return Limits(
        in_flight_max=_IN_FLIGHT.of(section),
        starts_per_minute_max=_STARTS.of(section),
        blast_budget=_BLAST_BUDGET.of(section),
        attempts_max=_ATTEMPTS.of(section),
        retry_backoff_ms=_RETRY_BACKOFF.of(section),
        permit_valid_ms=_PERMIT_VALID.of(section),
        patience_ms=_PATIENCE.of(section),
    )


def retries(fields: Places, bounds: Limits) -> Retries:
    """Which attempts are followed by another one.

    Args:
        fields: Of the top level.
        bounds: The plan's limits.
    """
    section = RETRIES.below(fields)
    longest = _LONGEST.of(section) or max(Retries().longest_ms, bounds.retry_backoff_ms)
    if longest < bounds.retry_backoff_ms:
        section[_LONGEST.name].fault(
            f"the longest wait ({write_duration(longest)}) < limits.retry_backoff "
            f"({write_duration(bounds.retry_backoff_ms)}), the first one",
            "raise retries.longest or lower limits.retry_backoff",
        )
    return Retries(never=_NEVER.of(section), longest_ms=longest)


def deadlines(fields: Places, bounds: Limits) -> dict[AttemptState, int]:
    """How long each live state may last.

    Args:
        fields: Of the top level.
        bounds: The plan's limits.
    """
    section = DEADLINES.below(fields)
    found = {state: field.of(section) for state, field in _DEADLINES.items()}
    permitted = found[AttemptState.PERMITTED]
    if permitted < bounds.permit_valid_ms:
        # Left out, it is as long as the longest permit.
        section[AttemptState.PERMITTED.value].fault(
            f"an attempt would time out ({write_duration(permitted)}) before its permit does "
            f"({write_duration(bounds.permit_valid_ms)})",
            "raise deadlines.permitted or lower limits.permit_valid",
        )
    return found


def gate_document(value: GateLimits) -> dict[str, Any]:
    """What stands in a file for a gate."""
    ages = {habit.value: _durations(own) for habit, own in value.habit_ages_ms.items() if own}
    return {
        "failure_ratio": write_ratio(value.failure_ratio_max),
        "sample": value.sample_min,
        "stratum_sample": value.stratum_sample_min,
        "checkpoints": _durations(value.checkpoints_ms),
        "habit_ages": ages or NONE,
        **({} if value.controls_per_exposure is None else {"controls": value.controls_per_exposure or NONE}),
        "silence_reference": [write_ratio(share) for share in value.silence_reference],
        "alpha": write_ratio(value.alpha),
        "hold_final": write_duration(value.hold_final_ms),
        "safety_critical": value.safety_critical,
    }


def limits_document(value: Limits) -> dict[str, Any]:
    """What stands in a file for limits; what is left to the start stays left out."""
    return {
        **({"in_flight": value.in_flight_max} if value.in_flight_max else {}),
        "starts_per_minute": value.starts_per_minute_max,
        **({"blast_budget": value.blast_budget} if value.blast_budget else {}),
        "attempts": value.attempts_max,
        "retry_backoff": write_duration(value.retry_backoff_ms),
        "permit_valid": write_duration(value.permit_valid_ms),
        "patience": write_duration(value.patience_ms),
    }


def retries_document(value: Retries) -> dict[str, Any]:
    """What stands in a file for retries."""
    return {"never": list(value.never) or NONE, "longest": write_duration(value.longest_ms)}


def deadlines_document(value: Mapping[AttemptState, int]) -> dict[str, str]:
    """What stands in a file for deadlines."""
    return {state.value: write_duration(value[state]) for state in DEFAULT_DEADLINES}


def _durations(ages: tuple[int, ...]) -> list[str]:
    return [write_duration(age_ms) for age_ms in ages]
