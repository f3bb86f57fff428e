"""Plan files: what is read, what is refused and where, and that the effective plan is the same plan."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.plan.file import DEFAULT_WAVES, PlanError, PlanFault, effective_plan, read_plan
from orchestrator.engine.plan.nodes import SIZE_MAX_BYTES
from orchestrator.model.attempt import AttemptState
from orchestrator.model.fleet import Habit
from orchestrator.model.plan import (
    Consent,
    Freeze,
    OnHalt,
    Preconditions,
    Purpose,
    RegionRules,
    Retries,
    Target,
    Wave,
    Window,
)
from orchestrator.model.vehicle import LinkType
from tests.builders import (
    DAY_MS,
    DEADLINES_MS,
    HOUR_MS,
    MINUTE_MS,
    a_gate,
    a_plan,
    some_limits,
)
from tests.engine.plan_strategies import plans

FULL = """\
name: spring-1-1-0
release: 1.1.0
purpose: security
priority: 7
requires: "!=1.0.3"
supersedes: winter
approvals: 2
on_halt: propose_revert
target:
  model: [S, X]
  hardware: [gen1, gen2]
  region: [eu, us, no]
  tags: {all: [beta], none: [hold]}
  installed: ">=1.0.0,<1.1.0"
waves:
  - {name: canary, cohorts: [internal, canary], soak: 24h}
  - {name: early, cohorts: [early], soak: 90s, approvals: 2}
  - {name: general, share: 100%, soak: 1d12h}      # no cohorts = every cohort
zone: Europe/Berlin
windows:
  - {days: [tue, mon], from: 22:00, to: 05:00}
  - {from: "00:00", to: "24:00"}
freeze: [2026-12-24, {from: 2026-12-31, to: 2027-01-01}]
consent: notice
regions:
  eu: {in_flight: 200, follow: us}
  us: {zone: America/New_York, windows: always, freeze: 2026-07-04, consent: {security: required, feature: none},
       starts_per_minute: 5, bandwidth: 50MB/s, offline_permit: 12h}
  no:
conditions: {battery: 30%, parked: true, unmetered: true, storage: 1.5GiB, links: [wifi, wired]}
gate: {failure_ratio: 2%, sample: 30, checkpoints: [90m, 72h], silence_reference: [5%, 0.043], alpha: 0.05,
       stratum_sample: 7, controls: 2, habit_ages: {often: [60m, 70m], daily: [80m]}, hold_final: 3d,
       safety_critical: true}
limits: {in_flight: 500, starts_per_minute: 10, blast_budget: 7, attempts: 2, retry_backoff: 5m, permit_valid: 10m,
         patience: 7d}
