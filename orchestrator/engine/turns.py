"""Turns: whether a vehicle's turn has come, by where its region stands and by its draw.

Owns the reasons for which a targeted vehicle waits: its region has not begun, its wave has not come, it is in the
holdout. Their place among all other reasons is the matter of `admission`.
"""

from __future__ import annotations

from orchestrator.engine import approvals, openings, regions, selection, waves
from orchestrator.engine.wording import duration, percent
from orchestrator.model.decision import Refusal, RefusalReason
from orchestrator.model.fleet import Vehicle
from orchestrator.model.rollout import RegionPhase, Rollout, place_key


def drawn(draw: int) -> str:
    """A draw, for people: the share at which its turn comes."""
    return f"{draw / selection.DRAW_RANGE * 100:.4f} %"


def holdout(vehicle: Vehicle, rollout: Rollout, draw: int) -> Refusal | None:
    """Why a vehicle of the holdout stays out; None when it is none, or the holdout is open."""
    share = rollout.plan.holdout_share
    progress = rollout.regions[vehicle.region]
    if waves.holdout_open(progress) or not selection.in_holdout(draw, share):
        return None
    return Refusal(
        RefusalReason.HOLDOUT,
        f"drawn at {drawn(draw)}, in the {percent(share)} that stay out until the last wave has aged",
        {"draw": drawn(draw), "holdout_share": percent(share), "phase": progress.phase.value},
    )


def late(vehicle: Vehicle, rollout: Rollout) -> Refusal | None:
    """Why a vehicle stays out that calls when its region waits for nobody any more; None while it waits."""
    plan, progress = rollout.plan, rollout.regions[vehicle.region]
    if not progress.closed:
        return None
    waited = f"region {vehicle.region} waited {duration(plan.limits.patience_ms)} for vehicles that do not call"
    facts = {"region": vehicle.region, "phase": progress.phase.value, "patience": duration(plan.limits.patience_ms)}
    if not waves.holdout_open(progress):
        return Refusal(RefusalReason.HOLDOUT, f"{waited}; who calls now comes with the holdout", facts)
    return Refusal(RefusalReason.ROLLOUT_OVER, f"{waited}, and admits nobody more", facts)


def pending(vehicle: Vehicle, rollout: Rollout) -> Refusal | None:
    """Why a vehicle waits whose region has not begun; None when it has."""
    region = vehicle.region
    if rollout.regions[region].phase is not RegionPhase.PENDING:
        return None
    first, followed = rollout.plan.waves[0], rollout.plan.regions[region].follow
    leader = rollout.regions.get(followed)
    if leader is not None and not regions.through(leader, 0):
        where = "has not begun"
        if leader.phase is RegionPhase.ROLLING:
            where = f"is in wave {rollout.plan.waves[leader.wave].name}"
        return Refusal(
            RefusalReason.FOLLOWED_REGION_FIRST,
            f"region {region} follows {followed}, which must be through with wave {first.name} first; it {where}",
            {"region": region, "follow": followed, "wave": first.name, "follow_phase": leader.phase.value},
        )
    people = approvals.given(rollout, first.name, region)
    message = approvals.missing(rollout, 0, region) or f"wave {first.name} is approved and begins in a moment"
    return Refusal(
        RefusalReason.APPROVAL_MISSING,
        f"region {region} has not begun: {message}",
        {
            "region": region,
            "wave": first.name,
            "approvals": str(len(people)),
            "approvals_wanted": str(first.approvals),
            "approved_by": ", ".join(people),
        },
    )


def wave(vehicle: Vehicle, rollout: Rollout, draw: int) -> Refusal | None:
    """Why a vehicle waits whose wave has not come; None when it has."""
    progress = rollout.regions[vehicle.region]
    opening = openings.at(progress, vehicle)
    share = opening.share if opening else waves.open_share(rollout.plan, progress.wave, vehicle.cohort)
    if share and draw < selection.threshold(share):
        return None if opening else _uncounted(vehicle, rollout)
    current = rollout.plan.waves[progress.wave]
    its = waves.first_wave(rollout.plan, vehicle.cohort, draw)
    turn = f"its turn is wave {its.name}" if its else "no wave of the plan is for it"
    facts = {"region": vehicle.region, "cohort": vehicle.cohort, "wave": current.name, "draw": drawn(draw)}
    if its:
        facts["its_wave"] = its.name
    if not share:
        message = f"region {vehicle.region} is in wave {current.name}, which is not for cohort {vehicle.cohort}; {turn}"
        return Refusal(RefusalReason.WAVE_NOT_REACHED, message, facts)
    opened = f"wave {current.name} of region {vehicle.region} is open to {percent(share)}"
    message = f"drawn at {drawn(draw)}, {opened}; {turn}"
    return Refusal(RefusalReason.NOT_YET_DRAWN, message, {**facts, "open_share": percent(share)})


def _uncounted(vehicle: Vehicle, rollout: Rollout) -> Refusal | None:
    """Why a vehicle waits whose cell has places that nobody has counted: the first vehicle of its kind in this wave.

    Until the evaluator's next tick; by draw alone a wave of ten would admit half of a thousand that were moved there.
    """
    progress = rollout.regions[vehicle.region]
    if not openings.in_part(rollout.plan, progress.wave, vehicle.cohort):
        return None
    cell, wave_name = place_key(vehicle.hardware, vehicle.cohort), rollout.plan.waves[progress.wave].name
    return Refusal(
        RefusalReason.EVALUATOR_SILENT,
        f"the places of wave {wave_name} for {cell} in region {vehicle.region} are not counted yet; "
        "the evaluator's next tick does that",
        {"region": vehicle.region, "cell": f"{vehicle.region}/{cell}", "wave": wave_name},
    )
