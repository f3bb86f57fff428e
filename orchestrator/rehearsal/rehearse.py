"""Rehearse: a plan on a modelled fleet, from its start to its end, as a story.

Owns what a scenario is and how its parts come together: an inventory (who), a fleet model (how vehicles call and how
long they take), a release (what it does to them), roads (when they can be reached), people, and the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b

import numpy as np

from orchestrator.engine.reach import with_limits_for
from orchestrator.model.attempt import AttemptState
from orchestrator.model.ids import FleetTime
from orchestrator.model.plan import Consent, Plan, RegionRules
from orchestrator.model.rollout import RolloutStatus
from orchestrator.rehearsal.fleet import DAY_H, FleetModel, ReleaseModel
from orchestrator.rehearsal.inventory import Inventory
from orchestrator.rehearsal.roads import HOUR_MS, Outage, Roads, places
from orchestrator.rehearsal.run import Ending, Outcome, run
from orchestrator.rehearsal.story import Moment, Story, Turn
from orchestrator.rehearsal.story_rule import People, StoryRule
from orchestrator.rehearsal.vehicles import Vehicles, draw_vehicles


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is assumed."""

    inventory: Inventory
    fleet: FleetModel
    """How vehicles call and answer; its size and cells are replaced by the inventory's."""
    release: ReleaseModel
    start: FleetTime
    """When the rollout starts: windows and freeze days count from it."""
    outages: tuple[Outage, ...] = ()
    people: People = field(default_factory=People)
    horizon_days: float = 60.0
    """When a run gives up."""
    step_h: float = 1.0
    """Between two looks of the evaluator."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A plan, what was assumed, and what became of it."""

    plan: Plan
    scenario: Scenario
    stories: Sequence[Story]
    """By seed; at least one."""
    left_out: Sequence[str]
    """What the model leaves out, for people."""


def rehearse_many(
    plan: Plan, scenario: Scenario, *, seed: int, runs: int, done: Callable[[float], None] = lambda _: None
) -> list[Story]:
    """Several runs, with seeds from `seed` on.

    Args:
        plan: As read.
        scenario: What is assumed.
        seed: Of the first run.
        runs: How many.
        done: Told how many virtual hours of all runs are done.
    """
    horizon_h = scenario.horizon_days * DAY_H

    def told(before_h: float) -> Callable[[float], None]:
        return lambda hour: done(before_h + hour)

    stories = []
    for number in range(runs):
        stories.append(rehearse(plan, scenario, seed=seed + number, progress_to=told(number * horizon_h)))
        done((number + 1) * horizon_h)
    return stories


def rehearse(
    plan: Plan, scenario: Scenario, *, seed: int, progress_to: Callable[[float], None] = lambda _: None
) -> Story:
    """One run.

    Args:
        plan: As read.
        scenario: What is assumed.
        seed: The same seed meets the same vehicles and the same fate.
        progress_to: Told the virtual hour.
    """
    inventory = scenario.inventory
    plan = filled(plan, inventory.size)
    rules = region_rules(plan, inventory)
    salt = blake2b(f"rehearsal {seed}".encode(), digest_size=16).digest()
    vehicles = _vehicles(scenario, salt, seed)
    roads = _roads(scenario, rules, seed)
    rule = StoryRule(
        vehicles,
        plan,
        step_h=scenario.step_h,
        started_at=scenario.start,
        people=scenario.people,
        dark=roads.dark,
    )
    outcome = run(
        vehicles,
        rule,
        seed=seed,
        step_h=scenario.step_h,
        horizon_h=scenario.horizon_days * DAY_H,
        deadline_h=_deadline_h(plan),
        roads=roads if roads.windows or roads.outages else None,
        progress=progress_to,
    )
    return _story(seed, scenario, outcome, rule)


def region_rules(plan: Plan, inventory: Inventory) -> Mapping[str, RegionRules]:
    """The regions that the rollout runs in: the plan's, or every region that has targeted vehicles."""
    return plan.regions or dict.fromkeys(inventory.regions, plan.region_defaults)


def filled(plan: Plan, targeted: int) -> Plan:
    """The plan as a start would make it: its limits filled in, its own approvals given."""
    return replace(with_limits_for(plan, targeted), approvals=0, supersedes="")


