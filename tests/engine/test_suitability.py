"""Whether a release suits a vehicle: what it runs, what the release is, and which of several rollouts comes first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.engine import pins
from orchestrator.engine.admission import Candidate, choose, consider, in_turn
from orchestrator.engine.pins import release_sha256
from orchestrator.engine.reach import waiting
from orchestrator.engine.suitability import transfer_ms
from orchestrator.engine.supersession import newer_than
from orchestrator.engine.targets import compile_plan
from orchestrator.model.decision import Grant, Refusal, RefusalReason
from orchestrator.model.ids import ReleaseVersion
from orchestrator.model.plan import Target
from orchestrator.model.rollout import Brake, BrakeKind, RolloutStatus
from tests.builders import (
    NOW,
    PRIMARY_HARDWARE,
    SECONDARY_HARDWARE,
    a_cell,
    a_plan,
    a_record,
    a_release,
    a_rollout,
    a_vehicle,
    after,
    an_image,
)

Reason = RefusalReason


def release(version: str, **counters: int):
    """A release with images of these counters: `gw` for the Primary, `bcm` for the Secondary."""
    hardware = {"gw": PRIMARY_HARDWARE, "bcm": SECONDARY_HARDWARE}
    images = [an_image(hardware[name], version=version, release_counter=count) for name, count in counters.items()]
    return a_release(version, images=tuple(images))


OLD, OURS, NEXT = release("1.0.0", gw=1, bcm=1), release("1.1.0", gw=2, bcm=2), release("1.2.0", gw=3, bcm=2)
REVERT = replace(release("1.0.0-again", gw=4, bcm=4), reverts=ReleaseVersion("1.1.0"))
HOTFIX = release("9.0.0", bcm=1)
RELEASES = (OLD, OURS, NEXT, REVERT, HOTFIX)


def answered(record, *, plan=None, registered=OURS, releases=RELEASES, **changes) -> Grant | Refusal:
    """What admission says."""
    rollout = a_rollout(plan=plan or a_plan(), **changes)
    return consider(record, rollout, registered, compile_plan(rollout.plan, releases), NOW)


def reason(answer: Grant | Refusal) -> RefusalReason | None:
    """Why not; None for a grant."""
    return answer.reason if isinstance(answer, Refusal) else None


# Newer releases.


@pytest.mark.parametrize(
    ("version", "newer"),
    [
        ("1.0.0", {"1.1.0", "1.2.0", "1.0.0-again"}),
        ("1.1.0", {"1.2.0", "1.0.0-again"}),
        ("1.2.0", {"1.0.0-again"}),
        ("1.0.0-again", set()),
        ("9.0.0", {"1.1.0", "1.2.0", "1.0.0-again"}),
        ("7.7.7", set()),
    ],
)
def test_newer_is_what_an_ecu_would_refuse_to_leave(version, newer):
    """By counter, whatever the versions say: a revert is newer than what it undoes."""
    assert newer_than(ReleaseVersion(version), RELEASES) == newer


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        ("", None),
        ("1.0.0", None),
        ("9.0.0", None),
        ("1.1.0", Reason.ALREADY_INSTALLED),
        ("1.2.0", Reason.NEWER_INSTALLED),
        ("1.0.0-again", Reason.NEWER_INSTALLED),
    ],
)
def test_vehicle_that_runs_something_newer_is_not_sent_back(installed, expected):
    """It would be refused on board, after the download; and it was counted as waiting for ever."""
    answer = answered(a_record(installed=ReleaseVersion(installed)))
    assert reason(answer) is expected
    if expected is Reason.NEWER_INSTALLED:
        assert isinstance(answer, Refusal)
        assert installed in answer.message


def test_vehicles_that_went_on_are_not_waiting():
    """A rollout with 80 vehicles is done with 80, also when some of them have the next release by then."""
    fleet = [("", 3), ("1.0.0", 5), ("1.1.0", 7), ("1.2.0", 11)]
    profiles = {a_vehicle().profile(ReleaseVersion(version)): count for version, count in fleet}
    assert waiting(a_plan(), profiles, RELEASES) == {a_cell(): 8}
    assert waiting(a_plan(), profiles) == {a_cell(): 19}, "without releases nothing is newer"


# Required intermediate releases.


@pytest.mark.parametrize(("installed", "lacks"), [("1.0.3", True), ("1.0.4", False), ("", True), ("factory", True)])
def test_vehicle_without_the_intermediate_release_waits(installed, lacks):
    """What nothing proves is missing: skipping a step may not be undone."""
    plan = a_plan(requires=">=1.0.4")
    record = a_record(installed=ReleaseVersion(installed))
    answer = answered(record, plan=plan)
    assert reason(answer) is (Reason.INTERMEDIATE_MISSING if lacks else None)
    if lacks:
        assert isinstance(answer, Refusal)
        assert (">=1.0.4" in answer.message, installed in answer.message) == (True, True)
    assert bool(waiting(plan, {record.vehicle.profile(record.installed): 1})) != lacks


def test_target_is_asked_before_the_intermediate_release():
    """Who is not meant does not wait."""
    plan = a_plan(requires=">=1.0.4", target=Target(model=("X",)))
    assert reason(answered(a_record(), plan=plan)) is Reason.NOT_TARGETED


# Pins.


def test_digest_is_about_what_is_brought():
    """Every image counts; notes and the date of registration do not, and neither does the order of the images."""
    digest = release_sha256(OURS)
    assert len(digest) == 64
    assert release_sha256(replace(OURS, notes="typo", created_at=after(5), targets_version=9)) == digest
    assert release_sha256(replace(OURS, images=OURS.images[::-1])) == digest
    other = replace(OURS.images[0], sha256="ff" * 32)
    for changed in (
        replace(OURS, images=(other, *OURS.images[1:])),
        replace(OURS, images=OURS.images[1:]),
        replace(OURS, version=ReleaseVersion("1.1.1")),
        replace(OURS, reverts=ReleaseVersion("1.0.0")),
        replace(OURS, images=(replace(OURS.images[0], release_counter=9), *OURS.images[1:])),
    ):
        assert release_sha256(changed) != digest


def test_swapped_release_is_not_granted():
    """Rivian 2023.42: what is sent is what was reviewed, to the last digest."""
    swapped = replace(OURS, images=(replace(OURS.images[0], sha256="ff" * 32), *OURS.images[1:]))
    digest = release_sha256(OURS)
    assert reason(answered(a_record(), registered=OURS, release_sha256=digest)) is None
    answer = answered(a_record(), registered=swapped, release_sha256=digest)
    assert reason(answer) is Reason.RELEASE_CHANGED
    assert isinstance(answer, Refusal)
    assert digest[:16] in answer.message
    gone = pins.changed(a_rollout(release_sha256=digest), None)
    assert "not registered any more" in gone
    assert pins.changed(a_rollout(), swapped) == "", "a rollout without a pin is not looked at"


@pytest.mark.parametrize(("bandwidth", "expected"), [(0, 0), (8192, 1000), (4096, 2000), (3, 2_730_667)])
def test_transfer_lasts_as_long_as_the_images_of_the_vehicle(bandwidth, expected):
    """Two images of 4096 bytes, rounded up; one for somebody else's hardware costs nothing."""
    others = replace(OURS, images=(*OURS.images, an_image("other-hw")))
    assert transfer_ms(a_vehicle(), others, bandwidth) == expected
    assert transfer_ms(a_vehicle(), None, bandwidth) == 0


