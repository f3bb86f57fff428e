"""How often agents call when nobody answers, or only to refuse: a fleet of them must not amplify what is wrong."""

from __future__ import annotations

from agent_sim.actions import CallFailed, CheckInCall
from tests.agent_sim.builders import START, an_agent
from tests.agent_sim.fake_orchestrator import HOUR_MS
from tests.agent_sim.talk import the


def test_outage_of_a_day_is_four_or_five_calls_an_hour() -> None:
    """A vehicle with news keeps trying, and a fleet of them is no storm: each doubles its pause up to half an hour."""
    calls = []
    for seed in range(20):
        agent, now = an_agent(seed=seed), START
        actions, count = agent.start(now), 0
        while now < START + 24 * HOUR_MS:
            agent.handle(CallFailed(the(CheckInCall, actions).token), now)
            count += 1
            assert agent.due_at is not None
            now = agent.due_at
            actions = agent.handle_due(now)
        calls.append(count)
    assert 24 * 4 <= sum(calls) / len(calls) <= 24 * 5
    assert max(calls) < 24 * 6


def test_overload_is_one_call_more_for_each_refusal_and_none_before_its_time() -> None:
    """A refusal that names a delay is worth one call, and those who were told the same come back apart."""
    came_back = set()
    for seed in range(50):
        agent, now = an_agent(seed=seed), START
        actions = agent.start(now)
        for _ in range(5):
            actions = agent.handle(CallFailed(the(CheckInCall, actions).token, retry_after_ms=60_000), now)
            assert actions == ()
            assert agent.due_at is not None
            assert now + 60_000 <= agent.due_at <= now + 90_000
            assert agent.handle_due(agent.due_at - 1) == ()
            now = agent.due_at
            actions = agent.handle_due(now)
        came_back.add(now)
    assert len(came_back) > 45
