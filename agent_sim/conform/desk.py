"""The honest server of one vehicle, pure: acknowledges, directs, permits, verifies manifests.

Owns what a correct orchestrator would answer; `mischief` bends it, `server` puts it on sockets. A scenario sets what is
offered and what is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from google.protobuf.duration_pb2 import Duration
from outrider.v1 import vehicle_pb2 as pb
from outrider.v1.attempt_pb2 import ATTEMPT_STATE_OFFERED

from agent_sim.clock import machine_ms
from agent_sim.conform.metadata import Bundle, version_in
from agent_sim.conform.world import ConformVehicle
from agent_sim.wire import to_timestamp
from signing.director import AssignedImage
from signing.errors import VerificationError
from signing.manifest import Manifest, verify_manifest

ENDS = frozenset(
    {pb.EVENT_KIND_FAILED, pb.EVENT_KIND_ROLLED_BACK, pb.EVENT_KIND_REJECTED, pb.EVENT_KIND_WITHDRAWAL_OBEYED}
)
PERMIT_S = 900
"""A plan's usual validity of a permit, fleet time."""


@dataclass
class Offer:
    """An attempt as the server knows it."""

    attempt_id: str
    release: str
    images: tuple[AssignedImage, ...]
    consent: Any = pb.CONSENT_POLICY_NONE
    preconditions: pb.Preconditions = field(default_factory=pb.Preconditions)
    notes: str = ""
    offline_permit_s: int = 0
    """Fleet time; 0: the directive has none."""
    over: bool = False
    permitted: bool = False
    succeeded: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """A permit refusal."""

    reason: str
    retry_after_s: float | None
    """Fleet time; None: the attempt is over."""


class ManifestRefusedError(Exception):
    """A manifest that the server does not take."""