# Which rollout.


def candidate(name: str, *, priority: int = 0, created_at=NOW, **changes) -> Candidate:
    """A rollout that would grant."""
    plan = a_plan(priority=priority)
    rollout = a_rollout(rollout_id=name, plan=plan, created_at=created_at, **changes)
    return Candidate(rollout, OURS, compile_plan(plan))


def test_priority_goes_before_age_and_age_before_the_id():
    """A stated rule, the same in every worker."""
    rollouts = [
        candidate("young", created_at=after(9)),
        candidate("urgent", priority=5, created_at=after(99)),
        candidate("b-old"),
        candidate("a-old"),
        candidate("low", priority=-1),
    ]
    assert [each.rollout.rollout_id for each in in_turn(rollouts)] == ["urgent", "a-old", "b-old", "young", "low"]
    answer = choose(a_record(), rollouts, NOW)
    assert isinstance(answer, Grant)
    assert answer.rollout_id == "urgent"


def test_rollout_that_stands_still_does_not_hold_up_the_next():
    """A held one keeps its place and takes nobody's."""
    held = candidate("urgent", priority=5, status=RolloutStatus.HELD)
    answer = choose(a_record(), [candidate("calm"), held], NOW)
    assert isinstance(answer, Grant)
    assert answer.rollout_id == "calm"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (BrakeKind.PAUSED, Reason.ROLLOUT_PAUSED),
        (BrakeKind.HELD, Reason.ROLLOUT_HELD),
        (BrakeKind.HALTED, Reason.ROLLOUT_HALTED),
    ],
)
@pytest.mark.parametrize(("scope", "stops"), [("eu", True), ("eu/gen2", True), ("eu/gen1", False), ("us", False)])
def test_part_that_stands_still_admits_nobody(kind, expected, scope, stops):
    """Its own vehicles hear who stopped it and why; all others do not notice."""
    brake = Brake(scope, kind, NOW, "bob", "smoke")
    answer = answered(a_record(), brakes=(brake,))
    assert reason(answer) is (expected if stops else None)
    if stops:
        assert isinstance(answer, Refusal)
        assert all(word in answer.message for word in (scope, "bob", "smoke", "2026-01-01T00:00:00Z"))
        assert answer.facts["scope"] == scope


@pytest.mark.parametrize("status", [RolloutStatus.DRAFT, RolloutStatus.APPROVED])
def test_draft_admits_nobody(status):
    """It was not started."""
    assert reason(answered(a_record(), status=status)) is Reason.ROLLOUT_NOT_STARTED
