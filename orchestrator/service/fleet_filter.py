"""Filters over the inventory, as operators write them: `region=eu|us,tag!=hold,installed<1.1.0`.

Owns the grammar: terms separated by commas, all of which must hold; a term is a field, `=` or `!=`, and values
separated by `|`, of which one must fit (or, with `!=`, none). `installed` also takes `<`, `<=`, `>`, `>=` and one
version; a vehicle that never proved what it runs fits no such comparison. `none` stands for no zone and no release,
`*` at the end of a vehicle id for any ending. Leaves targets of plans to `engine.targets`, which are typed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.engine.targets import Comparison, TargetError, compile_comparisons, parse_version
from orchestrator.model.fleet import Profile
from orchestrator.model.ids import ROLLOUT_ID_PATTERN, VEHICLE_ID_PATTERN, VehicleId
from orchestrator.model.vehicle import EVERY_ROLLOUT, VehicleRecord
from orchestrator.service.errors import InvalidInputError, Violation

FILTER_LENGTH_MAX = 4096
NONE = "none"
QUARANTINE = "quarantine"
SHARED_FIELDS = ("model", "hardware", "region", "cohort", "zone", "tag", "installed")
"""Fields that vehicles share by profile: what can be counted without a look at each vehicle."""
OWN_FIELDS = ("vehicle_id", "enrolled", "excluded")
ALL_FIELDS = (*OWN_FIELDS[:1], *SHARED_FIELDS, *OWN_FIELDS[1:])
REMEDY = "write terms FIELD=A|B, FIELD!=A or installed<1.1.0, separated by commas; fields: "

_TERM = re.compile(r"\s*([a-z_]*)\s*(<=|>=|==|!=|<|>|=)\s*(.*?)\s*", re.DOTALL)
_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./+-]{0,63}")
_BY_RECORD: Mapping[str, Callable[[VehicleRecord], Sequence[str]]] = {
    "vehicle_id": lambda record: (record.vehicle.vehicle_id,),
    "enrolled": lambda record: ("true" if record.enrolled else "false",),
    "excluded": lambda record: _scopes(record),
}


@dataclass(frozen=True, slots=True)
class Term:
    """One condition."""

    field: str
    values: tuple[str, ...]
    """One must fit; empty when `comparisons` decide."""
    negated: bool
    comparisons: tuple[Comparison, ...] = ()
    """Of `installed`."""

    def holds(self, found: Sequence[str]) -> bool:
        """Whether what a vehicle has in this field fits."""
        if self.comparisons:
            return bool(found) and _compares(self.comparisons, found[0])
        fits = any(_fits(wanted, found) for wanted in self.values)
        return fits is not self.negated


@dataclass(frozen=True, slots=True)
class FleetFilter:
    """Terms that must all hold; none of them lets every vehicle through."""

    terms: tuple[Term, ...] = ()

    def matches(self, record: VehicleRecord) -> bool:
        """Whether a vehicle fits."""
        profile = record.vehicle.profile(record.installed)
        return all(
            term.holds(_BY_RECORD[term.field](record) if term.field in _BY_RECORD else _of(profile, term.field))
            for term in self.terms
        )

    def matches_profile(self, profile: Profile) -> bool:
        """Whether every vehicle of a profile fits; only for terms of SHARED_FIELDS."""
        return all(term.holds(_of(profile, term.field)) for term in self.terms)

    def narrowed(self, **fields: str) -> FleetFilter:
        """The same for vehicles that have these values as well; an empty one asks for nothing."""
        more = tuple(Term(name, (value,), negated=False) for name, value in fields.items() if value)
        return FleetFilter(self.terms + more)

    @property
    def by_profile(self) -> Callable[[Profile], bool] | None:
        """Which profiles a vehicle can have that fits; None where the filter asks for nothing that a profile says."""
        shared = FleetFilter(tuple(term for term in self.terms if term.field in SHARED_FIELDS))
        return shared.matches_profile if shared.terms else None

    @property
    def named(self) -> tuple[VehicleId, ...] | None:
        """The only vehicles that can fit, where the filter names them; None when it names none."""
        for term in self.terms:
            if term.field == "vehicle_id" and not term.negated and not any(each.endswith("*") for each in term.values):
                return tuple(VehicleId(each) for each in sorted(set(term.values)))
        return None


def parse_filter(text: str, *, fields: Sequence[str] = ALL_FIELDS) -> FleetFilter:
    """Read a filter; empty text gives one that lets every vehicle through.

    Args:
        text: as it was typed.
        fields: those that may be asked for.

    Raises:
        InvalidInputError: every fault, with the column where its term begins.
    """
    if len(text) > FILTER_LENGTH_MAX:
        raise _refused([Violation("filter", f"has {len(text)} characters, at most {FILTER_LENGTH_MAX}")], fields)
    if not text.strip():
        return FleetFilter()
    terms: list[Term] = []
    faults: list[Violation] = []
    column = 1
    for part in text.split(","):
        try:
            terms.append(_term(part, fields))
        except ValueError as error:
            faults.append(Violation(f"filter:{column + len(part) - len(part.lstrip())}", str(error)))
        column += len(part) + 1
    if faults:
        raise _refused(faults, fields)
    return FleetFilter(tuple(terms))


def _term(part: str, fields: Sequence[str]) -> Term:
    """One term.

    Raises:
        ValueError: it is none; the message says why.
    """
    match = _TERM.fullmatch(part)
    if match is None:
        what = f"`{part.strip()[:40]}`" if part.strip() else "nothing stands between two commas: it"
        raise ValueError(f"{what} is no term such as region=eu")
    field, symbol, rest = match.groups()
    if field not in fields:
        where = "counted by" if field in ALL_FIELDS else "a field"
        raise ValueError(f"`{field}` is not {where}; there are {', '.join(fields)}")
    if symbol in ("<", "<=", ">", ">="):
        if field != "installed":
            raise ValueError(f"`{symbol}` compares versions: only `installed` has one")
        return Term(field, (), negated=False, comparisons=_comparison(symbol, rest))
    values = tuple(value.strip() for value in rest.split("|"))
    for value in values:
        if problem := _value_fault(field, value):
            raise ValueError(problem)
    return Term(field, values, negated=symbol == "!=")


def _comparison(symbol: str, version: str) -> tuple[Comparison, ...]:
    try:
        return compile_comparisons(symbol + version)
    except TargetError as error:
        raise ValueError(str(error)) from error


def _value_fault(field: str, value: str) -> str:
    """Why a value can fit no vehicle; empty when it may."""
    if field == "enrolled":
        return "" if value in ("true", "false") else f"enrolled is `true` or `false`, not `{value[:40]}`"
    if field == "excluded":
        known = value in ("true", "false", QUARANTINE) or ROLLOUT_ID_PATTERN.fullmatch(value)
        return "" if known else f"excluded is `true`, `false`, `quarantine` or a rollout's id, not `{value[:40]}`"
    if field == "vehicle_id":
        fits = VEHICLE_ID_PATTERN.fullmatch(value.removesuffix("*")) or value == "*"
        return "" if fits else f"`{value[:40]}` is no vehicle id, nor the beginning of one with `*`"
    if field == "installed" and value != NONE:
        try:
            parse_version(value)
        except TargetError as error:
            return f"{error}, nor `none`"
        return ""
    if not value:
        return f"no value stands after `{field}`" + (": write `none` for vehicles without" if field == "zone" else "")
    return "" if _VALUE.fullmatch(value) else f"`{value[:40]}` is no value of {field}"


def _fits(wanted: str, found: Sequence[str]) -> bool:
    if wanted.endswith("*"):
        return any(each.startswith(wanted[:-1]) for each in found)
    return wanted in found


def _compares(comparisons: Sequence[Comparison], installed: str) -> bool:
    try:
        version = parse_version(installed)
    except TargetError:
        return False
    return all(comparison.holds(version) for comparison in comparisons)


def _of(profile: Profile, field: str) -> Sequence[str]:
    """What the vehicles of a profile have in a field."""
    if field == "tag":
        return profile.tags
    value: str = getattr(profile, field)
    return (value or NONE,)


def _scopes(record: VehicleRecord) -> Sequence[str]:
    """What `excluded` can ask for of a vehicle."""
    if not record.exclusions:
        return ("false",)
    return ("true", *(QUARANTINE if each.scope == EVERY_ROLLOUT else each.scope for each in record.exclusions))


def _refused(faults: Sequence[Violation], fields: Sequence[str]) -> InvalidInputError:
    return InvalidInputError(
        f"the filter has {len(faults)} fault{'s' if len(faults) > 1 else ''}",
        reason="FILTER_MALFORMED",
        remedy=REMEDY + ", ".join(fields),
        violations=faults,
    )
