"""Whom a rollout has not reached yet: kept while nothing changed, and never longer."""

from __future__ import annotations

import weakref
from dataclasses import replace

from orchestrator.engine.reach import waiting
from orchestrator.model.fleet import Profile
from orchestrator.model.ids import ReleaseVersion
from orchestrator.service.unreached import Unreached
from tests.builders import a_plan, a_release, a_rollout


class WeakProfiles(dict[Profile, int]):
    """A mapping of which it is seen whether somebody holds it."""


SUPERSEDED = ReleaseVersion("1.0.0")
RELEASES = {release.version: release for release in (a_release("1.0.0"), a_release("1.1.0"))}
PROFILES = {
    Profile("S", "gen2", "eu", "canary", (), SUPERSEDED): 3,
    Profile("S", "gen2", "us", "canary", (), SUPERSEDED): 4,
}


def test_what_is_kept_is_given_again_while_nothing_changed() -> None:
    """A tick asks for every rollout every second, and a fleet seldom changes."""
    unreached = Unreached()
    first = unreached.of(a_rollout(), PROFILES, RELEASES)
    assert first == waiting(a_plan(), PROFILES, RELEASES.values())
    assert sum(first.values()) == 7
    rollout = a_rollout()
    kept = unreached.of(rollout, PROFILES, RELEASES)
    assert unreached.of(replace(rollout, epoch=2), PROFILES, dict(RELEASES)) is kept


def test_of_what_is_over_nothing_is_kept() -> None:
    """Each holds on to the profiles of the fleet as they were: an evaluator would grow with every rollout."""
    unreached, spring, autumn = Unreached(), a_rollout(), a_rollout(rollout_id="autumn")
    profiles = WeakProfiles(PROFILES)
    seen = weakref.ref(profiles)
    unreached.of(spring, profiles, RELEASES)
    kept = unreached.of(autumn, PROFILES, RELEASES)
    unreached.keep([autumn.rollout_id])
    del profiles
    assert seen() is None
    assert unreached.of(autumn, PROFILES, RELEASES) is kept


def test_another_fleet_another_release_and_another_plan_are_looked_at_anew() -> None:
    """Whoever is overlooked here is promoted over, or waited for without end."""
    unreached, rollout = Unreached(), a_rollout()
    unreached.of(rollout, PROFILES, RELEASES)
    fewer = dict(list(PROFILES.items())[:1])
    assert sum(unreached.of(rollout, fewer, RELEASES).values()) == 3
    assert sum(unreached.of(rollout, PROFILES, RELEASES).values()) == 7
    ordered = {**RELEASES, SUPERSEDED: replace(RELEASES[SUPERSEDED], targets_version=9)}
    assert unreached.of(rollout, PROFILES, ordered) == waiting(rollout.plan, PROFILES, ordered.values())
    other = replace(rollout, plan=a_plan(release="1.0.0"))
    assert unreached.of(other, PROFILES, RELEASES) == {}
    assert sum(unreached.of(a_rollout(rollout_id="autumn"), PROFILES, RELEASES).values()) == 7
