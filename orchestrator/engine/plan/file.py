"""The plan file: YAML in, a checked `Plan` out.

Owns the fields of the top level, target, waves and conditions, and the order of reading. Fields of regions are read in
`plan.regions`, of gate, limits, retries and deadlines in `plan.gate`; what contradicts itself across them is found by
`plan.checks`. The way back is `plan.document`, the published form `plan.schema`. What cannot work with the fleet as it
is (cohorts without vehicles, budgets too small) is said by `preview`, as a warning.
"""

from __future__ import annotations

from orchestrator.engine.plan import checks, words
from orchestrator.engine.plan import gate as plan_gate
from orchestrator.engine.plan import readers as read
from orchestrator.engine.plan import regions as plan_regions
from orchestrator.engine.plan.document import effective_plan
from orchestrator.engine.plan.fields import Field, Group, Places
from orchestrator.engine.plan.nodes import Place, PlanError, PlanFault, compose
from orchestrator.model.ids import ROLLOUT_ID_PATTERN, ReleaseVersion
from orchestrator.model.plan import OnHalt, Plan, Preconditions, Purpose, Target, Wave
from orchestrator.model.vehicle import LinkType

__all__ = ["PLAN", "PlanError", "PlanFault", "effective_plan", "read_plan"]

_DAY = 86_400_000
_YEAR = 365 * _DAY
_SIZE_MAX_BYTES = 10**15
_APPROVALS_MAX = 5
_PRIORITY_MAX = 1000
_WAVES_MOST = 50
_LINKS = tuple(link.value for link in LinkType if link is not LinkType.UNKNOWN)
_PLAN_WANTED = "a mapping such as `release: 1.1.0`"
_WAVE_WANTED = "a wave such as {name: canary, cohorts: [canary]}"

DEFAULT_WAVES = tuple(
    Wave(name=name, cohorts=(), share=share, soak_ms=_DAY)
    for name, share in (
        ("first", 0.001),
        ("hundredth", 0.01),
        ("tenth", 0.1),
        ("half", 0.5),
        ("everybody", 1.0),
    )
)
"""Stages of 0.1, 1, 10, 50 and 100 %. Source: the reference study (docs/decisions/0006)."""
DEFAULT_HOLDOUT_SHARE = 0.01

_MODEL = Field("model", read.names, (), "Models, one of these.")
_HARDWARE = Field("hardware", read.names, (), "Hardware variants, one of these.")
_IN_REGION = Field("region", read.names, (), "Regions, one of these.")
_COHORT = Field("cohort", read.names, (), "Cohorts, one of these.")
_TAGS_ALL = Field("all", read.names, (), "Tags, every one of these.")
_TAGS_NONE = Field("none", read.names, (), "Tags, not one of these.")
_TAGS = Group("tags", (_TAGS_ALL, _TAGS_NONE), "Tags that must and must not be there.")
_INSTALLED = Field("installed", words.comparisons, "", "Release that the vehicle's last manifest proves.")
_TARGET = Group("target", (_MODEL, _HARDWARE, _IN_REGION, _COHORT, _TAGS, _INSTALLED), "Who the rollout is for.")

_WAVE_NAME = Field("name", read.name, "", "Unique in the plan.")
_COHORTS = Field("cohorts", read.names, (), "Whom the wave is for; default: every cohort.")
_SHARE = Field("share", read.ratio(0.0, 1.0), 1.0, "Part of these, drawn by a hash.")
_SOAK = Field("soak", read.duration(0, _YEAR), _DAY, "Least time in this wave.")
_WAVE_APPROVALS = Field(
    "approvals", read.count(0, _APPROVALS_MAX), 0, "People that must approve before the wave begins."
)
_WAVE = Group("wave", (_WAVE_NAME, _COHORTS, _SHARE, _SOAK, _WAVE_APPROVALS), "One step.", ("name",), _WAVE_WANTED)

_BATTERY = Field("battery", read.percent, 0, "Least battery.")
_PARKED = Field("parked", read.truth, False, "Whether the vehicle must stand still, in park.")
_UNMETERED = Field("unmetered", read.truth, False, "Whether the link in use must cost its owner nothing.")
_STORAGE = Field("storage", words.size(0, _SIZE_MAX_BYTES), 0, "Least free storage.")
_LINK_WORDS = read.different(
    read.several(read.mapped(read.one_of(_LINKS), LinkType), "a list of links such as [wifi, wired]")
)
_LINK_FIELD = Field("links", read.or_word(_LINK_WORDS, "any", ()), (), "Links that will do.")
_CONDITIONS = Group(
    "conditions", (_BATTERY, _PARKED, _UNMETERED, _STORAGE, _LINK_FIELD), "What must hold when an installation begins."
)

