"""A rollout under any sequence of events: the table of statuses holds for one step, this for whole lives."""

from __future__ import annotations

import json

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from orchestrator.engine import inputs
from orchestrator.engine.gates import judge_rollout
from orchestrator.engine.progress import (
    AbortRequested,
    ApproveRequested,
    Event,
    Judged,
    PauseRequested,
    RecoveryUnproven,
    ResumeRequested,
    StartRequested,
    Step,
    step,
)
from orchestrator.model.attempt import AttemptState
from orchestrator.model.rollout import Rollout, RolloutStatus
from orchestrator.model.tally import CellTallies
from tests.builders import HOUR_MS, a_cell, a_plan, a_rollout, a_tally, after

R = RolloutStatus
SCOPES = st.sampled_from(["", "eu", "us", "eu/gen2"])
CELLS = (a_cell("eu"), a_cell("us"), a_cell("eu", cohort="general"))


@st.composite
def counts(draw: st.DrawFn) -> CellTallies:
    """Counters of some cells that add up."""
    found = {}
    for cell in CELLS:
        succeeded, failed, live = (draw(st.integers(0, top)) for top in (60, 6, 3))
        exposed = succeeded + failed + live
        first = draw(st.integers(0, exposed))
        second = draw(st.integers(0, first))
        aged = ((first, draw(st.integers(0, min(first, 8)))), (second, 0))
        found[cell] = a_tally(
            before={AttemptState.DOWNLOADED: draw(st.integers(0, 4))},
            aged=aged,
            succeeded=succeeded,
            failed=failed,
            permitted=live,
        )
    return found


class RolloutMachine(RuleBasedStateMachine):
    """A rollout, and all that can happen to it."""

    def __init__(self) -> None:
        super().__init__()
        self.rollout: Rollout = a_rollout(plan=a_plan())
        self.now = after(0)
        self.before = self.rollout

    def happens(self, event: Event) -> None:
        """Take a step and hold it against what must hold of every step."""
        self.before = before = self.rollout
        made = step(before, event, self.now)
        if not isinstance(made, Step):
            assert made.message
            assert made.remedy
            return
        self.rollout = made.rollout
        if not made.changed:
            assert made.rollout == before
            return
        assert made.rollout.epoch == before.epoch + 1
        assert made.rollout.fence in (before.fence, made.rollout.epoch)
        assert all(made.rollout.fences[scope] >= fence for scope, fence in before.fences.items())
        assert json.loads(json.dumps(dict(made.data)))["epoch"] == made.rollout.epoch
        if made.rollout.status is R.RUNNING and before.status is not R.RUNNING:
            cleared = isinstance(event, Judged) and before.status is R.HELD and not before.hold_final
            assert cleared or isinstance(event, ResumeRequested | StartRequested), "nothing resumes unasked"
        for name, progress in made.rollout.regions.items():
            assert progress.wave >= before.regions[name].wave

    @rule(cells=counts(), waiting=st.integers(0, 80), hours=st.integers(0, 60))
    def judged(self, cells: CellTallies, waiting: int, hours: int) -> None:
        self.now = after(hours * HOUR_MS, self.now)
        unreached = dict.fromkeys(CELLS, waiting)
        judgement = judge_rollout(self.rollout, cells, unreached, self.now)
        data = json.loads(json.dumps(inputs.written(judgement, cells, unreached)))
        assert inputs.judged_again(data) == judgement, "from the record alone"
        self.happens(Judged(judgement, cells, unreached))

    @rule(scope=SCOPES)
    def paused(self, scope: str) -> None:
        self.happens(PauseRequested("bob", "lunch", scope))

    @rule(scope=SCOPES)
    def resumed(self, scope: str) -> None:
        self.happens(ResumeRequested("bob", "all clear", scope))

    @rule()
    def started(self) -> None:
        self.happens(StartRequested("bob", "go"))

    @rule(wave=st.sampled_from(["", "canary", "general"]))
    def approved(self, wave: str) -> None:
        self.happens(ApproveRequested("bob", wave, "", "fine"))

    @rule()
    def unproven(self) -> None:
        self.happens(RecoveryUnproven("shard 3 is behind the ledger"))

    @rule(sure=st.integers(0, 9))
    def aborted(self, sure: int) -> None:
        if sure == 0:
            self.happens(AbortRequested("bob", "wrong release"))

    @invariant()
    def over_is_over(self) -> None:
        assert not self.before.status.over or self.rollout == self.before

    @invariant()
    def what_stands_for_good_has_its_fence(self) -> None:
        if self.rollout.status in (R.HALTED, R.ABORTED):
            assert self.rollout.fence > 0


RolloutMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestRolloutMachine = RolloutMachine.TestCase