@dataclass
class Desk:
    """What the server knows of its one vehicle, and how it answers."""

    vehicle: ConformVehicle
    fleet_ms: Callable[[], int]
    base_urls: list[str] = field(default_factory=list)
    bundle: Bundle | None = None
    offer: Offer | None = None
    withdraw: str = ""
    """Attempt to withdraw in place of any other directive."""
    diagnose: bool = False
    next_poll_s: int = 60
    """Fleet time."""
    permit_s: float = PERMIT_S
    """Validity of permits, fleet time."""
    refuse: Callable[[pb.AuthorizeInstallRequest], Refused | None] = lambda _: None
    """Decides on each question for a permit; None: a permit."""
    latest_ms: int = 0
    """The latest fleet time at which a manifest came."""
    acknowledge: bool = True
    """False: events are taken, but the reply says the old number."""
    acknowledged: dict[str, int] = field(default_factory=dict)
    """Highest durable number by outbox."""
    told: dict[str, int] = field(default_factory=dict)
    """Highest number ever told by outbox."""
    manifests: list[Manifest] = field(default_factory=list)
    manifest_sha256: str = ""
    proven: list[tuple[float, frozenset[str]]] = field(default_factory=list)
    """(machine time, digests that run) for each manifest."""
    refused_manifests: list[str] = field(default_factory=list)
    """Why, for each that was refused."""

    def check_in(self, request: pb.CheckInRequest) -> pb.CheckInResponse:
        """Answer a poll."""
        self._take(request)
        reply = pb.CheckInResponse(
            fleet_time=to_timestamp(self.fleet_ms()),
            next_poll_after=Duration(seconds=self.next_poll_s),
            acknowledged_number=self.told.get(request.outbox_id, 0),
            manifest_wanted=not self.manifest_sha256 or request.manifest_sha256 != self.manifest_sha256,
        )
        self._direct(reply)
        self._attach(request, reply)
        return reply

    def _take(self, request: pb.CheckInRequest) -> None:
        durable = self.acknowledged.get(request.outbox_id, 0)
        if request.oldest_number > durable + 1:
            durable = request.oldest_number - 1
        for event in request.events:
            if event.number != durable + 1:
                continue
            durable += 1
            if self.offer is not None and event.attempt_id == self.offer.attempt_id and event.kind in ENDS:
                self.offer.over = True
        self.acknowledged[request.outbox_id] = durable
        if self.acknowledge:
            self.told[request.outbox_id] = durable

    def _direct(self, reply: pb.CheckInResponse) -> None:
        if self.withdraw:
            reply.directive.withdraw.attempt_id = self.withdraw
            reply.directive.withdraw.reason = "the rollout was aborted or halted"
        elif self.offer is not None and not self.offer.over:
            install = reply.directive.install
            install.attempt_id = self.offer.attempt_id
            install.rollout_id = self.offer.attempt_id.partition(".")[0]
            install.release = self.offer.release
            install.state = ATTEMPT_STATE_OFFERED
            install.image_base_urls.extend(self.base_urls)
            install.consent = self.offer.consent
            install.preconditions.CopyFrom(self.offer.preconditions)
            install.notes = self.offer.notes
            if self.offer.offline_permit_s:
                install.offline_permit.FromSeconds(self.offer.offline_permit_s)
        elif self.diagnose:
            reply.directive.diagnose.SetInParent()
        else:
            reply.directive.none.SetInParent()

    def _attach(self, request: pb.CheckInRequest, reply: pb.CheckInResponse) -> None:
        bundle = self.bundle
        if bundle is None:
            return
        if bundle.insist or request.director_versions.timestamp < version_in(bundle.director["timestamp.json"]):
            for name, content in bundle.director.items():
                reply.metadata.add(repository=pb.REPOSITORY_DIRECTOR, name=name, content=content)
        if reply.directive.WhichOneof("kind") != "install":
            return
        held = request.image_versions
        versions = {"timestamp": held.timestamp, "snapshot": held.snapshot, "targets": held.targets, "root": held.root}
        for name, content in bundle.image.items():
            role = name.removesuffix(".json").rpartition(".")[2]
            if bundle.insist or version_in(content) > versions[role]:
                reply.metadata.add(repository=pb.REPOSITORY_IMAGE, name=name, content=content)

    def fetch(self, request: pb.FetchMetadataRequest) -> pb.FetchMetadataResponse | None:
        """Exact bytes by name; None: one of them does not exist."""
        bundle = self.bundle
        if bundle is None:
            return None
        files = bundle.director if request.repository == pb.REPOSITORY_DIRECTOR else bundle.image
        if any(name not in files for name in request.names):
            return None
        reply = pb.FetchMetadataResponse()
        for name in request.names:
            reply.files.add(repository=request.repository, name=name, content=files[name])
        return reply

    def authorize(self, request: pb.AuthorizeInstallRequest) -> pb.AuthorizeInstallResponse:
        """Answer at the point of no return."""
        reply = pb.AuthorizeInstallResponse(fleet_time=to_timestamp(self.fleet_ms()))
        refused = self._refusal(request)
        if refused is None:
            assert self.offer is not None, "an unknown attempt was refused"
            self.offer.permitted = True
            reply.permit.attempt_id = request.attempt_id
            reply.permit.valid_for.FromMilliseconds(round(self.permit_s * 1000))
            return reply
        reply.refusal.reason = refused.reason
        reply.refusal.message = f"refused: {refused.reason}"
        if refused.retry_after_s is not None:
            reply.refusal.retry_after.FromMilliseconds(round(refused.retry_after_s * 1000))
        return reply

    def _refusal(self, request: pb.AuthorizeInstallRequest) -> Refused | None:
        if self.offer is None or request.attempt_id != self.offer.attempt_id:
            return Refused("unknown_attempt", None)
        if self.offer.over or self.withdraw == request.attempt_id:
            return Refused("attempt_over", None)
        return self.refuse(request)

    def submit(self, request: pb.SubmitManifestRequest) -> pb.SubmitManifestResponse:
        """Verify and keep a manifest.

        Raises:
            ManifestRefusedError: it does not verify.
        """
        if sha256(request.manifest).hexdigest() != self.manifest_sha256:
            self._verify(request.manifest)
        reply = pb.SubmitManifestResponse(manifest_sha256=self.manifest_sha256)
        if self.offer is not None and self.offer.succeeded:
            reply.installed_release = self.offer.release
        return reply

    def _verify(self, content: bytes) -> None:
        # A server that tells a time of the past judges what is true by the latest time that it told.
        self.latest_ms = max(self.latest_ms, self.fleet_ms())
        try:
            manifest = verify_manifest(
                content,
                vehicle_id=self.vehicle.vehicle_id,
                ecus=self.vehicle.inventory,
                counter_above=self.manifests[-1].counter if self.manifests else 0,
                now=datetime.fromtimestamp(self.latest_ms // 1000, tz=UTC),
            )
        except VerificationError as error:
            self.refused_manifests.append(f"{error.code.value}: {error.message}")
            raise ManifestRefusedError(error.message) from error
        self.manifests.append(manifest)
        self.manifest_sha256 = manifest.sha256
        self.proven.append((machine_ms(), frozenset(report.sha256 for report in manifest.reports)))
        if self.offer is not None and self.runs(self.offer):
            self.offer.over = self.offer.succeeded = True

    def runs(self, offer: Offer) -> bool:
        """Whether the last manifest proves what `offer` assigns, on every unit."""
        if not self.manifests:
            return False
        running = {report.ecu_serial: report.sha256 for report in self.manifests[-1].reports}
        return all(running[serial] == image.sha256 for image in offer.images for serial in image.ecu_serials)
