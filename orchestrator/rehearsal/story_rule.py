"""A rollout as a story: the engine's rule, with the people that it waits for and the darkness that the service sees.

Owns what is told afterwards: when each region came where, when the gate held, how long. What is decided is the matter
of the engine, how counts reach it that of `engine_rule`. People are modelled by how long they take: whoever is asked
for an approval gives it after that time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.engine import progress
from orchestrator.engine.approvals import ApproveRequested
from orchestrator.engine.progress import Event, Judged
from orchestrator.model.ids import FleetTime
from orchestrator.model.plan import Plan
from orchestrator.model.rollout import RegionPhase, RegionProgress, Rollout, RolloutStatus
from orchestrator.rehearsal.counters import Counts
from orchestrator.rehearsal.engine_rule import EngineRule
from orchestrator.rehearsal.fleet import DAY_H
from orchestrator.rehearsal.roads import HOUR_MS
from orchestrator.rehearsal.run import Decision
from orchestrator.rehearsal.story import Turn
from orchestrator.rehearsal.vehicles import Vehicles


@dataclass(frozen=True, slots=True)
class People:
    """How quickly people answer."""

    approve_after_h: float = 0.0
    """From when an approval is missing and nothing else, until it is given."""


class StoryRule(EngineRule):
    """A rollout of a plan, and what is told of it.

    Args:
        vehicles: The fleet.
        plan: Of the rollout; its blast budget filled in.
        step_h: Between two looks.
        started_at: Fleet time of the start.
        people: How quickly they answer.
        dark: Which regions are known to be dark, by the hour.
    """

    def __init__(
        self,
        vehicles: Vehicles,
        plan: Plan,
        *,
        step_h: float,
        started_at: FleetTime,
        people: People,
        dark: Callable[[float], frozenset[str]],
    ) -> None:
        super().__init__(vehicles, plan, step_h=step_h, started_at=started_at)
        self.turns: list[Turn] = []
        self.days_to_half: float | None = None
        self.holds = 0
        self.held_h = 0.0
        self._size = vehicles.model.size
        self._start, self._step_h = started_at, step_h
        self._people, self._dark = people, dark
        self._wanted: dict[tuple[str, str], FleetTime] = {}
        self._latest: tuple[Judged, FleetTime] | None = None
        for region, stands in self.rollout.regions.items():
            self.turns.append(Turn(0.0, "rollout_started", region, place(plan, stands), "started"))

    @property
    def waits_for(self) -> str:
        """What the regions waited for at the last look, for people."""
        if self._latest is None:
            return ""
        event, now = self._latest
        waits = {
            region: progress.waiting_for(self.rollout, event.cells, event.waiting, region, now)
            for region in self.rollout.regions
        }
        return "; ".join(f"{region}: {words}" for region, words in waits.items() if words)

    def decide(self, counts: Counts, now_h: float) -> Decision:
        """As the engine, and take note."""
        if self.days_to_half is None and 2 * int(counts.succeeded.sum()) >= self._size:
            self.days_to_half = now_h / DAY_H
        decision = super().decide(counts, now_h)
        self.held_h += self._step_h if self.rollout.status is RolloutStatus.HELD else 0.0
        return decision

    def take(self, event: Event, now: FleetTime) -> bool:
        """Make a step, and keep what it changed."""
        before = self.rollout
        if isinstance(event, Judged):
            self._latest = event, now
        if not super().take(event, now):
            return False
        self.turns += _turns(before, self.rollout, (now - self._start) / HOUR_MS / DAY_H)
        self.holds += self.rollout.status is RolloutStatus.HELD and before.status is not RolloutStatus.HELD
        return True

    def people(self, event: Judged, now: FleetTime) -> bool:
        """Give the approvals that are missing for long enough."""
        given = False
        for region in self.rollout.regions:
            wave = progress.approval_wanted(self.rollout, event.cells, event.waiting, region, now)
            if not wave:
                continue
            since = self._wanted.setdefault((region, wave), now)
            if now - since >= self._people.approve_after_h * HOUR_MS:
                wanted = next(one.approvals for one in self.rollout.plan.waves if one.name == wave)
                for number in range(wanted):
                    given |= self.take(ApproveRequested(f"approver-{number + 1}", wave, region, "rehearsed"), now)
        return given

    def dark(self, now_h: float) -> frozenset[str]:
        """Regions that are known to be dark."""
        return self._dark(now_h)


def place(plan: Plan, stands: RegionProgress) -> str:
    """Where a region stands, in a word: the name of its wave while it rolls, else its phase."""
    if stands.phase is RegionPhase.ROLLING:
        return plan.waves[stands.wave].name
    return stands.phase.value


def _turns(before: Rollout, after: Rollout, days: float) -> list[Turn]:
    """What a step changed, as turns: one for each region that moved, each part that was braked, and the rollout."""
    turns = [
        Turn(days, "regions_advanced", region, place(after.plan, stands), after.reason)
        for region, stands in after.regions.items()
        if place(after.plan, stands) != place(before.plan, before.regions[region])
    ]
    turns += _brake_turns(before, after, days)
    if after.status is not before.status:
        turns.append(Turn(days, f"rollout_{after.status.value}", "", "", after.reason))
    return turns


def _brake_turns(before: Rollout, after: Rollout, days: float) -> list[Turn]:
    old = {brake.scope: brake for brake in before.brakes}
    new = {brake.scope: brake for brake in after.brakes}
    turns = [
        Turn(days, f"part_{brake.kind.value}", "", "", f"{scope}: {brake.reason}")
        for scope, brake in new.items()
        if scope not in old or old[scope].kind is not brake.kind
    ]
    return turns + [Turn(days, "part_cleared", "", "", f"{scope} goes on") for scope in old if scope not in new]
