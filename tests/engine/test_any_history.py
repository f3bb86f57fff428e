"""Any history of a rollout, whatever happens in whatever order: what must hold after each of its steps."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.engine.gates import judge_rollout
from orchestrator.engine.progress import (
    AbortRequested,
    ApproveRequested,
    Event,
    Illegal,
    Judged,
    PauseRequested,
    RecoveryUnproven,
    ResumeRequested,
    SignalCleared,
    SignalPosted,
    StartRequested,
    Step,
    SupersedeRequested,
    next_due,
    start,
    step,
    waiting_for,
)
from orchestrator.model.ids import FleetTime, RolloutId
from orchestrator.model.plan import RegionRules
from orchestrator.model.rollout import RegionPhase, Rollout, RolloutStatus, SignalKind
from tests.builders import DAY_MS, HOUR_MS, NOW, a_cell, a_gate, a_plan, a_signal, a_tally, a_wave

R = RolloutStatus
RULES = {"eu": RegionRules(in_flight_max=9), "us": RegionRules(in_flight_max=9, follow="eu")}
PLAN = a_plan(
    regions=RULES,
    waves=(a_wave("canary", cohorts=("canary",), approvals=1), a_wave("half", share=0.5), a_wave("all")),
    gate=a_gate(stratum_sample_min=2, hold_final_ms=2 * DAY_MS),
    holdout_share=0.1,
)
CELLS = [a_cell(region, hardware) for region in ("eu", "us") for hardware in ("gen1", "gen2")]
SCOPES = ("", "eu", "us", "eu/gen1", "us/gen2", "mars")
PEOPLE = ("alice", "bob", "carol")

tallies = st.builds(
    lambda good, bad, live, aged: a_tally(
        succeeded=good, failed=bad, installing=live, aged=((min(aged, good + bad + live), 0), (min(aged, good), 0))
    ),
    st.integers(0, 60),
    st.integers(0, 4),
    st.integers(0, 3),
    st.integers(0, 60),
)


class Look:
    """An evaluator's tick, made into an event by the rollout as it stands then."""

    def __init__(self, cells: dict, waiting: dict, dark: frozenset[str]) -> None:
        self.cells, self.waiting, self.dark = cells, waiting, dark

    def at(self, rollout: Rollout, now: FleetTime) -> Judged:
        judgement = judge_rollout(rollout, self.cells, self.waiting, now)
        return Judged(judgement, self.cells, self.waiting, self.dark)

    def __repr__(self) -> str:
        return f"Look({self.cells}, {self.waiting}, {set(self.dark)})"


people, scopes = st.sampled_from(PEOPLE), st.sampled_from(SCOPES)
events = st.one_of(
    st.builds(
        Look,
        st.dictionaries(st.sampled_from(CELLS), tallies, max_size=4),
        st.dictionaries(st.sampled_from(CELLS), st.integers(0, 40), max_size=4),
        st.frozensets(st.sampled_from(("eu", "us")), max_size=2),
    ),
    st.builds(StartRequested, people, st.just("go")),
    st.builds(PauseRequested, people, st.just("wait"), scopes),
    st.builds(ResumeRequested, people, st.just("on"), scopes),
    st.builds(ApproveRequested, people, st.sampled_from(("", "canary", "half")), st.just(""), st.just("fine")),
    st.builds(
        lambda scope, kind, value: SignalPosted(a_signal(scope=scope or "all", kind=kind, value=value)),
        scopes,
        st.sampled_from(SignalKind),
        st.floats(0.0, 9.0),
    ),
    st.builds(SignalCleared, st.just("tow_rate"), scopes, people, st.just("wrong")),
    st.just(RecoveryUnproven("behind the ledger")),
    st.sampled_from(
        [AbortRequested("bob", "enough"), SupersedeRequested(RolloutId("summer"), "bob", "summer takes its place")]
    ),
)
histories = st.lists(st.tuples(events, st.integers(-HOUR_MS, 3 * DAY_MS)), max_size=25)
STARTS = {"rollout_started", "rollout_resumed", "hold_cleared"}
STANDS = {R.HALTED, R.COMPLETED, R.ABORTED, R.SUPERSEDED}


@settings(max_examples=150, deadline=None)
@given(histories, st.integers(0, 2), st.booleans())
def test_every_step_of_every_history_keeps_its_promises(history, approvals, draft):
    """Epochs rise by one, fences only rise, nothing runs unasked, what is over stays, and all is written down."""
    plan = replace(PLAN, approvals=approvals)
    rollout = start(RolloutId("spring"), plan, "text", b"s" * 16, RULES, "alice", "go", "q", NOW, draft=draft)
    now = NOW
    for event, later in history:
        # Clocks of a simulation and of a restored host may jump, back as well.
        now = FleetTime(max(0, now + later))
        before = rollout
        answer = step(before, event.at(before, now) if isinstance(event, Look) else event, now)
        if isinstance(answer, Illegal):
            assert answer.message
            assert answer.remedy
            continue
        rollout = answer.rollout
        check(before, answer, event)
        for region in rollout.regions:
            waiting_for(rollout, {}, {}, region, now)
        next_due(rollout, now)


def check(before: Rollout, answer: Step, event: Event | Look) -> None:
    """What holds of one step."""
    after = answer.rollout
    if not answer.changed:
        assert after is before
        return
    assert after.epoch == before.epoch + 1
    assert after.fence >= before.fence
    assert all(after.fences.get(scope, 0) >= fence for scope, fence in before.fences.items())
    assert not before.status.over
    assert not before.apart or after.apart == before.apart, "what is judged apart stays so"
    assert after.reason
    assert answer.data["reason"]
    assert answer.data["actor"]
    json.dumps(dict(answer.data))
    if after.status in STANDS and after.status is not before.status:
        assert after.fence == after.epoch, "what has no permit is withdrawn"
    if after.status is R.RUNNING and before.status is not R.RUNNING:
        assert answer.kind in STARTS
        assert answer.kind != "hold_cleared" or (before.status is R.HELD and not before.hold_final)
    assert (after.held_since is not None) == (after.status is R.HELD) or after.status.over
    assert [brake.scope for brake in after.brakes] == sorted({brake.scope for brake in after.brakes})
    moves(before, after, event)


def moves(before: Rollout, after: Rollout, event: Event | Look) -> None:
    """What holds of its regions."""
    for name, progress in after.regions.items():
        stood = before.regions[name]
        started = isinstance(event, StartRequested)
        assert started or (progress.wave - stood.wave) in (0, 1)
        if progress.wave > stood.wave:
            assert before.status is R.RUNNING
            assert all(brake.scope != name for brake in before.brakes)
        for key, opening in stood.openings.items():
            assert started or progress.openings[key].quota >= opening.quota
            assert started or progress.openings[key].share >= opening.share
        if progress.phase is not RegionPhase.PENDING and stood.phase is RegionPhase.PENDING and not started:
            assert isinstance(event, Look)
            assert any(approval.wave == "canary" for approval in after.approvals)