retries: {never: [disk_full, unpack_*], longest: 2d}
deadlines: {offered: 12h, permitted: 2h}
holdout: 0.5 %
"""


def faults(text: str) -> list[tuple[int, int, str]]:
    """Line, column and path of every fault."""
    with pytest.raises(PlanError) as raised:
        read_plan(text)
    assert all(fault.message and fault.remedy for fault in raised.value.faults)
    return [(fault.line, fault.column, fault.path) for fault in raised.value.faults]


def message(text: str) -> str:
    """All that is said about a faulty plan."""
    with pytest.raises(PlanError) as raised:
        read_plan(text)
    return " | ".join(f"{fault.message} -> {fault.remedy}" for fault in raised.value.faults)


def test_release_alone_is_a_safe_rollout():
    """Every default is the cautious one: who writes nothing gets small stages, a soak, a gate and a holdout."""
    plan = read_plan("release: 1.1.0")
    assert plan == a_plan(
        release="1.1.0",
        regions={},
        waves=DEFAULT_WAVES,
        gate=a_gate(
            controls_per_exposure=None,
            checkpoints_ms=(12 * HOUR_MS, DAY_MS, 3 * DAY_MS),
            silence_reference=(0.055, 0.05, 0.043),
            habit_ages_ms={Habit.OFTEN: (6 * HOUR_MS,)},
            stratum_sample_min=5,
        ),
        limits=some_limits(blast_budget=0, in_flight_max=0),
        region_defaults=RegionRules(in_flight_max=0),
        deadlines_ms=DEADLINES_MS,
        holdout_share=0.01,
    )
    assert [wave.share for wave in plan.waves] == [0.001, 0.01, 0.1, 0.5, 1.0]
    assert all(wave.soak_ms == DAY_MS for wave in plan.waves)


def test_every_field_is_read():
    """A field that is read wrong rolls out to the wrong vehicles, or too fast."""
    plan = read_plan(FULL)
    assert plan.name == "spring-1-1-0"
    assert plan.target == Target(
        model=("S", "X"),
        hardware=("gen1", "gen2"),
        region=("eu", "us", "no"),
        tags_all=("beta",),
        tags_none=("hold",),
        installed=">=1.0.0,<1.1.0",
    )
    assert plan.waves == (
        Wave("canary", ("internal", "canary"), 1.0, DAY_MS),
        Wave("early", ("early",), 1.0, 90_000, 2),
        Wave("general", (), 1.0, 36 * HOUR_MS),
    )
    defaults = RegionRules(
        500,
        zone="Europe/Berlin",
        windows=(Window((0, 1), 22 * 60, 5 * 60), Window((0, 1, 2, 3, 4, 5, 6), 0, 1440)),
        freezes=(Freeze(date(2026, 12, 24), date(2026, 12, 24)), Freeze(date(2026, 12, 31), date(2027, 1, 1))),
        consent=Consent.NOTICE,
    )
    fourth = (Freeze(date(2026, 7, 4), date(2026, 7, 4)),)
    assert plan.region_defaults == defaults
    assert plan.regions == {
        "eu": replace(defaults, in_flight_max=200, follow="us"),
        "us": RegionRules(
            500,
            zone="America/New_York",
            freezes=fourth,
            consent=Consent.REQUIRED,
            starts_per_minute_max=5,
            bandwidth_bytes_per_s=50_000_000,
            offline_permit_ms=12 * HOUR_MS,
        ),
        "no": defaults,
    }
    assert plan.preconditions == Preconditions(
        unmetered=True,
        parked=True,
        battery_percent_min=30,
        storage_free_bytes_min=3 * 2**29,
        links=(LinkType.WIFI, LinkType.WIRED),
    )
    assert plan.gate == a_gate(
        controls_per_exposure=2,
        failure_ratio_max=0.02,
        sample_min=30,
        checkpoints_ms=(90 * MINUTE_MS, 3 * DAY_MS),
        stratum_sample_min=7,
        habit_ages_ms={Habit.OFTEN: (60 * MINUTE_MS, 70 * MINUTE_MS), Habit.DAILY: (80 * MINUTE_MS,)},
        hold_final_ms=3 * DAY_MS,
        safety_critical=True,
    )
    assert plan.limits == some_limits(
        in_flight_max=500,
        starts_per_minute_max=10,
        blast_budget=7,
        attempts_max=2,
        retry_backoff_ms=5 * MINUTE_MS,
        permit_valid_ms=10 * MINUTE_MS,
        patience_ms=7 * DAY_MS,
    )
    assert plan.deadlines_ms == {
        **DEADLINES_MS,
        AttemptState.OFFERED: 12 * HOUR_MS,
        AttemptState.PERMITTED: 2 * HOUR_MS,
    }
    assert plan.holdout_share == 0.005
    assert plan.retries == Retries(never=("disk_full", "unpack_*"), longest_ms=2 * DAY_MS)
    assert (plan.purpose, plan.priority, plan.approvals) == (Purpose.SECURITY, 7, 2)
    assert (plan.requires, plan.supersedes, plan.on_halt) == ("!=1.0.3", "winter", OnHalt.PROPOSE_REVERT)


@pytest.mark.parametrize("text", [FULL, "release: 1.1.0"])
def test_effective_plan_reads_as_the_same_plan(text):
    """What preview prints can be started as it stands."""
    plan = read_plan(text)
    effective = effective_plan(plan)
    assert read_plan(effective) == plan
    assert "sample:" in effective
    assert "patience:" in effective


def test_words_that_yaml_takes_for_something_else_stay_words():
    """Region `no` is Norway, model `3` is a model, and neither may vanish on the way through the effective plan."""
    text = "release: 1.1.0\ntarget: {model: [3, 1e3], region: [no, on, off], cohort: [true, 0x1]}\nregions: {no: {}}"
    plan = read_plan(text)
    assert plan.target == Target(model=("3", "1e3"), region=("no", "on", "off"), cohort=("true", "0x1"))
    assert list(plan.regions) == ["no"]
    assert read_plan(effective_plan(plan)) == plan


def test_all_faults_are_told_at_once():
    """One round of mending, not one round a fault; and in the order of the file."""
    text = """\
relase: 1.1.0
release: 1.1
target:
  model: S
  colour: [red]
  installed: "<<1"
