"""Scenarios of a whole update, and of what an attempt is: begun once, ended for ever, replaced, withdrawn."""

from __future__ import annotations

from outrider.v1 import vehicle_pb2 as pb

from agent_sim.conform.desk import Refused
from agent_sim.conform.scenario import Scenario
from agent_sim.conform.stage import Stage
from agent_sim.conform.tape import AUTHORIZE, CHECK_IN
from agent_sim.conform.words import kind_name
from agent_sim.conform.world import NEWER

_STEPS = (
    pb.EVENT_KIND_DOWNLOAD_STARTED,
    pb.EVENT_KIND_DOWNLOAD_FINISHED,
    pb.EVENT_KIND_INSTALL_STARTED,
    pb.EVENT_KIND_REBOOT_STARTED,
)


async def update(stage: Stage) -> None:
    """Nothing goes wrong."""
    offer = stage.offer()
    await stage.start_agent()
    for kind in _STEPS:
        await stage.told(kind, "P-EVENT-1", attempt_id=offer.attempt_id)
    await stage.succeeded(offer)
    stage.kept("P-MANIFEST-4")
    first = {report.ecu_serial: report.sha256 for report in stage.desk.manifests[0].reports}
    factory = {ecu.serial: ecu.installed.sha256 for ecu in stage.vehicle.vehicle.ecus}
    stage.check("P-MANIFEST-3", first == factory, "the first manifest does not say what the factory installed")
    consented = any(call.request.consented for call in stage.tape.calls(AUTHORIZE))
    stage.check("P-COND-4", not consented, "AuthorizeInstall says that the owner agreed, who was never asked")
    await stage.polled(2)
    poll = stage.answered_polls()[-1].request
    assert stage.desk.bundle is not None, "something was offered"
    held, given = poll.director_versions.timestamp, stage.signatory.version
    stage.check("P-POLL-9", held == given, f"polls say Director timestamp {held}, {given} was given and used")
    asked = [call for call in stage.tape.calls(AUTHORIZE) if call.request.HasField("conditions")]
    stage.check("P-COND-1", bool(asked), "AuthorizeInstall carries no conditions")
    unsaid = [call for call in stage.tape.calls(CHECK_IN) if not call.request.HasField("conditions")]
    stage.check("P-COND-1", not unsaid, "CheckIn carries no conditions")


async def two_updates(stage: Stage) -> None:
    """A second release follows the first, after a restart."""
    first = stage.offer()
    await stage.start_agent()
    await stage.succeeded(first)
    before = len(stage.answered_polls())
    await stage.until(lambda: len(stage.answered_polls()) > before, "P-POLL-1", "a poll")
    held = stage.answered_polls()[-1].request
    await stage.restart_agent()
    await stage.polled()
    again = stage.answered_polls()[-1].request
    same = (held.director_versions, held.image_versions) == (again.director_versions, again.image_versions)
    stage.check("P-META-13", same, "after a restart polls say other metadata versions than before")
    second = stage.offer(NEWER)
    await stage.succeeded(second)
    stage.kept("P-META-13", "P-EVENT-1")


async def ended(stage: Stage) -> None:
    """An attempt that ended is directed again and again, also after a restart."""
    offer = stage.offer()
    await stage.start_agent()
    await stage.succeeded(offer)
    await stage.polled(2)
    told, asked = len(stage.tape.events()), len(list(stage.tape.calls(AUTHORIZE)))
    offer.over = False
    await stage.polled(3)
    await stage.restart_agent()
    await stage.polled(3)
    news = [kind_name(event.kind) for event in stage.tape.events()[told:]]
    questions = len(list(stage.tape.calls(AUTHORIZE))) - asked
    seen = f"it was taken up again: told {', '.join(news) or 'nothing'}, asked for {questions} permits"
    stage.check("P-ATTEMPT-2", not news and not questions, seen)


