"""Scenarios of consent and conditions: the owner has not answered, says no; the link costs money, the car drives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from outrider.v1 import vehicle_pb2 as pb

from agent_sim.conform.scenario import Play, Scenario
from agent_sim.conform.stage import Stage
from agent_sim.conform.tape import CHECK_IN
from agent_sim.messages import Conditions, Link
from agent_sim.provisioned import AGREED, DECLINED

_WAIT_FLEET_S = 300.0
_GOOD = Conditions()


async def _deferred(stage: Stage, code: str, attempt_id: str) -> None:
    event = await stage.told(pb.EVENT_KIND_DEFERRED, "P-COND-6", attempt_id=attempt_id)
    stage.check("P-COND-6", event.failure_code == code, f"DEFERRED says {event.failure_code!r}, its word is {code}")


def _once_each(stage: Stage, attempt_id: str) -> None:
    codes = [event.failure_code for event in stage.tape.events(pb.EVENT_KIND_DEFERRED, attempt_id)]
    stage.check("P-COND-6", len(set(codes)) == len(codes), f"DEFERRED was told {len(codes)} times: {codes[:5]}")


async def agreed(stage: Stage) -> None:
    """The owner takes his time, the vehicle restarts meanwhile, then he agrees."""
    offer = stage.offer(consent=pb.CONSENT_POLICY_REQUIRED, notes="Better brakes.")
    await stage.start_agent()
    await _deferred(stage, "consent_pending", offer.attempt_id)
    await stage.restart_agent()
    await stage.polled(2)
    await stage.watch(_WAIT_FLEET_S)
    stage.check("P-COND-4", not stage.asked(), "it asked for a permit before the owner agreed")
    stage.vehicle.folder.answer_consent(offer.attempt_id, AGREED)
    await stage.succeeded(offer, "P-COND-4")
    says = all(call.request.consented for call in stage.asked())
    stage.check("P-COND-4", says, "the owner agreed, AuthorizeInstall does not say so")
    _once_each(stage, offer.attempt_id)
    _went_on(stage, offer.attempt_id)


def _went_on(stage: Stage, attempt_id: str) -> None:
    """After the last deferral the attempt went on with a word."""
    kinds = [event.kind for event in stage.tape.events(attempt_id=attempt_id)]
    last = len(kinds) - 1 - kinds[::-1].index(pb.EVENT_KIND_DEFERRED)
    after = kinds[last + 1 :][:1]
    good = after and after[0] in (pb.EVENT_KIND_DOWNLOAD_STARTED, pb.EVENT_KIND_DOWNLOAD_FINISHED)
    told = pb.EventKind.Name(after[0]).removeprefix("EVENT_KIND_") if after else "nothing"
    stage.check("P-COND-7", bool(good), f"after DEFERRED it told {told}")


async def declined(stage: Stage) -> None:
    """The owner says no."""
    offer = stage.offer(consent=pb.CONSENT_POLICY_REQUIRED)
    await stage.start_agent()
    await _deferred(stage, "consent_pending", offer.attempt_id)
    stage.vehicle.folder.answer_consent(offer.attempt_id, DECLINED)
    event = await stage.told(pb.EVENT_KIND_REJECTED, "P-COND-8", attempt_id=offer.attempt_id)
    code = event.failure_code
    stage.check("P-COND-8", code == "consent_declined", f"REJECTED says {code!r}, its word is consent_declined")
    stage.check("P-COND-4", not stage.asked(), "it asked for a permit although the owner said no")


def _waits(code: str, worse: Conditions, demanded: pb.Preconditions, clause: str, says: Callable[[Any], bool]) -> Play:
    """A scenario in which a condition does not hold, and then does."""

    async def play(stage: Stage) -> None:
        stage.vehicle.folder.set_conditions(worse)
        offer = stage.offer(preconditions=demanded)
        await stage.start_agent()
        await stage.polled()
        told = next(iter(stage.tape.calls(CHECK_IN))).request.conditions
        if not says(told):
            stage.skip((clause, "P-COND-6", "P-COND-7"), "the agent does not go by conditions.json")
            return
        await _deferred(stage, code, offer.attempt_id)
        await stage.watch(_WAIT_FLEET_S)
        stage.check(clause, not stage.asked(), f"it asked for a permit with {code}")
        if clause == "P-COND-2":
            stage.check(clause, not stage.tape.downloads(), f"it downloaded with {code}")
        stage.vehicle.folder.set_conditions(_GOOD)
        await stage.succeeded(offer, "P-COND-7")
        _once_each(stage, offer.attempt_id)
        _went_on(stage, offer.attempt_id)
        now = stage.asked()[-1].request.conditions
        stage.check("P-COND-1", not says(now), "AuthorizeInstall says other conditions than those that hold")

    return play


SCENARIOS = (
    Scenario("agreed", "the owner agrees late", ("P-COND-4", "P-COND-6", "P-COND-7"), agreed, short=True),
    Scenario("declined", "the owner says no", ("P-COND-8", "P-COND-4", "P-COND-6"), declined),
    Scenario(
        "metered",
        "the link costs money, the plan asks for one that does not",
        ("P-COND-2", "P-COND-6", "P-COND-7"),
        _waits(
            "link_metered",
            replace(_GOOD, metered=True),
            pb.Preconditions(unmetered=True),
            "P-COND-2",
            lambda told: bool(told.metered),
        ),
    ),
    Scenario(
        "wrong-link",
        "the plan asks for another kind of link than the one in use",
        ("P-COND-2", "P-COND-6", "P-COND-7"),
        _waits(
            "link_unsuitable",
            replace(_GOOD, link=Link.WIFI),
            pb.Preconditions(link_types=[pb.LINK_TYPE_CELLULAR, pb.LINK_TYPE_WIRED]),
            "P-COND-2",
            lambda told: told.link_type == pb.LINK_TYPE_WIFI,
        ),
    ),
    Scenario(
        "driving",
        "the car drives, the plan asks for a parked one",
        ("P-COND-3", "P-COND-6", "P-COND-7"),
        _waits(
            "not_parked",
            replace(_GOOD, parked=False),
            pb.Preconditions(parked=True),
            "P-COND-3",
            lambda told: not told.parked,
        ),
    ),
    Scenario(
        "battery-low",
        "the battery is low",
        ("P-COND-3", "P-COND-6", "P-COND-7"),
        _waits(
            "battery_low",
            replace(_GOOD, battery_percent=15),
            pb.Preconditions(battery_percent_min=50),
            "P-COND-3",
            lambda told: told.battery_percent < 50,
        ),
    ),
)
