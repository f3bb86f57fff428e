"""Runs one seed, from nothing to the last late message."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import structlog

from orchestrator import evaluator
from orchestrator.engine.gates import Judgement
from orchestrator.model.fleet import Cell
from orchestrator.model.ids import FleetTime, RolloutId
from orchestrator.model.rollout import Rollout
from orchestrator.model.tally import CellTallies
from tests.sim.limits import BrokenPromiseError
from tests.sim.loop import VirtualLoop
from tests.sim.scenario import Scenario, draw_scenario
from tests.sim.world import Script, World

_DEFECTS = frozenset({"rollout_failed", "tick_failed"})
"""What the evaluator says when something of ours is wrong and it goes on nevertheless."""


class CrashedError(Exception):
    """Something of ours raised what nobody expects; the seed is in the message."""


def run_seed(seed: int) -> World:
    """One run; the world as it ended.

    Raises:
        BrokenPromiseError: a promise was not kept; the seed is in the message.
        CrashedError: see there.
    """
    return run_scenario(draw_scenario(seed))


def run_scenario(scenario: Scenario, script: Script | None = None) -> World:
    """One run of a scenario that may not be drawn, and of a script in place of its storm; the world as it ended.

    Raises:
        BrokenPromiseError: a promise was not kept; the seed is in the message.
        CrashedError: see there.
    """
    loop = VirtualLoop()
    defects: list[MutableMapping[str, Any]] = []

    async def live() -> World:
        world = World(scenario)
        await world.run(script)
        return world

    try:
        with _listening(defects), _unshown():
            world = loop.run_until_complete(live())
    except BrokenPromiseError as broken:
        raise BrokenPromiseError(f"seed {scenario.seed} after {loop.now_s:.1f} s: {broken}") from broken
    except Exception as error:
        raise CrashedError(f"seed {scenario.seed} after {loop.now_s:.1f} s: {error!r}") from error
    finally:
        loop.close()
    if defects:
        raise CrashedError(f"seed {scenario.seed}: {defects[0]['event']}: {defects[0]['error']!r}") from defects[0][
            "error"
        ]
    return world


@contextmanager
def _unshown() -> Iterator[None]:
    """Leave out what is done again and again for people: gauges, which nobody reads here, and a judgement of the very
    values that were judged at the tick before. That it is a judgement of nothing else, `replay` makes sure of.
    """
    judge, show = evaluator.judge_rollout, evaluator.show_rollout
    last: dict[RolloutId, tuple[object, Judgement]] = {}

    def judge_what_is_new(
        rollout: Rollout, cells: CellTallies, waiting: Mapping[Cell, int], now: FleetTime
    ) -> Judgement:
        values = (rollout, cells, waiting)
        judged, judgement = last.get(rollout.rollout_id, (None, None))
        # Time itself is looked at for the age of signals only.
        if judgement is None or judged != values or rollout.signals:
            judgement = judge(*values, now)
            last[rollout.rollout_id] = (values, judgement)
        return replace(judgement, terms=replace(judgement.terms, now=now))

    evaluator.judge_rollout = judge_what_is_new
    evaluator.show_rollout = lambda *_, **__: None
    try:
        yield
    finally:
        evaluator.judge_rollout, evaluator.show_rollout = judge, show


@contextmanager
def _listening(defects: list[MutableMapping[str, Any]]) -> Iterator[None]:
    """Say nothing of what is usual, and keep what must not happen."""

    def keep(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if event.get("exc_info") and event["event"] in _DEFECTS:
            defects.append({**event, "error": sys.exception()})
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[keep], wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    try:
        yield
    finally:
        structlog.configure(**before)