async def replaced(stage: Stage) -> None:
    """Another attempt is directed while the first waits for a permit."""
    first = stage.offer()
    paused = Refused("rollout_paused", 90)
    stage.desk.refuse = lambda request: paused if request.attempt_id == first.attempt_id else None
    await stage.start_agent()
    await stage.until(lambda: bool(list(stage.tape.calls(AUTHORIZE))), "P-PERMIT-2", "a question for a permit")
    second = stage.offer(NEWER)
    await stage.succeeded(second, "P-ATTEMPT-3")
    told = [kind_name(event.kind) for event in stage.tape.events(attempt_id=first.attempt_id)]
    quiet = [name for name in told if name not in ("DOWNLOAD_STARTED", "DOWNLOAD_FINISHED", "DEFERRED")]
    stage.check("P-ATTEMPT-3", not quiet, f"of the attempt that was replaced it told {', '.join(quiet)}")


async def withdrawn(stage: Stage) -> None:
    """An attempt is withdrawn before its permit, and then one that the vehicle never heard of."""
    offer = stage.offer()
    stage.desk.refuse = lambda _: Refused("rollout_paused", 90)
    await stage.start_agent()
    await stage.until(lambda: bool(list(stage.tape.calls(AUTHORIZE))), "P-PERMIT-2", "a question for a permit")
    stage.desk.withdraw = offer.attempt_id
    await stage.told(pb.EVENT_KIND_WITHDRAWAL_OBEYED, "P-ATTEMPT-4", attempt_id=offer.attempt_id)
    stranger = stage.desk.withdraw = stage.new_attempt_id()
    await stage.told(pb.EVENT_KIND_WITHDRAWAL_OBEYED, "P-ATTEMPT-4", attempt_id=stranger)
    stage.desk.withdraw, stage.desk.refuse = "", lambda _: None
    asked = len(list(stage.tape.calls(AUTHORIZE)))
    late = stage.offer()
    late.attempt_id = stranger
    await stage.polled(4)
    questions = len(list(stage.tape.calls(AUTHORIZE))) - asked
    stage.check("P-ATTEMPT-4", questions == 0, "an attempt that was withdrawn before it arrived was taken up")


async def withdrawn_too_late(stage: Stage) -> None:
    """The withdrawal arrives when the installation has begun."""
    offer = stage.offer()
    await stage.start_agent()
    await stage.told(pb.EVENT_KIND_INSTALL_STARTED, "P-PERMIT-1", attempt_id=offer.attempt_id)
    stage.desk.withdraw = offer.attempt_id
    await stage.succeeded(offer, "P-ATTEMPT-5")
    stage.kept("P-ATTEMPT-5")


async def runs_already(stage: Stage) -> None:
    """What is assigned runs on every unit already."""
    first = stage.offer()
    await stage.start_agent()
    await stage.succeeded(first)
    count = len(stage.desk.manifests)
    again = stage.offer()
    await stage.until(lambda: len(stage.desk.manifests) > count, "P-INSTALL-5", "a fresh manifest")
    await stage.polled(2)
    told = [kind_name(event.kind) for event in stage.tape.events(attempt_id=again.attempt_id)]
    stage.check("P-INSTALL-5", not told, f"it told {', '.join(told)} of an attempt with nothing to install")


SCENARIOS = (
    Scenario(
        "update",
        "nothing goes wrong",
        ("P-EVENT-1", "P-MANIFEST-3", "P-MANIFEST-4", "P-POLL-9", "P-COND-1", "P-COND-4"),
        update,
        short=True,
    ),
    Scenario("two-updates", "a second release follows a restart", ("P-META-13", "P-EVENT-1"), two_updates),
    Scenario("ended", "an attempt that ended is directed again", ("P-ATTEMPT-2",), ended),
    Scenario("replaced", "another attempt takes the place of one that waits", ("P-ATTEMPT-3",), replaced),
    Scenario("withdrawn", "an attempt is withdrawn before its permit", ("P-ATTEMPT-4",), withdrawn, short=True),
    Scenario("withdrawn-too-late", "withdrawn during the installation", ("P-ATTEMPT-5",), withdrawn_too_late),
    Scenario("runs-already", "what is assigned runs already", ("P-INSTALL-5",), runs_already),
)
