"""Scenarios of numbering, lost answers and kill -9: what the agent says after it was interrupted anywhere."""

from __future__ import annotations

from functools import partial
from typing import Any

from outrider.v1 import vehicle_pb2 as pb

from agent_sim.conform.mischief import Fault
from agent_sim.conform.scenario import Scenario
from agent_sim.conform.stage import Stage
from agent_sim.conform.tape import AUTHORIZE, CHECK_IN, SUBMIT

_FAR = 1000


def _with_events(request: Any) -> bool:
    return bool(request.events)


def _struck(fault: Fault) -> bool:
    return fault.hits > 0


def _tells(kind: Any) -> Any:
    return lambda request: any(event.kind == kind for event in request.events)


async def unacknowledged(stage: Stage) -> None:
    """Events arrive, and the answers do not acknowledge them for a while."""
    offer = stage.offer()
    stage.desk.acknowledge = False
    await stage.start_agent()
    await stage.told(pb.EVENT_KIND_DOWNLOAD_STARTED, "P-EVENT-1", attempt_id=offer.attempt_id)
    await stage.polled(3)
    stage.desk.acknowledge = True
    await stage.succeeded(offer, "P-OUTBOX-4")
    stage.kept("P-OUTBOX-4")


async def lost_replies(stage: Stage) -> None:
    """What was done is not told: the answer to each kind of call is lost once."""
    offer = stage.offer()
    lost = stage.fault(CHECK_IN, when=_with_events, lose_reply=True, times=2)
    stage.fault(AUTHORIZE, lose_reply=True)
    stage.fault(SUBMIT, lose_reply=True)
    await stage.start_agent()
    await stage.succeeded(offer, "P-ERR-1")
    stage.kept("P-ERR-1")
    stage.check("P-OUTBOX-4", lost.hits == 2, "no poll carried events")
    asked = [call.request.attempt_id for call in stage.tape.calls(AUTHORIZE)]
    stage.check("P-PERMIT-7", len(asked) > 1, "a lost answer about a permit was not asked for again")
    handed = [call.request.manifest for call in stage.tape.calls(SUBMIT)]
    stage.check("P-MANIFEST-5", handed[:1] == handed[1:2], "after a lost answer other bytes were handed in")


async def killed_while_telling(stage: Stage) -> None:
    """Kill -9 while the first event is on its way, again when the images are complete, and again at the end."""
    offer = stage.offer()
    for kind in (pb.EVENT_KIND_DOWNLOAD_STARTED, pb.EVENT_KIND_DOWNLOAD_FINISHED, pb.EVENT_KIND_VERIFY_STARTED):
        hung = stage.fault(CHECK_IN, when=_tells(kind), hang=True)
        if stage.tape.boot == 0:
            await stage.start_agent()
        else:
            await stage.restart_agent()
        await stage.until(partial(_struck, hung), "P-EVENT-1", f"event {pb.EventKind.Name(kind)}")
    await stage.restart_agent()
    await stage.until(lambda: _all_acknowledged(stage), "P-PERSIST-2", "every event, after kill -9,")
    await stage.succeeded(offer, "P-PERSIST-2")
    stage.kept("P-PERSIST-2", "P-OUTBOX-4")


def _all_acknowledged(stage: Stage) -> bool:
    polls = stage.answered_polls()
    return bool(polls) and bool(stage.tape.events()) and polls[-1].reply.acknowledged_number >= len(stage.tape.events())


async def killed_while_asking(stage: Stage) -> None:
    """Kill -9 between the question for a permit and its answer."""
    offer = stage.offer()
    hung = stage.fault(AUTHORIZE, hang=True)
    await stage.start_agent()
    await stage.until(lambda: hung.hits > 0, "P-PERMIT-2", "a question for a permit")
    await stage.restart_agent()
    await stage.until(
        lambda: any(c.answered for c in stage.tape.calls(AUTHORIZE)), "P-PERMIT-4", "the question for a permit, again,"
    )
    await stage.succeeded(offer, "P-PERSIST-2")
    stage.kept("P-PERMIT-4", "P-PERSIST-2")


async def killed_while_installing(stage: Stage) -> None:
    """Kill -9 as soon as the installation has begun, and once more a moment later."""
    offer = stage.offer()
    await stage.start_agent()
    await stage.told(pb.EVENT_KIND_INSTALL_STARTED, "P-PERMIT-1", attempt_id=offer.attempt_id)
    asked = len(list(stage.tape.calls(AUTHORIZE)))
    await stage.restart_agent()
    await stage.until(lambda: len(stage.answered_polls()) > 0, "P-INSTALL-3", "a poll after kill -9")
    await stage.restart_agent()
    await stage.succeeded(offer, "P-INSTALL-3")
    again = len(list(stage.tape.calls(AUTHORIZE))) - asked
    stage.check("P-INSTALL-3", again == 0, "it asked for a second permit for an installation that had begun")
    stage.kept("P-PERSIST-2")


async def acknowledged_too_much(stage: Stage) -> None:
    """The server acknowledges a number that was never given: the vehicle was restored from a backup."""
    offer = stage.offer()

    def far(reply: Any) -> Any:
        reply.acknowledged_number = _FAR
        return reply

    await stage.start_agent()
    await stage.told(pb.EVENT_KIND_DOWNLOAD_STARTED, "P-EVENT-1", attempt_id=offer.attempt_id)
    box = stage.answered_polls()[-1].request.outbox_id
    stage.fault(CHECK_IN, change=far)
    await stage.until(
        lambda: any(call.reply.acknowledged_number == _FAR for call in stage.answered_polls()), "P-POLL-1", "a poll"
    )
    fresh = f"a fresh outbox after number {_FAR} was acknowledged"
    await stage.until(
        lambda: any(c.request.outbox_id != box and c.request.events for c in stage.answered_polls()),
        "P-OUTBOX-5",
        fresh,
    )
    first = next(c.request for c in stage.answered_polls() if c.request.outbox_id != box and c.request.events)
    stage.check("P-OUTBOX-5", first.events[0].number == 1, f"a fresh outbox began at {first.events[0].number}")
    await stage.succeeded(offer, "P-OUTBOX-5")


SCENARIOS = (
    Scenario("unacknowledged", "events are not acknowledged for a while", ("P-OUTBOX-4",), unacknowledged),
    Scenario(
        "lost-replies",
        "answers to polls, permits and manifests are lost",
        ("P-OUTBOX-4", "P-PERMIT-7", "P-MANIFEST-5", "P-ERR-1"),
        lost_replies,
        short=True,
    ),
    Scenario(
        "killed-while-telling",
        "kill -9 while events are on their way",
        ("P-PERSIST-2", "P-OUTBOX-1", "P-OUTBOX-3", "P-OUTBOX-4", "P-OUTBOX-5"),
        killed_while_telling,
        short=True,
    ),
    Scenario(
        "killed-while-asking",
        "kill -9 before the answer about a permit",
        ("P-PERMIT-4", "P-PERMIT-1", "P-PERSIST-2"),
        killed_while_asking,
    ),
    Scenario(
        "killed-while-installing",
        "kill -9 in the installation",
        ("P-INSTALL-3", "P-PERSIST-2"),
        killed_while_installing,
        short=True,
    ),
    Scenario(
        "acknowledged-too-much",
        "a number that was never given is acknowledged",
        ("P-OUTBOX-5",),
        acknowledged_too_much,
    ),
)