def left_out(plan: Plan, scenario: Scenario) -> tuple[str, ...]:
    """What of the plan and of the world the model leaves out, for people: the answer is to be read with it."""
    said = ["downloads: a vehicle that calls and may begin has its permit at once"]
    if scenario.step_h:
        said.append(
            f"everything between two looks: quotas, slots and the gate are looked at every {scenario.step_h:g} h"
        )
    conditions = plan.preconditions
    if conditions.parked or conditions.unmetered or conditions.battery_percent_min or conditions.links:
        said.append("conditions: every vehicle that calls is taken to meet them")
    rules = region_rules(plan, scenario.inventory)
    if any(one.consent is Consent.REQUIRED for one in rules.values()):
        said.append("consent: every owner is taken to agree at once")
    if any(one.bandwidth_bytes_per_s for one in rules.values()):
        said.append("bandwidth: images have no size here")
    if plan.approvals:
        said.append("approvals before the start: they are taken as given")
    if plan.target.installed or plan.requires:
        said.append("installed releases: every vehicle is taken to run what `installed` and `requires` ask for")
    if plan.limits.attempts_max > 1:
        said.append(
            "retries: an attempt that fails before its permit is not modelled, one that failed after it is final"
        )
    said.append("other rollouts that want the same vehicles, and vehicles that join, move or leave meanwhile")
    return tuple(said)


def _vehicles(scenario: Scenario, salt: bytes, seed: int) -> Vehicles:
    inventory = scenario.inventory
    counts = inventory.counts()
    model = replace(
        scenario.fleet,
        size=inventory.size,
        cells=tuple((cell, count / inventory.size) for cell, count in counts.items()),
    )
    drawn = draw_vehicles(model, seed, cell=inventory.cell, draw=inventory.draws(salt))
    return drawn.under(scenario.release)


def _roads(scenario: Scenario, rules: Mapping[str, RegionRules], seed: int) -> Roads:
    inventory = scenario.inventory
    names = sorted(rules)
    index = {name: number for number, name in enumerate(names)}
    return Roads(
        regions=names,
        region=np.array([index[cell.region] for cell in inventory.cells]),
        cell=inventory.cell,
        open=places(rules, inventory.homes, scenario.start, scenario.horizon_days * DAY_H),
        place=inventory.home,
        outages=scenario.outages,
        seed=seed,
    )


def _deadline_h(plan: Plan) -> float:
    """From a permit to the loss of the slot, when nothing is heard: every state after it, one after the other."""
    states = (AttemptState.PERMITTED, AttemptState.INSTALLING, AttemptState.REBOOTING)
    return sum(plan.deadlines_ms[state] for state in states) / HOUR_MS


def _story(seed: int, scenario: Scenario, outcome: Outcome, rule: StoryRule) -> Story:
    held = rule.rollout.status is RolloutStatus.HELD
    ending = Ending.HELD if held and outcome.ending is Ending.STALLED else outcome.ending
    verdict = rule.rollout.verdict
    stopped = ending in (Ending.HALTED, Ending.HELD) and verdict is not None
    outages = [
        Turn(
            one.from_h / DAY_H,
            "outage",
            "",
            "",
            f"region {one.region} is out of reach until day {one.until_h / DAY_H:g}",
        )
        for one in scenario.outages
        if one.from_h / DAY_H <= outcome.days
    ]
    return Story(
        seed=seed,
        targeted=scenario.inventory.size,
        ending=ending,
        rule=verdict.rule if stopped and verdict is not None else "",
        reason=rule.rollout.reason if ending is not Ending.STALLED else rule.waits_for,
        ended_days=outcome.days,
        days_to_half=rule.days_to_half,
        days_to_95=outcome.days_to_95,
        days_to_all=outcome.days if ending is Ending.COMPLETED else None,
        holds=rule.holds,
        held_days=rule.held_h / DAY_H,
        curve=tuple(Moment(one.days, one.exposed, one.succeeded, one.broken) for one in outcome.curve),
        turns=tuple(sorted([*rule.turns, *outages], key=lambda turn: turn.days)),
    )
