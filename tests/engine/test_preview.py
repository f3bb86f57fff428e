"""Preview: it must add up, agree with admission, and warn of what cannot work."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine import openings
from orchestrator.engine.admission import consider
from orchestrator.engine.preview import preview
from orchestrator.engine.progress import start
from orchestrator.engine.reach import regions_of, waiting
from orchestrator.engine.targets import compile_plan
from orchestrator.model.decision import Grant, RefusalReason
from orchestrator.model.plan import OnHalt, RegionRules, Target
from orchestrator.model.rollout import RegionPhase
from tests.builders import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    NOW,
    THREE_WAVES,
    a_cell,
    a_gate,
    a_plan,
    a_record,
    a_release,
    a_rollout,
    a_vehicle,
    a_wave,
    after,
    some_limits,
)

RELEASE = a_release()
NEWER = replace(RELEASE, version="1.2.0", images=tuple(replace(image, release_counter=3) for image in RELEASE.images))
RELEASES = (RELEASE, NEWER)


def profiles_of(*groups) -> Counter:
    """Profiles by (count, installed, vehicle fields)."""
    counts: Counter = Counter()
    for count, installed, fields in groups:
        counts[a_vehicle(**fields).profile(installed)] += count
    return counts


FLEET = profiles_of(
    (30, "1.0.0", {"cohort": "canary"}),
    (50, "1.0.0", {"cohort": "early"}),
    (900, "1.0.0", {"cohort": "general"}),
    (100, "1.0.0", {"cohort": "general", "region": "us", "hardware": "gen1"}),
    (7, "1.1.0", {"cohort": "general"}),
    (11, "1.0.0", {"cohort": "general", "model": "Y"}),
    (13, "1.0.0", {"cohort": "general", "region": "cn"}),
)
PLAN = a_plan(target=Target(model=("S",)))


def warned(plan, profiles=FLEET, release=RELEASE) -> str:
    """All warnings."""
    return " | ".join(preview(plan, profiles, release, NOW).warnings)


def test_everybody_is_targeted_or_excluded_by_a_rule():
    """Registered = targeted + excluded: nobody falls between."""
    found = preview(PLAN, FLEET, RELEASE, NOW)
    assert found.registered == 1111
    assert found.excluded == {"already_installed": 7, "model": 11, "region_not_in_plan": 13}
    assert found.targeted == sum(found.cells.values()) == 1080
    assert found.cells[a_cell(cohort="early")] == 50


def test_waves_add_up_by_region():
    """What the waves add is everybody but the holdout, region by region."""
    found = preview(PLAN, FLEET, RELEASE, NOW)
    assert found.waves == (
        ("canary", {"eu": 30, "us": 0}),
        ("early", {"eu": 50, "us": 0}),
        ("general", {"eu": 900, "us": 100}),
    )
    shares = a_plan(waves=[a_wave("tenth", share=0.1), a_wave("all")], target=PLAN.target, holdout_share=0.01)
    assert preview(shares, FLEET, RELEASE, NOW).waves == (
        ("tenth", {"eu": 98, "us": 10}),
        ("all", {"eu": 872, "us": 89}),
    )


def test_waves_show_the_places_that_are_counted():
    """A share of a small variant is nobody; the least of each stratum is what the first wave admits."""
    rare = FLEET + profiles_of((40, "1.0.0", {"cohort": "general", "hardware": "rare"}))
    plan = a_plan(
        waves=[a_wave("first", share=0.01), a_wave("all")],
        regions=("eu",),
        target=PLAN.target,
        gate=a_gate(stratum_sample_min=5),
    )
    # 1 % of 1020 in whole vehicles, and of the 40 rare ones five.
    quotas = openings.quotas(
        plan, 0, {cell: count for cell, count in waiting(plan, rare).items() if cell.region == "eu"}
    )
    [(_, first), (_, rest)] = preview(plan, rare, RELEASE, NOW).waves
    assert first == {"eu": sum(quotas.values())}
    assert sum(count for cell, count in quotas.items() if cell.hardware == "rare") == 5
    assert first["eu"] + rest["eu"] == 1020


def test_regions_default_to_those_of_the_targeted_vehicles():
    """A plan without regions runs wherever its target is, and nowhere else."""
    target = Target(model=("S",), region=("eu", "us"))
    assert regions_of(a_plan(regions={}, target=target), FLEET) == {"eu": RegionRules(1000), "us": RegionRules(1000)}
    assert list(regions_of(a_plan(regions={}), FLEET)) == ["cn", "eu", "us"]
    given_rules = {"eu": RegionRules(5)}
    assert regions_of(a_plan(regions=given_rules), FLEET) == given_rules
    assert regions_of(a_plan(regions={}), {}) == {}


def test_waiting_is_who_matches_and_lacks_the_release():
    """Progress reads from it how many are still to come."""
    cells = waiting(PLAN, FLEET)
    assert cells[a_cell(cohort="general")] == 900
    assert cells[a_cell(cohort="general", region="cn")] == 13
    assert sum(cells.values()) == 1093
    assert waiting(PLAN, dict.fromkeys(FLEET, 0)) == {}


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        (a_plan(waves=[a_wave("w", cohorts=("canary", "ghost"))]), "wave w names cohort ghost"),
        (a_plan(regions=("eu", "mars")), "region mars is in the plan, but no targeted vehicle is in it"),
        (a_plan(regions=("eu",)), "113 vehicles match the target in regions that are not in the plan: cn, us"),
        (a_plan(waves=[a_wave("tiny", share=0.0001), a_wave("all")]), "wave tiny is expected to add nobody"),
        (a_plan(waves=[a_wave("half", share=0.5)]), "about 546 targeted vehicles are never admitted"),
        (a_plan(waves=THREE_WAVES[:1]), "about 1061 targeted vehicles are never admitted"),
        (a_plan(limits=some_limits(blast_budget=5)), "blast budget 5 < 20: the first 20 exposures take 4 times 1 d"),
        (a_plan(limits=some_limits(blast_budget=1)), "paces 1091 vehicles over about"),
        (a_plan(target=Target(model=("Z",))), "no vehicle is targeted: the rollout would complete at once"),
        (a_plan(target=Target(cohort=("canary",), model=("Y",))), "no vehicle is targeted"),
    ],
)
def test_warns_of_what_deserves_a_second_look(plan, text):
    """A warning before the start is worth more than a stuck rollout after it."""
    assert text in warned(plan)


def test_warns_of_strata_too_small_to_judge():
    """A variant of three cars cannot show its harm in time."""
    rare = FLEET + profiles_of((3, "1.0.0", {"cohort": "canary", "hardware": "rare"}))
    assert "stratum eu/rare has 3 vehicles: 5 are needed to judge it on its own" in warned(PLAN, rare)


def test_warns_of_a_release_that_is_missing():
    """Nobody can be admitted to what is not signed."""
    assert "release 1.1.0 is not registered" in warned(PLAN, release=None)
    assert "has no images" in warned(PLAN, release=a_release(hardware_ids=()))


def test_warns_of_a_way_back_for_vehicles_that_never_left():
    """They run these very bytes under another name: an agent may see nothing to do, and never attest the release."""
    back = a_release("1.2.0-revert", reverts="1.2.0")
    plan = a_plan(release="1.2.0-revert", target=Target(model=("S",)))
    assert 'the target does not say `installed: "==1.2.0"`' in warned(plan, release=back)
    bound = replace(plan, target=Target(model=("S",), installed="== 1.2.0"))
    assert "undoes" not in warned(bound, release=back)


def test_warns_of_installed_where_vehicles_never_proved_a_release():
    """Software from the factory is no release: `installed` would leave out a whole new fleet without a word."""
    fresh = profiles_of((30, "", {"cohort": "canary"}), (50, "1.0.0", {"cohort": "early"}))
    told = warned(a_plan(target=Target(installed="<1.1.0")), fresh)
    assert "30 vehicles have proven no release yet, so `installed` leaves them out" in told
    assert "proven no release" not in warned(a_plan(), fresh)


def test_warns_of_strata_that_the_first_wave_misses():
    """What is bad there alone would show only when most of the fleet is exposed."""
    rare = FLEET + profiles_of((30, "1.0.0", {"cohort": "early", "hardware": "rare"}))
    found = warned(PLAN, rare)
    assert "the first wave (canary) has no vehicle of eu/rare: what is bad there shows in wave early only" in found
    assert "has no vehicle of us/gen1: what is bad there shows in wave general only" in found
    assert "has no vehicle of" not in warned(a_plan(waves=[a_wave("tenth", share=0.1), a_wave("all")]), rare)


def test_names_few_of_many_small_strata():
    """Sixty lines of warnings are read by nobody."""
    rare = profiles_of(*((2, "1.0.0", {"hardware": f"h{number}", "cohort": "canary"}) for number in range(30)))
    found = warned(a_plan(regions=("eu",)), rare)
    assert found.count("stratum eu/h") == 8
    assert "22 more strata have fewer than the" in found


def test_warns_of_vehicles_that_lack_the_intermediate_release():
    """They are targeted and wait; nothing of this rollout brings them there."""
    fresh = profiles_of((30, "", {}), (50, "1.0.0", {}), (5, "1.0.4", {}))
    told = warned(a_plan(requires=">=1.0.4"), fresh)
    assert "80 of 85 vehicles do not have `requires: >=1.0.4` (30 of them have proven no release)" in told
    nobody_yet = warned(a_plan(requires=">=1.0.4"), fresh - profiles_of((5, "1.0.4", {})))
    assert "80 of 80 vehicles" in nobody_yet
    assert "no vehicle is targeted" not in nobody_yet
    found = preview(a_plan(requires=">=1.0.4"), fresh, RELEASE, NOW)
    assert (found.targeted, found.excluded) == (5, {"intermediate_missing": 80})
    # Regions that came from the inventory are nobody's mistake.
    unnamed = a_plan(requires=">=1.0.4", regions={})
    assert "is in the plan, but no targeted vehicle" not in warned(unnamed, profiles_of((80, "1.0.0", {})))
    assert "requires" not in warned(a_plan(requires=">=1.0.0"), profiles_of((50, "1.0.0", {})))


def test_warns_of_a_halt_that_has_no_way_back():
    """A promise of a draft that cannot be written is found out at the worst moment."""
    plan = a_plan(on_halt=OnHalt.PROPOSE_REVERT)
    back = a_release("1.1.0-revert", reverts="1.1.0")
    for releases, warns in (((RELEASE,), True), ((RELEASE, back), False)):
        said = " | ".join(preview(plan, FLEET, RELEASE, NOW, releases=releases).warnings)
        assert ("needs a release that undoes 1.1.0" in said) is warns


def test_fleets_of_one_and_of_none_get_an_answer():
    """No division, no silence."""
    one = profiles_of((1, "1.0.0", {}))
    found = preview(a_plan(regions={}, limits=some_limits(blast_budget=0)), one, RELEASE, NOW)
    assert found.targeted == 1
    assert any("one vehicle is targeted" in warning for warning in found.warnings)
    assert found.expected_ms is not None
    nobody = preview(a_plan(regions={}), {}, RELEASE, NOW)
    assert (nobody.targeted, nobody.expected_ms, nobody.shortest_ms) == (0, 0, 0)
    assert nobody.warnings == ("no vehicle is targeted: the rollout would complete at once",)


def test_warns_of_a_blast_budget_that_bounds_nothing():
    """A budget above the fleet is none; one above what safety asks for deserves a second look."""
    assert "blast budget 5000 > 1104 targeted vehicles: it bounds nothing; left out, it would be 20" in warned(
        a_plan(regions=("eu", "us", "cn"), limits=some_limits(blast_budget=5000))
    )
    critical = a_plan(gate=a_gate(safety_critical=True), limits=some_limits(blast_budget=100))
    assert "a failure can hurt people, and blast budget 100 > 20" in warned(critical)


def test_a_plan_that_works_is_not_warned_about():
    """Warnings that always come are read by nobody."""
    fleet = profiles_of(
        *((count, "1.0.0", {"cohort": cohort}) for cohort, count in (("internal", 30), ("canary", 60), ("early", 90)))
    )
    plan = a_plan(regions=("eu",), waves=THREE_WAVES[:2], limits=some_limits(blast_budget=100))
    assert preview(plan, fleet, RELEASE, NOW).warnings == ()


def test_shortest_time_is_soak_and_checkpoints():
    """A wave that adds somebody lasts at least to the first checkpoint, the last one and the holdout to the last."""
    assert preview(a_plan(regions=("eu",)), FLEET, RELEASE, NOW).shortest_ms == (1 + 1 + 3) * DAY_MS
    with_holdout = a_plan(regions=("eu",), holdout_share=0.01)
    assert preview(with_holdout, FLEET, RELEASE, NOW).shortest_ms == (1 + 1 + 3 + 3) * DAY_MS
    soaked = a_plan(regions=("eu",), waves=[a_wave("all", soak_ms=9 * DAY_MS)])
    assert preview(soaked, FLEET, RELEASE, NOW).shortest_ms == 9 * DAY_MS
    slow = a_plan(regions=("eu",), limits=some_limits(starts_per_minute_max=1), waves=[a_wave("all", soak_ms=0)])
    big = profiles_of((100_000, "1.0.0", {}))
    assert preview(slow, big, RELEASE, NOW).shortest_ms == 100_000 * MINUTE_MS
    assert preview(a_plan(), {}, RELEASE, NOW).shortest_ms == 0


vehicles = st.lists(
    st.builds(
        a_vehicle,
        vehicle_id=st.integers(0, 10_000).map("v-{}".format),
        model=st.sampled_from("SXY"),
        region=st.sampled_from(["eu", "us", "cn"]),
        cohort=st.sampled_from(["internal", "canary", "early", "general"]),
        hardware=st.sampled_from(["gen1", "gen2"]),
        tags=st.lists(st.sampled_from(["beta", "hold"]), max_size=2),
    ),
    max_size=15,
    unique_by=lambda vehicle: vehicle.vehicle_id,
)
targets = st.builds(
    Target,
    model=st.sampled_from([(), ("S",), ("S", "X")]),
    region=st.sampled_from([(), ("eu",), ("us", "cn")]),
    tags_all=st.sampled_from([(), ("beta",)]),
    tags_none=st.sampled_from([(), ("hold",)]),
    installed=st.sampled_from(["", "<1.1.0"]),
)


@given(
    fleet=vehicles,
    target=targets,
    installed=st.sampled_from(["", "1.0.0", "1.1.0", "1.2.0"]),
    requires=st.sampled_from(["", ">=1.0.1"]),
)
def test_preview_targets_exactly_those_whom_admission_admits_in_the_end(fleet, target, installed, requires):
    """What is previewed is what happens: same vehicles, and for the same reasons left out."""
    plan = a_plan(target=target, regions=("eu", "us"), requires=requires)
    profiles = Counter(vehicle.profile(installed) for vehicle in fleet)
    found = preview(plan, profiles, RELEASE, NOW, releases=RELEASES)
    rollout = a_rollout(plan=plan, wave=2, phase=RegionPhase.DONE)
    answers = [
        consider(a_record(vehicle, installed=installed), rollout, RELEASE, compile_plan(plan, RELEASES), NOW)
        for vehicle in fleet
    ]
    granted = [answer for answer in answers if isinstance(answer, Grant)]
    assert found.targeted == len(granted)
    assert Counter(found.cells) == Counter(answer.cell for answer in granted)
    reasons = Counter(answer.reason for answer in answers if not isinstance(answer, Grant))
    for rule in ("already_installed", "newer_installed", "region_not_in_plan", "intermediate_missing"):
        assert found.excluded.get(rule, 0) == reasons[RefusalReason(rule)]


def test_start_takes_the_regions_of_the_preview():
    """What was previewed without regions is started with those of the inventory."""
    plan = a_plan(regions={})
    rollout = start("spring", plan, "", b"", regions_of(plan, FLEET), "a", "r", "q", after(0))
    assert set(rollout.regions) == set(rollout.plan.regions) == {"cn", "eu", "us"}


def test_permits_that_nothing_calls_back_are_named():
    """Whoever starts it should have read what a halt does not reach."""
    assert "out of reach" not in warned(PLAN)
    away = RegionRules(in_flight_max=10, offline_permit_ms=12 * HOUR_MS)
    said = warned(replace(PLAN, regions={"us": away, "eu": away, "cn": RegionRules(in_flight_max=10)}))
    assert "vehicles of eu, us may be given permits of up to 12 h to install out of reach" in said
    assert f"the blast budget ({PLAN.limits.blast_budget}) counts them" in said


def test_waves_that_leave_nobody_to_wait_are_warned_of():
    """A wave of nearly all has next to no controls: silence would be heard late, and nobody would have been told."""
    judged, many = a_gate(controls_per_exposure=3), "so many at once"
    nearly_all = [a_wave("most", cohorts=("general",)), a_wave("all")]
    said = warned(a_plan(waves=nearly_all, target=PLAN.target, gate=judged))
    assert f"wave most takes {many}" in said
    assert "`share: 25%`" in said
    first = a_wave("first", cohorts=("general",), share=0.25)
    # Whole cohorts leave the larger ones to wait, and of what a part went first enough is known.
    for waves in (PLAN.waves, [first, *nearly_all], [a_wave("tenth", share=0.1), a_wave("all")]):
        assert many not in warned(a_plan(waves=waves, target=PLAN.target, gate=judged))
    assert many not in warned(a_plan(waves=nearly_all, target=PLAN.target, gate=a_gate(controls_per_exposure=0)))
