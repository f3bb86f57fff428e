"""Rollouts and releases on the operator port: who may, what must be said, and what comes out."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import Message
from outrider.v1 import release_pb2, rollout_pb2

from orchestrator.rpc.identity import IdentityReader
from orchestrator.rpc.release_servicer import ReleaseServicer
from orchestrator.rpc.rollout_servicer import RolloutServicer
from orchestrator.service.errors import ConflictError, ForbiddenError, InvalidInputError, StateError
from tests.rpc.contexts import TRUST_DOMAIN, AContext, operator_certificate
from tests.service.world import Car, World

ROLES = {name: operator_certificate(name, name) for name in ("viewer", "operator", "approver", "admin")}
BAD = "name: spring\nrelease: 1.2.0\nholdout: 0%\nwaves: [{name: all, approvals: 1}]\n"
NAME = "rollouts/spring"
SIGNAL = rollout_pb2.Signal(
    signal="tow_rate", kind=rollout_pb2.SIGNAL_KIND_WARNING, scope="eu/gen2", value=2.5, limit=1.0
)
CHANGES = (
    ("CreateRollout", "operator", rollout_pb2.CreateRolloutRequest(plan=BAD, rollout_id="autumn")),
    ("StartRollout", "operator", rollout_pb2.StartRolloutRequest(name=NAME)),
    ("PostSignal", "operator", rollout_pb2.PostSignalRequest(name=NAME, signal=SIGNAL)),
    ("ClearSignal", "operator", rollout_pb2.ClearSignalRequest(name=NAME, signal="tow_rate")),
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


async def test_a_draft_waits_for_its_start_and_starts_once(port: Port) -> None:
    """Written down is not begun; a repetition of the same request starts nothing twice."""
    create = rollout_pb2.CreateRolloutRequest(plan=BAD, rollout_id="autumn", reason="brakes", draft=True)
    assert (await port.ask("CreateRollout", create, by="operator")).status == rollout_pb2.ROLLOUT_STATUS_DRAFT
    name = "rollouts/autumn"
    stale = rollout_pb2.StartRolloutRequest(name=name, reason="go", etag='"7"')
    with pytest.raises(ConflictError):
        await port.ask("StartRollout", stale, by="operator")
    begin = rollout_pb2.StartRolloutRequest(name=name, reason="go", request_id="r-1")
    started = await port.ask("StartRollout", begin, by="operator")
    assert (started.status, started.last_reason) == (rollout_pb2.ROLLOUT_STATUS_RUNNING, "go")
    assert (await port.ask("StartRollout", begin, by="operator")).epoch == started.epoch


async def test_a_draft_that_needs_approvals_starts_after_them(port: Port) -> None:
    """Who wrote it down does not approve it; the approval names no wave."""
    plan = BAD.replace("name: spring\n", "approvals: 1\n")
    create = rollout_pb2.CreateRolloutRequest(plan=plan, rollout_id="autumn", reason="brakes")
    created = await port.ask("CreateRollout", create, by="operator")
    assert (created.status, created.approvals_wanted) == (rollout_pb2.ROLLOUT_STATUS_DRAFT, 1)
    begin = rollout_pb2.StartRolloutRequest(name="rollouts/autumn", reason="go")
    with pytest.raises(StateError):
        await port.ask("StartRollout", begin, by="operator")
    approve = rollout_pb2.ApproveWaveRequest(name="rollouts/autumn", reason="read it")
    approved = await port.ask("ApproveWave", approve, by="approver")
    assert approved.status == rollout_pb2.ROLLOUT_STATUS_APPROVED
    assert (await port.ask("StartRollout", begin, by="operator")).status == rollout_pb2.ROLLOUT_STATUS_RUNNING


async def test_one_part_is_paused_and_resumed_by_its_scope(port: Port) -> None:
    """The rest goes on; who, why and since when stand beside the part."""
    pause = rollout_pb2.PauseRolloutRequest(name=NAME, scope="eu/gen2", reason="calls about brakes")
    paused = await port.ask("PauseRollout", pause, by="operator")
    assert paused.status == rollout_pb2.ROLLOUT_STATUS_RUNNING
    [brake] = paused.brakes
    assert (brake.scope, brake.kind, brake.actor, brake.reason) == (
        "eu/gen2",
        rollout_pb2.BRAKE_KIND_PAUSED,
        "operator",
        "calls about brakes",
    )
    resume = rollout_pb2.ResumeRolloutRequest(name=NAME, scope="eu/gen2", reason="a charger")
    assert not (await port.ask("ResumeRollout", resume, by="operator")).brakes


@pytest.mark.parametrize("scope", ["mars", "eu/gen7", "eu/"])
async def test_a_scope_that_nobody_is_in_is_refused(port: Port, scope: str) -> None:
    """A slip of the pen at 3 a.m. would stop nobody and look as if it had."""
    pause = rollout_pb2.PauseRolloutRequest(name=NAME, scope=scope, reason="odd")
    post = rollout_pb2.PostSignalRequest(name=NAME, reason="odd")
    post.signal.CopyFrom(SIGNAL)
    post.signal.scope = scope
    for method, request in (("PauseRollout", pause), ("PostSignal", post)):
        with pytest.raises((StateError, InvalidInputError)) as refused:
            await port.ask(method, request, by="operator")
        assert refused.value.remedy


async def test_a_signal_stands_until_it_is_taken_back(port: Port) -> None:
    """By whom and when is the server's to say, whatever the request claims."""
    forged = rollout_pb2.Signal()
    forged.CopyFrom(SIGNAL)
    forged.actor = "somebody else"
    post = rollout_pb2.PostSignalRequest(name=NAME, signal=forged, reason="EU desk")
    [stands] = (await port.ask("PostSignal", post, by="operator")).signals
    assert (stands.signal, stands.scope, stands.value, stands.limit) == ("tow_rate", "eu/gen2", 2.5, 1.0)
    assert (stands.actor, stands.reason) == ("operator", "EU desk")
    assert stands.create_time.seconds
    clear = rollout_pb2.ClearSignalRequest(name=NAME, signal="tow_rate", scope="eu/gen2", reason="a storm")
    assert not (await port.ask("ClearSignal", clear, by="operator")).signals
    with pytest.raises(StateError):
        await port.ask("ClearSignal", clear, by="operator")


async def test_every_fault_of_a_signal_is_told_at_once(port: Port) -> None:
    """NaN is never beyond a limit: a probe that broke would take a warning away."""
    bad = rollout_pb2.Signal(signal="Tow Rate", scope="eu/gen2/x", value=float("nan"), limit=float("inf"))
    with pytest.raises(InvalidInputError) as refused:
        await port.ask("PostSignal", rollout_pb2.PostSignalRequest(name=NAME, signal=bad, reason="x"), by="operator")
    fields = [violation.field for violation in refused.value.violations]
    assert fields == ["signal.signal", "signal.kind", "signal.scope", "signal.value", "signal.limit"]


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
    whole = await port.ask("GetRelease", release_pb2.GetReleaseRequest(name=back.name), by="viewer")
    assert await port.ask("CreateRelease", again, by="operator") == whole
    assert whole.reverts == "1.2.0"
