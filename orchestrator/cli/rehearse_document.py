"""A rehearsal for programs: the JSON of `outrider rehearse`. Its names and types are stable, see docs/rehearse.md."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from orchestrator.engine.wording import instant
from orchestrator.rehearsal.intervals import Share, Spread
from orchestrator.rehearsal.rehearse import Rehearsal
from orchestrator.rehearsal.story import Chances, Story, chances, typical

Document = dict[str, object]


def document(rehearsal: Rehearsal, svg: Path | None) -> Document:
    """What was assumed, what became of it in each run and in all, and what the model leaves out."""
    return {
        "plan": rehearsal.plan.name,
        "release": rehearsal.plan.release,
        "assumed": _assumed(rehearsal),
        "chances": _chances(chances(rehearsal.stories)),
        "runs": [_run(story) for story in rehearsal.stories],
        "typical": _story(typical(rehearsal.stories)),
        "left_out": list(rehearsal.left_out),
        "svg": str(svg or ""),
    }


def _assumed(rehearsal: Rehearsal) -> Document:
    scenario = rehearsal.scenario
    delays = scenario.fleet.delays
    return {
        "vehicles": scenario.inventory.size,
        "registered": scenario.inventory.registered,
        "excluded": dict(scenario.inventory.excluded),
        "cells": [
            {"region": cell.region, "hardware": cell.hardware, "cohort": cell.cohort, "vehicles": count}
            for cell, count in scenario.inventory.counts().items()
        ],
        "failure_rate": scenario.release.failure_rate,
        "silent_share": scenario.release.silent_share,
        "failure_rates": [
            {"region": cell.region, "hardware": cell.hardware, "cohort": cell.cohort, "failure_rate": rate}
            for cell, rate in scenario.release.failure_rates.items()
        ],
        "model": scenario.fleet.name,
        "calls": {pattern.name: pattern.share for pattern in scenario.fleet.patterns},
        "install_median_h": delays.install_median_h,
        "garage_share": delays.garage_share,
        "lost_share": delays.lost_share,
        "outages": [asdict(outage) for outage in scenario.outages],
        "approve_after_h": scenario.people.approve_after_h,
        "start_time": instant(scenario.start),
        "limit_days": scenario.horizon_days,
    }


def _run(story: Story) -> Document:
    return {
        "seed": story.seed,
        "ending": story.ending.value,
        "rule": story.rule,
        "reason": story.reason,
        "ended_days": story.ended_days,
        "days_to_half": story.days_to_half,
        "days_to_95": story.days_to_95,
        "days_to_all": story.days_to_all,
        "exposed": story.end.exposed,
        "succeeded": story.end.succeeded,
        "harmed": story.harmed,
        "holds": story.holds,
        "held_days": story.held_days,
    }


def _story(story: Story) -> Document:
    return {
        "seed": story.seed,
        "turns": [asdict(turn) for turn in story.turns],
        "curve": [asdict(moment) for moment in story.curve],
    }


def _chances(found: Chances) -> Document:
    return {
        "endings": {ending.value: _share(share) for ending, share in found.endings.items()},
        "stopped": _share(found.stopped),
        "rules": dict(found.rules),
        "harmed": _spread(found.harmed),
        "days_to_half": _spread(found.days_to_half),
        "days_to_95": _spread(found.days_to_95),
        "days_to_all": _spread(found.days_to_all),
        "stopped_days": _spread(found.stopped_days),
    }


def _share(share: Share) -> Document:
    return {"runs": share.hits, "share": share.share, "low": share.low, "high": share.high}


def _spread(spread: Spread | None) -> Document | None:
    return asdict(spread) if spread is not None else None
