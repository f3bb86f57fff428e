"""Plans whose fields are good one by one and contradict each other: refused, at which place, with which remedy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.plan.file import read_plan
from orchestrator.engine.targets import compile_comparisons, parse_version, satisfiable
from orchestrator.model.fleet import Habit
from orchestrator.model.plan import Consent
from tests.builders import DAY_MS, HOUR_MS
from tests.engine.test_plan_file import faults, message

HEAD = "release: 1.1.0\n"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("target: {installed: '>2.0.0,<1.0.0'}", (2, 21, "target.installed")),
        ("target: {installed: '==1.1.0'}", (2, 21, "target.installed")),
        ("target: {installed: '>=1.1.0,<=1.1.0'}", (2, 21, "target.installed")),
        ("requires: '<1.0.0,>1.0.0'", (2, 11, "requires")),
        ("requires: '==1.1.0'", (2, 11, "requires")),
        ("target: {installed: <1.0.0}\nrequires: '>=1.0.4'", (3, 11, "requires")),
        ("target: {region: [eu]}\nregions: {eu: {}, us: {}}", (3, 23, "regions.us")),
        ("name: spring\nsupersedes: spring", (3, 13, "supersedes")),
        ("consent: {security: notice, feature: required}", (2, 10, "consent")),
        ("purpose: safety\nregions: {eu: {consent: {security: none}}}", (3, 25, "regions.eu.consent")),
        ("gate: {checkpoints: [4h], silence_reference: [5%], habit_ages: {often: [4h]}}", (2, 64, "gate.habit_ages")),
        ("gate: {habit_ages: {often: [6h, 3h]}}", (2, 28, "gate.habit_ages.often")),
        ("gate: {hold_final: 1h}", (2, 20, "gate.hold_final")),
        ("waves: [{name: a, share: 60%}, {name: b}]\nholdout: 40%", (2, 32, "waves[1]")),
        ("windows: [{from: 1:00, to: 2:00}, {from: 01:00, to: 02:00}]", (2, 10, "windows")),
        ("gate: {failure_ratio: 0%}", (2, 23, "gate.failure_ratio")),
        ("gate: {failure_ratio: 100%}", (2, 23, "gate.failure_ratio")),
        ("gate: {alpha: 0}", (2, 15, "gate.alpha")),
        ("holdout: 100%", (2, 10, "holdout")),
        ("limits: {blast_budget: 0}", (2, 24, "limits.blast_budget")),
        ("approvals: 6", (2, 12, "approvals")),
        ("priority: -1", (2, 11, "priority")),
        ("purpose: urgent", (2, 10, "purpose")),
        ("on_halt: revert", (2, 10, "on_halt")),
        ("bandwidth: 1MB/s", (2, 1, "bandwidth")),
        ("regions: {eu: {bandwidth: 50Mb/s}}", (2, 27, "regions.eu.bandwidth")),
        ("regions: {eu: {bandwidth: 0MB/s}}", (2, 27, "regions.eu.bandwidth")),
        ("retries: {longest: 1m}", (2, 20, "retries.longest")),
        ("retries: {never: [Disk Full]}", (2, 19, "retries.never[0]")),
        ("retries: {never: [a, a]}", (2, 18, "retries.never")),
        ("conditions: {storage: 2}", (2, 23, "conditions.storage")),
        ("conditions: {storage: 0.1B}", (2, 23, "conditions.storage")),
        ("conditions: {links: [wlan]}", (2, 22, "conditions.links[0]")),
        ("conditions: {links: [wifi, wifi]}", (2, 21, "conditions.links")),
        ("conditions: {links: [unknown]}", (2, 22, "conditions.links[0]")),
    ],
)
def test_contradiction_is_refused_at_its_place(text, where):
    """A plan that can only stand still is found before it stands still, at night, in front of an operator."""
    assert faults(HEAD + text) == [where]


def test_remedies_say_what_to_write():
    """The person who reads it is tired as well."""
    assert "add it to target.region, or remove it; the target has eu" in message(
        f"{HEAD}target: {{region: [eu]}}\nregions: {{eu: {{}}, us: {{}}}}"
    )
    assert "add `quality: none`, `notice` or `required`" in message(f"{HEAD}consent: {{security: notice}}")
    assert "write MB/s for bytes, Mbit/s for bits" in message(f"{HEAD}regions: {{eu: {{bandwidth: 50Mb/s}}}}")
    assert "only 1.1.0 itself satisfies `==1.1.0`" in message(f"{HEAD}requires: ==1.1.0")
    assert "all would wait for ever" in message(f"{HEAD}target: {{installed: <1.0.0}}\nrequires: '>1'")
    assert "all that earlier waves leave is the holdout" in message(
        f"{HEAD}waves: [{{name: a, share: 60%}}, {{name: b}}]\nholdout: 40%"
    )


def test_consent_by_purpose_is_that_of_the_plan():
    """One file of policy for many releases; each plan has one answer."""
    rule = "consent: {security: notice, feature: required}\n"
    assert read_plan(f"{HEAD}purpose: security\n{rule}").region_defaults.consent is Consent.NOTICE
    feature = read_plan(f"{HEAD}purpose: feature\n{rule}regions: {{eu: {{}}, us: {{consent: {{feature: none}}}}}}")
    assert feature.regions["eu"].consent is Consent.REQUIRED
    assert feature.regions["us"].consent is Consent.NONE


def test_default_ages_of_habits_give_way_to_early_checkpoints():
    """A plan of minutes is judged at its minutes; nobody has to write away a default."""
    assert read_plan(HEAD).gate.habit_ages_ms == {Habit.OFTEN: (6 * HOUR_MS,)}
    short = read_plan(f"{HEAD}gate: {{checkpoints: [6h], silence_reference: [5%]}}")
    assert short.gate.habit_ages_ms == {}
    assert read_plan(f"{HEAD}gate: {{habit_ages: none}}").gate.habit_ages_ms == {}
    late = read_plan(f"{HEAD}gate: {{checkpoints: [10d], silence_reference: [5%]}}")
    assert late.gate.hold_final_ms == 10 * DAY_MS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50MB/s", 50_000_000),
        ("400Mbit/s", 50_000_000),
        ("1.5GiB/s", 3 * 2**29),
        ("1B/s", 1),
        ("8bit/s", 1),
        ("0.5 kB/s", 500),
        ("10KB/s", 10_000),
    ],
)
def test_rates(text, expected):
    """Bits and bytes are eight times apart, thousands and 1024s a tenth at the end."""
    assert read_plan(f"{HEAD}regions: {{eu: {{bandwidth: {text}}}}}").regions["eu"].bandwidth_bytes_per_s == expected


versions = st.sampled_from(
    ["0.0.0-0", "0.9.9", "1.0.0-rc.1", "1.0.0-rc.1.0", "1.0.0", "1.0.1-0", "1.0.1", "1.1.0", "2.0.0-alpha", "2.0.0"]
)
clauses = st.lists(
    st.tuples(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), versions).map("".join), min_size=1, max_size=4
).map(",".join)


@given(clause=clauses, found=versions, release=versions)
def test_clause_that_holds_of_any_other_version_is_satisfiable(clause, found, release):
    """A plan that works must never be refused as one that cannot."""
    comparisons = compile_comparisons(clause)
    version = parse_version(found)
    if found != release and all(comparison.holds(version) for comparison in comparisons):
        assert satisfiable(comparisons, but=release)


@given(low=versions, high=versions)
def test_empty_range_is_not_satisfiable(low, high):
    """What lies between two versions is nothing if they stand the wrong way round."""
    if parse_version(low) >= parse_version(high):
        assert not satisfiable(compile_comparisons(f">{low},<{high}"))
    assert not satisfiable(compile_comparisons(f">={low},<={low}"), but=low)
