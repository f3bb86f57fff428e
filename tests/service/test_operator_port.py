"""Rollouts and releases on the operator port: who may, what must be said, and what comes out."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import Message
from outrider.v1 import release_pb2, rollout_pb2

from orchestrator.rpc.identity import IdentityReader
from orchestrator.rpc.release_servicer import ReleaseServicer
from orchestrator.rpc.rollout_servicer import RolloutServicer
from orchestrator.service.errors import ForbiddenError, InvalidInputError, StateError
from tests.rpc.contexts import TRUST_DOMAIN, AContext, operator_certificate
from tests.service.world import Car, World

ROLES = {name: operator_certificate(name, name) for name in ("viewer", "operator", "approver", "admin")}
BAD = "name: spring\nrelease: 1.2.0\nholdout: 0%\nwaves: [{name: all, approvals: 1}]\n"
NAME = "rollouts/spring"
CHANGES = (
    ("CreateRollout", "operator", rollout_pb2.CreateRolloutRequest(plan=BAD, rollout_id="autumn")),
    ("PauseRollout", "operator", rollout_pb2.PauseRolloutRequest(name=NAME)),
    ("ResumeRollout", "operator", rollout_pb2.ResumeRolloutRequest(name=NAME)),
    ("AbortRollout", "operator", rollout_pb2.AbortRolloutRequest(name=NAME)),
    ("ApproveWave", "approver", rollout_pb2.ApproveWaveRequest(name=NAME, wave="all")),
    ("CreateRelease", "operator", release_pb2.CreateReleaseRequest(release=release_pb2.Release(version="9.9.9"))),
)


class Port:
    """Both servicers, on the world's desks."""

    def __init__(self, world: World) -> None:
        identities = IdentityReader(TRUST_DOMAIN, lambda _: False)
        self._rollouts = RolloutServicer(world.rollouts, identities)
        self._releases = ReleaseServicer(world.releases, identities)

    async def ask(self, method: str, request: Message, *, by: str) -> Any:
        """Call one method as somebody with that role, who is named like it."""
        servicer = self._releases if "Release" in method else self._rollouts
        return await getattr(servicer, method)(request, AContext(certificate=ROLES[by]))


@pytest.fixture
async def port(world: World) -> Port:
    """A rollout of 1.2.0, started by `operator`, that waits for an approval."""
    await world.undoable()
    await world.add(Car("v-1"))
    port = Port(world)
    await port.ask("CreateRollout", rollout_pb2.CreateRolloutRequest(plan=BAD, reason="brakes"), by="operator")
    return port


@pytest.mark.parametrize(("method", "role", "request_"), CHANGES)
async def test_change_needs_its_role_and_a_reason(port: Port, method: str, role: str, request_: Message) -> None:
    """An approver does not operate, an operator does not approve, and nobody changes anything without saying why."""
    for other in {"viewer", "operator", "approver"} - {role}:
        with pytest.raises(ForbiddenError) as forbidden:
            await port.ask(method, request_, by=other)
        assert forbidden.value.reason == "ROLE_TOO_LOW"
    for by in (role, "admin"):
        with pytest.raises(InvalidInputError) as silent:
            await port.ask(method, request_, by=by)
        assert silent.value.reason == "REASON_MISSING"


async def test_admin_approves_what_others_created_only(port: Port) -> None:
    """Both roles in one hand are still two people's work."""
    own = rollout_pb2.CreateRolloutRequest(plan=BAD, rollout_id="mine", reason="brakes")
    await port.ask("CreateRollout", own, by="admin")
    approve = rollout_pb2.ApproveWaveRequest(name="rollouts/mine", wave="all", reason="seen")
    with pytest.raises(ForbiddenError) as error:
        await port.ask("ApproveWave", approve, by="admin")
    assert error.value.reason == "OWN_ROLLOUT"
    approve.name = NAME
    approved = await port.ask("ApproveWave", approve, by="admin")
    assert (approved.creator, [one.actor for one in approved.approvals]) == ("operator", ["admin"])


async def test_viewer_may_ask_how_to_undo_and_an_operator_does(port: Port) -> None:
    """Looking at the way back changes nothing; going it is linked to what it undoes."""
    proposed = await port.ask("ProposeRevert", rollout_pb2.ProposeRevertRequest(name=NAME), by="viewer")
    assert proposed.release == "1.2.0-revert"
    create = rollout_pb2.CreateRolloutRequest(
        plan="release: 1.2.0-revert\nholdout: 0%\nwaves: [{name: all}]\n", reverts=NAME, reason="brakes"
    )
    with pytest.raises(StateError) as running:
        await port.ask("CreateRollout", create, by="operator")
    assert running.value.reason == "REVERT_OF_RUNNING"
    await port.ask("AbortRollout", rollout_pb2.AbortRolloutRequest(name=NAME, reason="brakes"), by="operator")
    assert (await port.ask("CreateRollout", create, by="operator")).reverts == NAME
    create.reverts = "spring"
    with pytest.raises(InvalidInputError):
        await port.ask("CreateRollout", create, by="operator")


async def test_release_comes_out_with_what_it_undoes(port: Port) -> None:
    """The field is how people and tools tell a way back from a release."""
    listed = await port.ask("ListReleases", release_pb2.ListReleasesRequest(), by="viewer")
    assert {release.version: release.reverts for release in listed.releases} == {
        "1.1.0": "",
        "1.2.0": "",
        "1.2.0-revert": "1.2.0",
    }
    back = next(release for release in listed.releases if release.reverts)
    again = release_pb2.CreateReleaseRequest(release=back, reason="again")
    assert await port.ask("CreateRelease", again, by="operator") == back
