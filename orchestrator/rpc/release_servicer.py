"""Releases on the operator port: identity and role in, use case, conversion out."""

from __future__ import annotations

from outrider.v1 import release_pb2, release_pb2_grpc

from orchestrator.model.release import Release
from orchestrator.rpc import convert
from orchestrator.rpc.identity import IdentityReader
from orchestrator.rpc.operator_requests import Context, page, required
from orchestrator.service.releases import ReleaseDesk, version_of


class ReleaseServicer(release_pb2_grpc.ReleaseServiceServicer):
    """Releases."""

    def __init__(self, desk: ReleaseDesk, identities: IdentityReader) -> None:
        self._desk = desk
        self._identities = identities

    async def CreateRelease(  # noqa: N802 - gRPC's name
        self, request: release_pb2.CreateReleaseRequest, context: Context
    ) -> release_pb2.Release:
        """Register a signed release."""
        operator = self._identities.operator(context.auth_context(), "operator")
        release = convert.release_in(request.release)
        created = await self._desk.create(release, actor=operator.name, reason=required(request.reason))
        return await self._in_full(created)

    async def GetRelease(  # noqa: N802 - gRPC's name
        self, request: release_pb2.GetReleaseRequest, context: Context
    ) -> release_pb2.Release:
        """One release."""
        self._identities.operator(context.auth_context(), "viewer")
        found = await self._desk.get(version_of(request.name))
        return await self._in_full(found)

    async def ListReleases(  # noqa: N802 - gRPC's name
        self, request: release_pb2.ListReleasesRequest, context: Context
    ) -> release_pb2.ListReleasesResponse:
        """Releases, newest first."""
        self._identities.operator(context.auth_context(), "viewer")
        releases, following = page(await self._desk.list(), request.page_size, request.page_token)
        deltas = await self._desk.deltas(releases)
        return release_pb2.ListReleasesResponse(
            releases=[
                convert.release(release, deltas[release.version], said=self._desk.said(release)) for release in releases
            ],
            next_page_token=following,
        )

    async def _in_full(self, release: Release) -> release_pb2.Release:
        deltas = await self._desk.deltas([release])
        evidence = await self._desk.evidence(release)
        return convert.release(release, deltas[release.version], said=self._desk.said(release), evidence=evidence)
