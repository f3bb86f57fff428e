"""Scenarios of bad metadata: each has one fault, and an agent that does not look at that very thing takes it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from outrider.v1 import vehicle_pb2 as pb

from agent_sim.conform.desk import Offer
from agent_sim.conform.metadata import Bundle, Signatory
from agent_sim.conform.scenario import Play, Scenario
from agent_sim.conform.stage import Stage
from agent_sim.conform.tape import CHECK_IN, FETCH
from agent_sim.conform.world import NEWER

Bad = Callable[[Signatory, datetime], Bundle]


async def refused(stage: Stage, offer: Offer, clause: str, codes: tuple[str, ...]) -> None:
    """Wait until bad metadata is refused, in the form that the contract asks for, or taken."""
    attempt_id = offer.attempt_id
    before = len(stage.tape.downloads())
    await stage.tape.until(
        lambda: bool(stage.asked(attempt_id) or stage.rejected(attempt_id)), stage.conditions.patience_s
    )
    stage.check(clause, not stage.asked(attempt_id), "it asked for a permit for what it should have refused")
    fetched = len(stage.tape.downloads()) - before
    if stage.asked(attempt_id):
        return
    stage.check("P-META-1", fetched == 0, "it fetched an image before both repositories were verified")
    await stage.until(lambda: bool(stage.rejected(attempt_id)), "P-META-11", "event REJECTED")
    code = stage.rejected(attempt_id)[0].failure_code
    wanted = " or ".join(codes)
    stage.check("P-META-11", code in codes, f"REJECTED says {code!r}, the contract's word is {wanted}")
    primary = stage.vehicle.vehicle.ecus[0].serial
    await stage.until(
        lambda: any(r.ecu_serial == primary and r.attack for m in stage.desk.manifests for r in m.reports),
        "P-META-11",
        "a manifest whose Primary names the attack",
    )


def bad(make: Bad, clause: str, *codes: str, also: tuple[str, ...] = ()) -> Play:
    """A scenario with bad metadata, and a good attempt afterwards."""

    async def play(stage: Stage) -> None:
        offer = stage.offer(bundle=make(stage.signatory, stage.fleet_now()))
        await stage.start_agent()
        await refused(stage, offer, clause, codes)
        if stage.failed:
            return
        stage.kept(*also)
        good = stage.offer()
        await stage.succeeded(good, "P-META-10")
        stage.kept("P-META-10")

    return play


async def rolled_back(stage: Stage) -> None:
    """Older versions than those that were verified before, with good signatures."""
    first = stage.offer()
    await stage.start_agent()
    await stage.succeeded(first)
    held = stage.signatory.version
    images = stage.world.released(NEWER, stage.vehicle)
    second = stage.offer(NEWER, bundle=stage.signatory.rolled_back(images, stage.fleet_now()))
    await refused(stage, second, "P-META-3", ("rollback",))
    await stage.polled()
    says = stage.answered_polls()[-1].request.director_versions.timestamp
    stage.check("P-META-10", says == held, f"polls say Director timestamp {says} after a refusal, {held} was held")


async def time_set_back(stage: Stage) -> None:
    """Fleet time is set back by three days, so that metadata which has run out looks fresh; after a restart."""
    first = stage.offer()
    await stage.start_agent()
    await stage.succeeded(first)
    await stage.polled()
    ran_out = stage.fleet_now() - timedelta(days=3)
    images = stage.world.released(NEWER, stage.vehicle)
    await stage.agent.kill()
    stage.fleet_back_ms = 3 * 86_400_000
    second = stage.offer(NEWER, bundle=stage.signatory.assign(images, ran_out))
    await stage.start_agent()
    await refused(stage, second, "P-TIME-2", ("clock", "freeze"))


async def incomplete(stage: Stage) -> None:
    """Polls bring no file of the Image repository; FetchMetadata has them."""
    offer = stage.offer()

    def without(reply: Any) -> Any:
        kept = [file for file in reply.metadata if file.repository != pb.REPOSITORY_IMAGE]
        del reply.metadata[:]
        reply.metadata.extend(kept)
        return reply

    stage.fault(CHECK_IN, change=without, times=1000)
    await stage.start_agent()
    await stage.until(lambda: bool(list(stage.tape.calls(FETCH))), "P-META-12", "FetchMetadata")
    await stage.succeeded(offer, "P-META-12")
    stage.kept("P-META-12")


_BAD: tuple[tuple[str, str, Bad, str, tuple[str, ...], tuple[str, ...], bool], ...] = (
    ("expired", "the Director's files have run out", Signatory.expired, "P-META-4", ("freeze",), ("P-TIME-1",), True),
    ("image-expired", "the Image timestamp ran out", Signatory.image_expired, "P-META-4", ("freeze",), (), False),
    ("forged", "the Director's keys are a stranger's", Signatory.forged, "P-META-2", ("arbitrary_software",), (), True),
    (
        "image-forged",
        "the offline key did not sign the Image targets",
        Signatory.image_forged,
        "P-META-2",
        ("arbitrary_software",),
        (),
        False,
    ),
    (
        "other-vehicle",
        "the Director's files are another vehicle's",
        Signatory.of_another_vehicle,
        "P-META-5",
        ("wrong_vehicle",),
        (),
        True,
    ),
    (
        "never-released",
        "the Director assigns what was never released",
        Signatory.never_released,
        "P-META-6",
        ("image_mismatch",),
        (),
        True,
    ),
    (
        "strange-unit",
        "a control unit is named that is not there",
        Signatory.for_a_strange_unit,
        "P-META-7",
        ("wrong_ecu",),
        (),
        False,
    ),
    (
        "wrong-hardware",
        "an image is assigned to a unit of other hardware",
        Signatory.for_other_hardware,
        "P-META-7",
        ("wrong_hardware",),
        (),
        False,
    ),
    (
        "older-release",
        "a lower release counter than what runs",
        Signatory.older_release,
        "P-META-8",
        ("rollback",),
        (),
        False,
    ),
    ("mixed", "the snapshot lists other targets", Signatory.mixed, "P-META-3", ("mix_and_match",), (), False),
    ("delegated", "the Director delegates", Signatory.delegated, "P-META-9", ("delegation",), (), False),
    ("bad-name", "an image name leaves its folder", Signatory.badly_named, "P-META-9", ("bad_name",), (), False),
    ("oversized", "Director targets above 64 KiB", Signatory.oversized, "P-META-9", ("endless_data",), (), False),
    (
        "missing",
        "the Image repository's metadata is nowhere",
        Signatory.without_image_metadata,
        "P-META-6",
        ("missing",),
        (),
        False,
    ),
)

SCENARIOS = (
    *(
        Scenario(
            name,
            story,
            (clause, *also, "P-META-1", "P-META-10", "P-META-11"),
            bad(make, clause, *codes, also=also),
            short=short,
        )
        for name, story, make, clause, codes, also, short in _BAD
    ),
    Scenario("rolled-back", "metadata goes back to older versions", ("P-META-3", "P-META-10"), rolled_back),
    Scenario("time-set-back", "fleet time is set back, old metadata looks fresh", ("P-TIME-2",), time_set_back),
    Scenario("incomplete", "polls bring no Image metadata, FetchMetadata does", ("P-META-12",), incomplete),
)
