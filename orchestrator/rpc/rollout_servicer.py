"""Rollouts on the operator port: identity and role in, use case, conversion out."""

from __future__ import annotations

from collections.abc import AsyncIterator

from outrider.v1 import rollout_pb2, rollout_pb2_grpc

from orchestrator.engine.progress import (
    AbortRequested,
    ApproveRequested,
    PauseRequested,
    ResumeRequested,
    SignalCleared,
    SignalPosted,
    StartRequested,
)
from orchestrator.rpc import convert
from orchestrator.rpc.identity import IdentityReader
from orchestrator.rpc.operator_requests import Context, page, required
from orchestrator.service.rollouts import Request, RolloutDesk, rollout_id_of

ChangeRequest = (
    rollout_pb2.StartRolloutRequest
    | rollout_pb2.PauseRolloutRequest
    | rollout_pb2.ResumeRolloutRequest
    | rollout_pb2.AbortRolloutRequest
    | rollout_pb2.ApproveWaveRequest
)


class RolloutServicer(rollout_pb2_grpc.RolloutServiceServicer):
    """Rollouts."""

    def __init__(self, desk: RolloutDesk, identities: IdentityReader) -> None:
        self._desk = desk
        self._identities = identities

    async def PreviewRollout(  # noqa: N802 - gRPC's name
        self, request: rollout_pb2.PreviewRolloutRequest, context: Context
    ) -> rollout_pb2.PreviewRolloutResponse:
        """What a plan would do."""
        self._identities.operator(context.auth_context(), "viewer")
        return convert.preview(*await self._desk.preview(request.plan))

    async def CreateRollout(  # noqa: N802 - gRPC's name
        self, request: rollout_pb2.CreateRolloutRequest, context: Context
    ) -> rollout_pb2.Rollout:
        """Start a rollout, or write it down."""
        operator = self._identities.operator(context.auth_context(), "operator")
        rollout = await self._desk.create(
            request.plan,
            rollout_id=request.rollout_id,
            request_id=request.request_id,
            actor=operator.name,
            reason=required(request.reason),
            reverts=rollout_id_of(request.reverts) if request.reverts else "",
            draft=request.draft,
        )
        return convert.rollout(await self._desk.view(rollout.rollout_id))

    async def GetRollout(  # noqa: N802 - gRPC's name
        self, request: rollout_pb2.GetRolloutRequest, context: Context
    ) -> rollout_pb2.Rollout:
        """One rollout with its counts."""
        self._identities.operator(context.auth_context(), "viewer")
        return convert.rollout(await self._desk.view(rollout_id_of(request.name)))

    async def ListRollouts(  # noqa: N802 - gRPC's name
        self, request: rollout_pb2.ListRolloutsRequest, context: Context
    ) -> rollout_pb2.ListRolloutsResponse:
        """Rollouts, newest first."""
        self._identities.operator(context.auth_context(), "viewer")
        views, following = page(await self._desk.views(), request.page_size, request.page_token)
        return rollout_pb2.ListRolloutsResponse(
            rollouts=[convert.rollout(view) for view in views], next_page_token=following
        )

    async def WatchRollout(  # noqa: N802 - gRPC's name
        self, request: rollout_pb2.WatchRolloutRequest, context: Context
    ) -> AsyncIterator[rollout_pb2.Rollout]:
        """A rollout each time it changed."""
        self._identities.operator(context.auth_context(), "viewer")
        async for view in self._desk.watch(rollout_id_of(request.name)):
            yield convert.rollout(view)

    async def StartRollout(  # noqa: N802 - gRPC's name
        self, request: rollout_pb2.StartRolloutRequest, context: Context
    ) -> rollout_pb2.Rollout:
        """Start a draft."""
        operator = self._identities.operator(context.auth_context(), "operator")
        return await self._change(request, StartRequested(operator.name, request.reason))

    async def PauseRollout(  # noqa: N802 - gRPC's name
        self, request: rollout_pb2.PauseRolloutRequest, context: Context
    ) -> rollout_pb2.Rollout:
        """Stop grants and permits, of all or of a part."""
        operator = self._identities.operator(context.auth_context(), "operator")
        return await self._change(request, PauseRequested(operator.name, request.reason, request.scope))

    async def ResumeRollout(  # noqa: N802 - gRPC's name
        self, request: rollout_pb2.ResumeRolloutRequest, context: Context
    ) -> rollout_pb2.Rollout:
        """Go on, all of it or a part."""
        operator = self._identities.operator(context.auth_context(), "operator")
        return await self._change(request, ResumeRequested(operator.name, request.reason, request.scope))

    async def AbortRollout(  # noqa: N802 - gRPC's name
        self, request: rollout_pb2.AbortRolloutRequest, context: Context
    ) -> rollout_pb2.Rollout:
        """End it."""
        operator = self._identities.operator(context.auth_context(), "operator")
        return await self._change(request, AbortRequested(operator.name, request.reason))

    async def ApproveWave(  # noqa: N802 - gRPC's name
        self, request: rollout_pb2.ApproveWaveRequest, context: Context
    ) -> rollout_pb2.Rollout:
        """Let a wave begin, or a draft start."""
        approver = self._identities.operator(context.auth_context(), "approver")
        return await self._change(
            request, ApproveRequested(approver.name, request.wave, request.region, request.reason)
        )

    async def PostSignal(  # noqa: N802 - gRPC's name
        self, request: rollout_pb2.PostSignalRequest, context: Context
    ) -> rollout_pb2.Rollout:
        """Say how the vehicles fare, from outside."""
        operator = self._identities.operator(context.auth_context(), "operator")
        posted = convert.signal_in(request.signal, actor=operator.name, reason=request.reason)
        return await self._signal(request, SignalPosted(posted))

    async def ClearSignal(  # noqa: N802 - gRPC's name
        self, request: rollout_pb2.ClearSignalRequest, context: Context
    ) -> rollout_pb2.Rollout:
        """Take a signal back."""
        operator = self._identities.operator(context.auth_context(), "operator")
        cleared = SignalCleared(request.signal, request.scope, operator.name, request.reason)
        return await self._signal(request, cleared)

    async def ProposeRevert(  # noqa: N802 - gRPC's name
        self, request: rollout_pb2.ProposeRevertRequest, context: Context
    ) -> rollout_pb2.ProposeRevertResponse:
        """The plan of a rollout that undoes this one."""
        self._identities.operator(context.auth_context(), "viewer")
        plan, release = await self._desk.propose_revert(rollout_id_of(request.name))
        return rollout_pb2.ProposeRevertResponse(plan=plan, release=release)

    async def _change(self, request: ChangeRequest, wanted: Request) -> rollout_pb2.Rollout:
        rollout = await self._desk.request(
            rollout_id_of(request.name), wanted, etag=request.etag, request_id=request.request_id
        )
        return convert.rollout(await self._desk.view(rollout.rollout_id))

    async def _signal(
        self,
        request: rollout_pb2.PostSignalRequest | rollout_pb2.ClearSignalRequest,
        wanted: SignalPosted | SignalCleared,
    ) -> rollout_pb2.Rollout:
        # Without an etag: whoever measures cannot know how the rollout stands, and need not.
        rollout = await self._desk.request(rollout_id_of(request.name), wanted, etag="", request_id=request.request_id)
        return convert.rollout(await self._desk.view(rollout.rollout_id))
