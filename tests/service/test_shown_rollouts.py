"""Which rollouts metrics show: a busy month must not make series without an end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator import evaluator as evaluator_module
from orchestrator.model.ids import RolloutId
from orchestrator.model.rollout import RolloutStatus
from orchestrator.service.decisions import decision_entry
from tests.builders import MINUTE_MS
from tests.service.world import Car, World


async def test_of_rollouts_that_are_over_the_latest_are_shown_and_all_are_judged(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has hundreds of series, which a busy month would make without an end; late words still count in it."""
    monkeypatch.setattr(evaluator_module, "SHOWN_OVER_MAX", 2)
    await world.add(Car("v-1"))
    for name in ("first", "second", "third"):
        rollout = await world.start(rollout_id=name)
        over = replace(rollout, status=RolloutStatus.ABORTED, epoch=rollout.epoch + 1, updated_at=world.now)
        entry = decision_entry(over, "rollout_aborted", {})
        assert await world.store.transition(over, expected_epoch=rollout.epoch, decision=entry)
        world.hand.advance(MINUTE_MS)
        await world.tick()
    await world.start(rollout_id="live")
    judged = list[RolloutId]()
    judge = evaluator_module.judge_rollout
    monkeypatch.setattr(
        evaluator_module, "judge_rollout", lambda each, *rest: judged.append(each.rollout_id) or judge(each, *rest)
    )
    await world.tick()
    assert sorted(judged) == ["first", "live", "second", "third"]
    series = {name for name, *_ in world.metrics.rollout_status._children}
    assert series == {"live", "second", "third"}
