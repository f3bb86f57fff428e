"""Between wire and agent: what a newer orchestrator says is never read as less than it asks."""

from __future__ import annotations

from dataclasses import replace

from outrider.v1 import vehicle_pb2 as pb

from agent_sim import steps, wire
from agent_sim.messages import InstallDirective, Link, Preconditions
from agent_sim.persisted import state_from_json
from tests.agent_sim.builders import an_agent
from tests.agent_sim.talk import OFFER, Talk

WANTED = pb.Preconditions(
    unmetered=True,
    parked=True,
    battery_percent_min=30,
    storage_free_bytes_min=2_000,
    link_types=[pb.LINK_TYPE_WIFI, pb.LINK_TYPE_WIRED],
)


def preconditions(wanted: pb.Preconditions) -> Preconditions:
    """As the agent takes them from a directive."""
    install = pb.InstallDirective(attempt_id="spring.v-1.1", preconditions=wanted)
    reply = wire.poll_reply(pb.CheckInResponse(directive=pb.Directive(install=install)))
    assert isinstance(reply.directive, InstallDirective)
    return reply.directive.preconditions


def test_every_precondition_of_a_directive_reaches_the_agent() -> None:
    """One that is lost on the way is an installation in a moving car."""
    assert preconditions(WANTED) == Preconditions(True, True, 30, 2_000, (Link.WIFI, Link.WIRED))
    assert len(pb.Preconditions.DESCRIPTOR.fields) == 5


def test_kind_of_link_that_the_agent_does_not_know_is_one_that_it_is_not_on() -> None:
    """Left out, a list of unknown kinds would be empty, and an empty list asks for nothing."""
    links = preconditions(pb.Preconditions(link_types=[99])).links  # type: ignore[list-item]  # of a later version
    assert links
    assert not set(links) & set(Link)


def test_preconditions_outlive_a_restart() -> None:
    """The directive is not sent again before the next poll; the vehicle must not install meanwhile as it likes."""
    offer = replace(OFFER, preconditions=preconditions(WANTED))
    state = Talk(an_agent()).polled(offer).verified().agent.state
    again = state_from_json(state.to_json())
    assert steps.progress_of(again).preconditions == offer.preconditions