_NAME = Field(
    "name",
    read.matching(ROLLOUT_ID_PATTERN, "a rollout id"),
    "",
    "Becomes the rollout's id, unless the start names one.",
)
_RELEASE = Field("release", words.release, ReleaseVersion(""), "A release that is registered.")
_PURPOSE = Field(
    "purpose",
    read.mapped(read.one_of(tuple(purpose.value for purpose in Purpose)), Purpose),
    Purpose.QUALITY,
    "What the release is for; `consent` may differ by it.",
)
_PRIORITY = Field(
    "priority", read.count(0, _PRIORITY_MAX), 0, "Which of several rollouts goes first: the highest, then the oldest."
)
_REQUIRES = Field("requires", words.comparisons, "", "What must be installed before: the intermediate release.")
_SUPERSEDES = Field(
    "supersedes",
    read.matching(ROLLOUT_ID_PATTERN, "the id of a rollout"),
    "",
    "The rollout whose place this one takes when it starts.",
)
_APPROVALS = Field(
    "approvals", read.count(0, _APPROVALS_MAX), 0, "People that must approve the rollout before it starts."
)
_WAVES: Field[tuple[Place, ...]] = Field(
    "waves",
    read.several(read.Reader(lambda place: place, _WAVE.schema), "a list of waves", most=_WAVES_MOST),
    (),
    "The steps, in order.",
)
_ON_HALT = Field(
    "on_halt",
    read.mapped(read.one_of(tuple(reaction.value for reaction in OnHalt)), OnHalt),
    OnHalt.STOP,
    "What a halt of the gate leads to.",
)
_HOLDOUT = Field(
    "holdout",
    read.ratio(0.0, 0.5, low_allowed=True),
    DEFAULT_HOLDOUT_SHARE,
    "Part of the target that stays out until the last wave has aged.",
)
PLAN = Group(
    "plan",
    (
        _NAME,
        _RELEASE,
        _PURPOSE,
        _PRIORITY,
        _TARGET,
        _REQUIRES,
        _SUPERSEDES,
        _APPROVALS,
        _WAVES,
        *plan_regions.DEFAULT_FIELDS,
        plan_regions.REGIONS,
        _CONDITIONS,
        plan_gate.GATE,
        plan_gate.LIMITS,
        plan_gate.RETRIES,
        plan_gate.DEADLINES,
        _ON_HALT,
        _HOLDOUT,
    ),
    "One release on its way to one target set.",
    ("release",),
    _PLAN_WANTED,
)
"""Every field of a plan file."""


def read_plan(text: str) -> Plan:
    """Read and check a plan file.

    Args:
        text: YAML as documented in docs/plan-file.md; only `release` is required. A plan without `regions` has none:
            they are filled in at the start, from the inventory, and so is a blast budget that is left out.

    Raises:
        PlanError: anything is wrong with it; carries every fault, with line and column.
    """
    faults: list[PlanFault] = []
    root = Place(node=compose(text), path="", faults=faults)
    fields = PLAN.at(root)
    if root.mapping and _RELEASE.name not in fields:
        root.fault("`release` is missing", "write the version to roll out, for example `release: 1.1.0`")
    plan = _plan(fields)
    if faults:
        raise PlanError(faults)
    return plan


def _plan(fields: Places) -> Plan:
    target = _target(fields)
    purpose = _PURPOSE.of(fields)
    holdout_share = _HOLDOUT.of(fields)
    limits = plan_gate.limits(fields)
    region_defaults = plan_regions.region_defaults(fields, limits.in_flight_max, purpose)
    plan = Plan(
        release=_RELEASE.of(fields),
        target=target,
        waves=_waves(fields, target, holdout_share),
        regions=plan_regions.regions(fields, region_defaults, purpose),
        gate=plan_gate.gate(fields),
        limits=limits,
        deadlines_ms=plan_gate.deadlines(fields, limits),
        holdout_share=holdout_share,
        name=_NAME.of(fields),
        region_defaults=region_defaults,
        preconditions=_preconditions(fields),
        purpose=purpose,
        priority=_PRIORITY.of(fields),
        approvals=_APPROVALS.of(fields),
        supersedes=_SUPERSEDES.of(fields),
        requires=_REQUIRES.of(fields),
        on_halt=_ON_HALT.of(fields),
        retries=plan_gate.retries(fields, limits),
    )
    checks.check(plan, fields)
    return plan


def _target(fields: Places) -> Target:
    section = _TARGET.below(fields)
    tags = _TAGS.below(section)
    return Target(
        model=_MODEL.of(section),
        hardware=_HARDWARE.of(section),
        region=_IN_REGION.of(section),
        cohort=_COHORT.of(section),
        tags_all=_TAGS_ALL.of(tags),
        tags_none=_TAGS_NONE.of(tags),
        installed=_INSTALLED.of(section),
    )


def _waves(fields: Places, target: Target, holdout_share: float) -> tuple[Wave, ...]:
    items = _WAVES.of(fields)
    if not items:
        return DEFAULT_WAVES
    read_waves: list[Wave] = []
    for item in items:
        known = len(item.faults)
        wave = _wave(item)
        if len(item.faults) == known:
            # A wave that is faulty in itself would make others look impossible.
            checks.check_wave(item, wave, read_waves, target, holdout_share)
            read_waves.append(wave)
    return tuple(read_waves)


def _wave(place: Place) -> Wave:
    section = _WAVE.at(place)
    if place.mapping and _WAVE_NAME.name not in section:
        place.fault("the wave has no `name`", "name it, for example {name: canary, share: 1%}")
    return Wave(
        name=_WAVE_NAME.of(section),
        cohorts=_COHORTS.of(section),
        share=_SHARE.of(section),
        soak_ms=_SOAK.of(section),
        approvals=_WAVE_APPROVALS.of(section),
    )


def _preconditions(fields: Places) -> Preconditions:
    section = _CONDITIONS.below(fields)
    return Preconditions(
        unmetered=_UNMETERED.of(section),
        parked=_PARKED.of(section),
        battery_percent_min=_BATTERY.of(section),
        storage_free_bytes_min=_STORAGE.of(section),
        links=_LINK_FIELD.of(section),
    )
