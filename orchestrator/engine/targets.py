"""Targets: whether the fields that vehicles share (their profile) match a plan's target.

Owns the meaning of every field match and of the `installed` clause. A profile is matched once per plan; whoever keeps
the result, keeps it.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from semver import Version

from orchestrator.engine.supersession import newer_than
from orchestrator.engine.wording import listed
from orchestrator.model.fleet import Profile
from orchestrator.model.ids import ReleaseVersion
from orchestrator.model.plan import Plan, Target
from orchestrator.model.release import Release
from orchestrator.model.value import value

_OPERATORS: Mapping[str, Callable[[Version, Version], bool]] = MappingProxyType(
    {
        "<": operator.lt,
        "<=": operator.le,
        ">": operator.gt,
        ">=": operator.ge,
        "==": operator.eq,
        "=": operator.eq,
        "!=": operator.ne,
        "": operator.eq,
    }
)
_COMPARISON = re.compile(r"\s*(<=|>=|==|!=|<|>|=|)\s*(\S+)\s*", re.ASCII)
_SHORT_VERSION = re.compile(r"(0|[1-9][0-9]{0,8})(\.(0|[1-9][0-9]{0,8}))?")


class TargetError(ValueError):
    """An `installed` clause cannot be read; the message says which part and what is expected."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One part of an `installed` clause."""

    symbol: str
    """`<`, `<=`, `>`, `>=`, `==` or `!=`."""
    version: Version
    """What is compared with."""

    def holds(self, installed: Version) -> bool:
        """Whether an installed version satisfies it, by the precedence of semantic versions."""
        return _OPERATORS[self.symbol](installed, self.version)


@dataclass(frozen=True, slots=True)
class CompiledTarget:
    """A target whose `installed` clause was read."""

    target: Target
    installed: tuple[Comparison, ...]
    """All must hold; empty matches anything."""
    requires: tuple[Comparison, ...] = ()
    """Of the required intermediate release: all must hold of what is installed; empty asks for nothing."""
    newer: frozenset[ReleaseVersion] = frozenset()
    """Releases that the plan's cannot follow, see `supersession`."""


@value(frozen=True, slots=True)
class Mismatch:
    """The first field of a profile that does not match."""

    field: str
    """Of the target: `model`, `hardware`, `region`, `cohort`, `tags_all`, `tags_none` or `installed`."""
    wanted: str
    """What the target asks for, for people."""
    found: str
    """What the vehicle has, for people."""


def parse_version(text: str) -> Version:
    """A semantic version; `1` and `1.1` stand for `1.0.0` and `1.1.0`.

    Raises:
        TargetError: it is not one.
    """
    if _SHORT_VERSION.fullmatch(text):
        text += ".0" * (2 - text.count("."))
    try:
        return Version.parse(text)
    except ValueError as error:
        msg = f"`{text[:40]}` is not a semantic version such as 1.1.0"
        raise TargetError(msg) from error


def compile_comparisons(clause: str) -> tuple[Comparison, ...]:
    """Read an `installed` clause such as `>=1.0.0,<1.1.0`; empty gives no comparison.

    Raises:
        TargetError: a part of it is not a comparison with a semantic version.
    """
    if not clause.strip():
        return ()
    comparisons = []
    for part in clause.split(","):
        match = _COMPARISON.fullmatch(part)
        if match is None:
            msg = f"`{part.strip()[:40]}` is not a comparison such as <1.1.0"
            raise TargetError(msg)
        comparisons.append(Comparison(symbol=match[1], version=parse_version(match[2])))
    return tuple(comparisons)


def satisfied(comparisons: Sequence[Comparison], installed: str) -> bool:
    """Whether all comparisons hold of the release that a vehicle has proven; without comparisons always.

    Args:
        comparisons: As compiled.
        installed: The release; empty when none is proven, of which no comparison holds.
    """
    if not comparisons:
        return True
    try:
        version = parse_version(installed)
    except TargetError:
        return False
    return all(comparison.holds(version) for comparison in comparisons)


def satisfiable(comparisons: Sequence[Comparison], but: str = "") -> bool:
    """Whether there can be a version for which all comparisons hold.

    Args:
        comparisons: As compiled.
        but: A version that does not count; one with build metadata always has equals beside it.
    """
    bounds = [Version(0, 0, 0, "0"), *(comparison.version for comparison in comparisons)]
    candidates = list(bounds)
    # Between a bound and the next version that is not excluded by name lie at most as many as there are comparisons.
    for bound in bounds:
        for _ in range(len(comparisons) + 1):
            bound = _successor(bound)
            candidates.append(bound)
    excluded = parse_version(but) if but and "+" not in but else None
    return any(
        candidate != excluded and all(comparison.holds(candidate) for comparison in comparisons)
        for candidate in candidates
    )


def _successor(version: Version) -> Version:
    """The version right behind another in the order of precedence."""
    if version.prerelease:
        return Version(version.major, version.minor, version.patch, f"{version.prerelease}.0")
    return Version(version.major, version.minor, version.patch + 1, "0")


def compile_target(target: Target) -> CompiledTarget:
    """Read what of a target needs reading, once.

    Raises:
        TargetError: the `installed` clause cannot be read; a plan that was read from a file never has such a one.
    """
    return CompiledTarget(target=target, installed=compile_comparisons(target.installed))


def compile_plan(plan: Plan, releases: Iterable[Release] = ()) -> CompiledTarget:
    """A plan's target with what else decides by the release that a vehicle runs.

    Args:
        plan: As read.
        releases: Every registered one; without them nothing counts as newer.

    Raises:
        TargetError: as `compile_target`.
    """
    return replace(
        compile_target(plan.target),
        requires=compile_comparisons(plan.requires),
        newer=newer_than(plan.release, releases),
    )


def lacks_intermediate(compiled: CompiledTarget, installed: ReleaseVersion) -> bool:
    """Whether the required intermediate release is missing. What nothing proves is missing."""
    return not satisfied(compiled.requires, installed)


def mismatch(compiled: CompiledTarget, profile: Profile) -> Mismatch | None:
    """The first field that does not match, in the order of the target's fields; None when the profile is targeted."""
    target = compiled.target
    for field, wanted, found in (
        ("model", target.model, profile.model),
        ("hardware", target.hardware, profile.hardware),
        ("region", target.region, profile.region),
        ("cohort", target.cohort, profile.cohort),
    ):
        if wanted and found not in wanted:
            return Mismatch(field=field, wanted=listed(wanted), found=found)
    if target.tags_all and not set(target.tags_all) <= set(profile.tags):
        return Mismatch(field="tags_all", wanted=f"all of {listed(target.tags_all)}", found=_tags(profile))
    if target.tags_none and set(target.tags_none) & set(profile.tags):
        return Mismatch(field="tags_none", wanted=f"none of {listed(target.tags_none)}", found=_tags(profile))
    return _installed_mismatch(compiled, profile)


def _tags(profile: Profile) -> str:
    return ", ".join(profile.tags) or "no tags"


def _installed_mismatch(compiled: CompiledTarget, profile: Profile) -> Mismatch | None:
    if satisfied(compiled.installed, profile.installed):
        return None
    # Where nothing proves what it runs, a range cannot hold of it.
    return Mismatch(field="installed", wanted=compiled.target.installed, found=profile.installed or "unknown")
