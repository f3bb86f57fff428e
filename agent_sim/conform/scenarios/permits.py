"""Scenarios of the point of no return: refused for now, refused for good, run out, for somebody else,
out of reach.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import grpc
from outrider.v1 import vehicle_pb2 as pb

from agent_sim.conform.desk import PERMIT_S, Refused
from agent_sim.conform.scenario import Scenario
from agent_sim.conform.stage import Stage
from agent_sim.conform.tape import AUTHORIZE, CHECK_IN, SUBMIT
from agent_sim.conform.words import kind_name

_SHORT_FLEET_S = 120.0
_AWAY_S = 43_200
_OUTAGE_S = 1800
_FOR_EVER = 1_000_000


async def refused_for_now(stage: Stage) -> None:
    """The window is closed, then the rollout is paused, then a permit."""
    offer = stage.offer()
    answers = iter((Refused("window_closed", 240), Refused("a_reason_of_tomorrow", 120)))
    stage.desk.refuse = lambda _: next(answers, None)
    await stage.start_agent()
    await stage.until(lambda: len(stage.asked()) >= 3, "P-PERMIT-5", "another question after retry_after")
    await stage.succeeded(offer)
    reminders = [c for c in stage.answered_polls() if c.reply.directive.install.attempt_id == offer.attempt_id]
    if len(reminders) > 1:
        stage.kept("P-ATTEMPT-1")


async def refused_for_good(stage: Stage) -> None:
    """No retry_after: the attempt is over, for a reason that nobody knows yet."""
    offer = stage.offer()
    stage.desk.refuse = lambda _: Refused("a_reason_of_tomorrow", None)
    await stage.start_agent()
    await stage.until(lambda: len(stage.asked()) >= 1, "P-PERMIT-2", "a question for a permit")
    told = len(stage.tape.events())
    offer.over = True
    await stage.polled(3)
    await stage.watch(300)
    stage.check("P-PERMIT-6", len(stage.asked()) == 1, f"it asked {len(stage.asked())} times")
    news = [kind_name(event.kind) for event in stage.tape.events()[told:]]
    stage.check("P-PERMIT-6", not news, f"it told {', '.join(news)} of an attempt that was refused for good")


async def run_out(stage: Stage) -> None:
    """The answer with a short permit takes longer than the permit is valid."""
    offer = stage.offer()
    stage.desk.permit_s = _SHORT_FLEET_S
    stage.fault(AUTHORIZE, delay_s=stage.machine_s(_SHORT_FLEET_S) + 1.5)
    await stage.start_agent()
    await stage.until(lambda: any(c.ended_ms for c in stage.asked()), "P-PERMIT-2", "a question for a permit")
    stage.desk.permit_s = PERMIT_S
    used = partial(stage.installing, offer.attempt_id)
    await stage.until(lambda: used() or len(stage.asked()) > 1, "P-PERMIT-3", "the question for another permit")
    valid = f"{_SHORT_FLEET_S:.0f} s"
    stage.check("P-PERMIT-3", not used(), f"a permit of {valid} was used that had come when it had run out already")
    if not used():
        await stage.succeeded(offer)


async def of_somebody_else(stage: Stage) -> None:
    """A permit that names another attempt."""
    offer = stage.offer()

    def other(reply: Any) -> Any:
        reply.permit.attempt_id = "r9.somebody-else.1"
        return reply

    stage.fault(AUTHORIZE, change=other)
    await stage.start_agent()
    used = partial(stage.installing, offer.attempt_id)
    await stage.until(lambda: used() or len(stage.asked()) > 1, "P-PERMIT-1", "the question for a permit of its own")
    if not used():
        stage.kept("P-PERMIT-1")
        await stage.succeeded(offer)


async def out_of_reach(stage: Stage) -> None:
    """Offline permits may be asked for, one of half a day is given, and the next words come an hour later."""
    offer = stage.offer(offline_permit_s=_AWAY_S)
    stage.desk.permit_s = _AWAY_S
    await stage.start_agent()
    await stage.until(lambda: any(c.answered for c in stage.asked()), "P-PERMIT-2", "a question for a permit")
    for method in (CHECK_IN, SUBMIT):
        stage.fault(method, status=grpc.StatusCode.UNAVAILABLE, times=_FOR_EVER)
    await stage.watch(_OUTAGE_S)
    stage.mischief.clear()
    await stage.told(pb.EVENT_KIND_INSTALL_STARTED, "P-OUTBOX-4", attempt_id=offer.attempt_id)
    await stage.succeeded(offer)


SCENARIOS = (
    Scenario(
        "refused-for-now",
        "permits are refused with retry_after",
        ("P-PERMIT-5", "P-PERMIT-1", "P-PERMIT-2", "P-ATTEMPT-1"),
        refused_for_now,
        short=True,
    ),
    Scenario("refused-for-good", "a permit is refused without retry_after", ("P-PERMIT-6",), refused_for_good),
    Scenario("run-out", "a permit has run out when it arrives", ("P-PERMIT-3",), run_out, short=True),
    Scenario("of-somebody-else", "a permit names another attempt", ("P-PERMIT-1",), of_somebody_else),
    Scenario(
        "out-of-reach",
        "a permit of half a day, and no link after it",
        ("P-PERMIT-8", "P-PERMIT-1", "P-OUTBOX-4"),
        out_of_reach,
    ),
)