waves:
  - {name: canary, cohorts: []}
  - {share: 120%}
  - 7
  - {name: late, soak: 12}
regions: {eu: {in_flight: 0}, "e u": {}}
gate: {failure_ratio: 0%, alpha: 100%, checkpoints: [72h, 24h], sample: many}
limits: {blast_budget: -1, patience: forever}
deadlines: {succeeded: 1h}
holdout: 60%
"""
    assert faults(text) == [
        (1, 1, "relase"),
        (2, 10, "release"),
        (4, 10, "target.model"),
        (5, 3, "target.colour"),
        (6, 14, "target.installed"),
        (8, 29, "waves[0].cohorts"),
        (9, 5, "waves[1]"),
        (9, 13, "waves[1].share"),
        (10, 5, "waves[2]"),
        (11, 24, "waves[3].soak"),
        (12, 27, "regions.eu.in_flight"),
        (12, 38, "regions.e u"),
        (13, 23, "gate.failure_ratio"),
        (13, 34, "gate.alpha"),
        (13, 53, "gate.checkpoints"),
        (13, 73, "gate.sample"),
        (14, 24, "limits.blast_budget"),
        (14, 38, "limits.patience"),
        (15, 13, "deadlines.succeeded"),
        (16, 10, "holdout"),
    ]


def test_unknown_field_suggests_the_closest():
    """A misspelt limit must not silently be its default."""
    assert "unknown field `blast_bugdet` -> did you mean `blast_budget`?" in message(
        "release: 1.1.0\nlimits: {blast_bugdet: 5}"
    )
    assert "known are all, none" in message("release: 1.1.0\ntarget: {tags: {zzz: [a]}}")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", (1, 1, "")),
        ("# nothing\n", (1, 1, "")),
        ("target: {}", (1, 1, "")),
        ("- release: 1.1.0", (1, 1, "")),
        ("just text", (1, 1, "")),
        ("release:", (1, 9, "release")),
        ("release: [1.1.0]", (1, 10, "release")),
        ("release: 01.1.0", (1, 10, "release")),
        ("release: 1.1.0\nrelease: 1.2.0", (2, 1, "release")),
        ("release: 1.1.0\nwaves: []", (2, 8, "waves")),
        ("release: 1.1.0\nwaves: {}", (2, 8, "waves")),
        ("release: 1.1.0\nwaves: [{name: a, share: 0%}]", (2, 26, "waves[0].share")),
        ("release: 1.1.0\nwaves: [{name: a, share: 100.1%}]", (2, 26, "waves[0].share")),
        ("release: 1.1.0\nwaves: [{name: a, share: 1}]", (2, 26, "waves[0].share")),
        ("release: 1.1.0\nwaves: [{name: a, share: .nan}]", (2, 26, "waves[0].share")),
        ("release: 1.1.0\nwaves: [{name: a, share: -5%}]", (2, 26, "waves[0].share")),
        ("release: 1.1.0\nwaves: [{name: a b}]", (2, 16, "waves[0].name")),
        ("release: 1.1.0\nwaves: [{name: a, soak: 1.5h}]", (2, 25, "waves[0].soak")),
        ("release: 1.1.0\nwaves: [{name: a, soak: 1000d}]", (2, 25, "waves[0].soak")),
        ("release: 1.1.0\nwaves: [{name: a, cohorts: [x, x]}]", (2, 28, "waves[0].cohorts")),
        ("release: 1.1.0\nwaves: [{name: a, share: 5%}, {name: a}]", (2, 31, "waves[1]")),
        ("release: 1.1.0\nwaves: [{name: a, share: 5%}, {name: b, share: 5%}]", (2, 31, "waves[1]")),
        ("release: 1.1.0\nwaves: [{name: a}, {name: b, cohorts: [x]}]", (2, 20, "waves[1]")),
        ("release: 1.1.0\ntarget: {cohort: [y]}\nwaves: [{name: b, cohorts: [x]}]", (3, 9, "waves[0]")),
        ("release: 1.1.0\ntarget: {tags: {all: [a], none: [a]}}", (2, 16, "target.tags")),
        ("release: 1.1.0\ntarget: {tags: [a]}", (2, 16, "target.tags")),
        ("release: 1.1.0\ngate: {checkpoints: [24h, 24h]}", (2, 21, "gate.checkpoints")),
        ("release: 1.1.0\ngate: {checkpoints: []}", (2, 21, "gate.checkpoints")),
        ("release: 1.1.0\ngate: {silence_reference: [5%]}", (2, 27, "gate.silence_reference")),
        ("release: 1.1.0\ngate: {failure_ratio: 100%}", (2, 23, "gate.failure_ratio")),
        ("release: 1.1.0\nlimits: {in_flight: 1.5}", (2, 21, "limits.in_flight")),
        ("release: 1.1.0\nlimits: {in_flight: 99999999999999}", (2, 21, "limits.in_flight")),
        ("release: 1.1.0\nlimits:", (2, 8, "limits")),
        ("release: 1.1.0\ndeadlines: {permitted: 5m}", (2, 24, "deadlines.permitted")),
        ("release: 1.1.0\nlimits: {permit_valid: 61m}", (2, 24, "limits.permit_valid")),
        ("release: 1.1.0\noffline_permit: 25h", (2, 17, "offline_permit")),
        ("release: 1.1.0\noffline_permit: always", (2, 17, "offline_permit")),
        ("release: 1.1.0\noffline_permit: 14m", (2, 17, "offline_permit")),
        ("release: 1.1.0\nregions: {eu: {offline_permit: 5m}}", (2, 32, "regions.eu.offline_permit")),
        ("release: 1.1.0\nname: Spring", (2, 7, "name")),
        ("release: 1.1.0\nwaves: [{name: a, approvals: 6}]", (2, 30, "waves[0].approvals")),
        ("release: 1.1.0\n[a]: b", (2, 1, "")),
        ("release: 1.1.0\nholdout: &x 1%", (2, 10, "")),
        ("release: 1.1.0\nholdout: !!float 1", (2, 10, "")),
        ("release: 1.1.0\nholdout: *x", (2, 10, "")),
        ("release: 1.1.0\n---\nrelease: 1.2.0", (2, 1, "")),
        ("release: [", (1, 11, "")),
        ("release: 1.1.0\n\tx: 1", (2, 1, "")),
        ("release: 1.1.0\nname: a\x00b", (2, 8, "")),
        ("[" * 100_000, (1, 9, "")),
        ("a: " + "{a: " * 5_000, (1, 32, "")),
    ],
)
def test_refused_with_line_and_column(text, where):
    """A person finds the place at once, and nothing was changed."""
    assert faults(text) == [where]


def test_too_large_a_file_is_refused_unread():
    """Cohorts and tags describe a fleet; a file of vehicle ids does not belong here."""
    assert "too large" in message("# " + "x" * SIZE_MAX_BYTES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1%", 0.01), ("0.01", 0.01), ("0.1 %", 0.001), ("100%", 1.0), ("4.3%", 0.043), ("1.0", 1.0), (".5", 0.5)],
)
def test_ratios(text, expected):
    """A percentage and a decimal are the same number to the last bit."""
    assert read_plan(f"release: 1.1.0\nwaves: [{{name: a, share: {text}}}]").waves[0].share == expected


@given(plan=plans())
def test_any_plan_survives_writing_and_reading(plan):
    """The effective plan loses nothing, whatever the names look like and however odd the numbers are."""
    assert read_plan(effective_plan(plan)) == plan


def faults_or_none(text: str) -> tuple[PlanFault, ...] | None:
    """The faults of a text; None when it is a plan. Anything else it raises fails the test."""
    try:
        read_plan(text)
    except PlanError as error:
        return error.faults
    return None


@given(text=st.text(max_size=200))
def test_any_text_is_a_plan_or_has_faults(text):
    """Whatever is uploaded, the answer is faults with places, never a crash."""
    found = faults_or_none(text)
    assert found is None or (found and all(fault.line >= 1 and fault.column >= 1 for fault in found))


@given(data=st.data())
def test_damaged_plan_is_a_plan_or_has_faults(data):
    """A good plan with a piece cut out or doubled still never crashes the reader."""
    low = data.draw(st.integers(0, len(FULL)))
    high = data.draw(st.integers(low, min(len(FULL), low + 40)))
    text = FULL[:low] + data.draw(st.sampled_from(["", FULL[low:high] * 2, "{", "]", ": ", "%", "-"])) + FULL[high:]
    assert faults_or_none(text) != ()


def test_effective_plan_of_a_started_rollout_names_its_regions():
    """Regions that came from the inventory at the start stand in the file like written ones."""
    plan = replace(read_plan("release: 1.1.0"), regions={"eu": RegionRules(1000)})
    assert read_plan(effective_plan(plan)).regions == {"eu": RegionRules(1000)}
