"""A small orchestrator on real sockets for tests: enrolment and vehicle ports, images by range, real signatures.

What it decides comes from one pure `FakeOrchestrator` a vehicle; keys, metadata and manifests are `signing`'s own.
"""

from __future__ import annotations

import csv
import io
import json
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from aiohttp import web
from google.protobuf.duration_pb2 import Duration
from outrider.v1 import enrollment_pb2, vehicle_pb2
from outrider.v1.enrollment_pb2_grpc import EnrollmentServiceServicer, add_EnrollmentServiceServicer_to_server
from outrider.v1.vehicle_pb2_grpc import VehicleServiceServicer, add_VehicleServiceServicer_to_server

from agent_sim.actions import AuthorizeCall
from agent_sim.clock import machine_ms
from agent_sim.ecu import WantedImage
from agent_sim.messages import (
    Conditions,
    Diagnostic,
    Event,
    EventKind,
    InstallDirective,
    Link,
    MetadataVersions,
    Poll,
    Severity,
    WithdrawDirective,
)
from agent_sim.wire import from_timestamp, to_timestamp
from signing.ceremony import DataFolder, initialise
from signing.director import AssignedImage, Assignment, DirectorSigners, DirectorVersions, director_files
from signing.errors import VerificationError
from signing.image_repo import ImageRepository, NewImage, TargetInfo
from signing.manifest import InventoryEcu, verify_manifest
from signing.pki import Authority, identity_of
from tests.agent_sim.fake_orchestrator import FakeOrchestrator

TRUST_DOMAIN = "fleet.test"
ORIGIN = datetime(2030, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def machine_now() -> datetime:
    """What TLS judges certificates by."""
    return datetime.now(tz=UTC)  # noqa: TID251 - TLS asks the machine's date


@dataclass
class Served:
    """One vehicle as the orchestrator knows it."""

    ecus: list[InventoryEcu]
    hardware_ids: dict[str, str]
    orchestrator: FakeOrchestrator = field(default_factory=FakeOrchestrator)
    director_version: int = 1
    assigned: tuple[AssignedImage, ...] = ()
    signed: tuple[int, dict[str, bytes]] = (0, {})
    """Version and Director files as they were signed once: who fetches one by one must get files that fit."""


class WireOrchestrator(VehicleServiceServicer, EnrollmentServiceServicer):
    """Serves a fleet."""

    def __init__(self, folder: Path, fleet_csv: str, *, scale: float) -> None:
        self.data: DataFolder = initialise(
            folder, trust_domain=TRUST_DOMAIN, now=machine_now(), fleet_now=ORIGIN - timedelta(hours=1)
        )
        self.repository = ImageRepository(self.data.image_repo)
        self.scale = scale
        self.vehicles: dict[str, Served] = {}
        self.tokens: dict[str, str] = {}
        self.calls: list[tuple[str, str]] = []
        self.heard_at: defaultdict[str, list[int]] = defaultdict(list)
        """Fleet time of each call of a vehicle."""
        self.ranges: list[str] = []
        self.unavailable = 0
        """So many calls from now on are answered UNAVAILABLE."""
        self.first_life = DAY
        """Of certificates by enrolment; those by renewal live for a day."""
        self.lost_renewals = 0
        """So many renewals from now on are done, but the answer is lost."""
        self.renewal_requests: list[bytes] = []
        self.withholds_metadata = False
        """Polls bring no metadata: whoever wants it must ask for it."""
        self.images_url = ""
        self.signers = DirectorSigners.load(self.data.director_keys)
        self._started_ms = machine_ms()
        for row in csv.DictReader(io.StringIO(fleet_csv)):
            served = self.vehicles.setdefault(row["vehicle_id"], Served([], {}))
            served.ecus.append(InventoryEcu(row["ecu_serial"], row["public_key"], row["primary"] == "true"))
            served.hardware_ids[row["ecu_serial"]] = row["hardware_id"]
            self.tokens[row["vehicle_id"]] = f"token-{row['vehicle_id']}"

    def fleet_ms(self) -> int:
        elapsed_ms = machine_ms() - self._started_ms
        return round(ORIGIN.timestamp() * 1000 + elapsed_ms * self.scale)

    def fleet_now(self) -> datetime:
        return datetime.fromtimestamp(self.fleet_ms() // 1000, tz=UTC)

    def offer(self, release: str, images: Sequence[NewImage], vehicle_ids: Sequence[str]) -> None:
        """Publish images and assign them to vehicles."""
        infos = self.repository.publish(images, self.data.image_keys, self.fleet_now())
        for vehicle_id in vehicle_ids:
            served = self.vehicles[vehicle_id]
            served.assigned = tuple(_assigned(info, served) for info in infos if _serials(info, served))
            served.director_version += 1
            served.orchestrator.images = tuple(
                WantedImage(i.path, i.length, i.sha256, i.hardware_id, i.release_counter, i.ecu_serials)
                for i in served.assigned
            )
            served.orchestrator.release = release
            served.orchestrator.attempt_id = f"to-{release}.{vehicle_id}.1"

    async def _served(self, method: str, context: Any) -> tuple[str, Served]:
        (pem,) = context.auth_context()["x509_pem_cert"]
        vehicle_id = identity_of(pem, trust_domain=TRUST_DOMAIN).name
        self.calls.append((vehicle_id, method))
        self.heard_at[vehicle_id].append(self.fleet_ms())
        if self.unavailable:
            self.unavailable -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "test")
        return vehicle_id, self.vehicles[vehicle_id]

    async def Enroll(self, request: Any, context: Any) -> enrollment_pb2.EnrollResponse:
        if self.tokens.get(request.vehicle_id) != request.token:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "token unknown")
        chain = Authority.load(self.data.authorities, "vehicle").issue_vehicle(
            request.csr,
            trust_domain=TRUST_DOMAIN,
            vehicle_id=request.vehicle_id,
            now=machine_now(),
            life=self.first_life,
        )
        server_ca = Authority.load(self.data.authorities, "server").certificate_pem
        return enrollment_pb2.EnrollResponse(certificate_chain=chain, server_ca=server_ca)

    async def CheckIn(self, request: Any, context: Any) -> vehicle_pb2.CheckInResponse:
        vehicle_id, served = await self._served("CheckIn", context)
        served.orchestrator.next_poll_after_ms = 3_600_000
        reply = served.orchestrator.check_in(_poll(request))
        response = vehicle_pb2.CheckInResponse(
            fleet_time=to_timestamp(self.fleet_ms()),
            next_poll_after=Duration(seconds=reply.next_poll_after_ms // 1000),
            acknowledged_number=reply.acknowledged_number,
            manifest_wanted=reply.manifest_wanted,
        )
        match reply.directive:
            case InstallDirective() as install:
                response.directive.install.attempt_id = install.attempt_id
                response.directive.install.release = install.release
                response.directive.install.image_base_urls.append(self.images_url)
                response.directive.install.consent = vehicle_pb2.ConsentPolicy.Value(
                    f"CONSENT_POLICY_{install.consent.name}"
                )
                wanted = install.preconditions
                response.directive.install.preconditions.CopyFrom(
                    vehicle_pb2.Preconditions(
                        unmetered=wanted.unmetered,
                        parked=wanted.parked,
                        battery_percent_min=wanted.battery_percent_min,
                        storage_free_bytes_min=wanted.storage_free_bytes_min,
                        link_types=[vehicle_pb2.LinkType.Value(f"LINK_TYPE_{name.upper()}") for name in wanted.links],
                    )
                )
                if not self.withholds_metadata:
                    response.metadata.extend(self.metadata(vehicle_id, served))
            case WithdrawDirective(attempt_id=attempt_id):
                response.directive.withdraw.attempt_id = attempt_id
        return response

    def metadata(self, vehicle_id: str, served: Served) -> list[vehicle_pb2.MetadataFile]:
        version = served.director_version
        if served.signed[0] != version:
            now = self.fleet_now()
            versions = DirectorVersions(version, now, version, now)
            files = director_files(self.signers, Assignment(vehicle_id, served.assigned), versions)
            served.signed = (version, dict(files))
        files = served.signed[1]
        found = [
            vehicle_pb2.MetadataFile(repository=vehicle_pb2.REPOSITORY_DIRECTOR, name=name, content=content)
            for name, content in files.items()
        ]
        versions = self.repository.versions()
        names = ("timestamp.json", f"{versions.snapshot}.snapshot.json", f"{versions.targets}.targets.json")
        for name in names:
            content = self.repository.metadata_file(name)
            found.append(vehicle_pb2.MetadataFile(repository=vehicle_pb2.REPOSITORY_IMAGE, name=name, content=content))
        return found

    async def FetchMetadata(self, request: Any, context: Any) -> vehicle_pb2.FetchMetadataResponse:
        vehicle_id, served = await self._served("FetchMetadata", context)
        current = {(file.repository, file.name): file for file in self.metadata(vehicle_id, served)}
        wanted = [(request.repository, name) for name in request.names]
        if any(key not in current for key in wanted):
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such file")
        return vehicle_pb2.FetchMetadataResponse(files=[current[key] for key in wanted])

    async def RenewCertificate(self, request: Any, context: Any) -> vehicle_pb2.RenewCertificateResponse:
        vehicle_id, _ = await self._served("RenewCertificate", context)
        self.renewal_requests.append(request.csr)
        if self.lost_renewals:
            self.lost_renewals -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the answer is lost")
        chain = Authority.load(self.data.authorities, "vehicle").issue_vehicle(
            request.csr, trust_domain=TRUST_DOMAIN, vehicle_id=vehicle_id, now=machine_now(), life=DAY
        )
        server_ca = Authority.load(self.data.authorities, "server").certificate_pem
        return vehicle_pb2.RenewCertificateResponse(certificate_chain=chain, server_ca=server_ca)

    async def SubmitManifest(self, request: Any, context: Any) -> vehicle_pb2.SubmitManifestResponse:
        vehicle_id, served = await self._served("SubmitManifest", context)
        digest = sha256(request.manifest).hexdigest()
        if digest == served.orchestrator.manifest_sha256:
            return vehicle_pb2.SubmitManifestResponse(manifest_sha256=digest)
        last = served.orchestrator.manifests[-1].counter if served.orchestrator.manifests else 0
        try:
            manifest = verify_manifest(
                request.manifest, vehicle_id=vehicle_id, ecus=served.ecus, counter_above=last, now=self.fleet_now()
            )
        except VerificationError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        running = {report.ecu_serial: report.sha256 for report in manifest.reports}
        served.orchestrator.accept(request.manifest, manifest, running)
        return vehicle_pb2.SubmitManifestResponse(manifest_sha256=manifest.sha256)

    async def AuthorizeInstall(self, request: Any, context: Any) -> vehicle_pb2.AuthorizeInstallResponse:
        _, served = await self._served("AuthorizeInstall", context)
        asked = AuthorizeCall(0, request.attempt_id, _conditions(request.conditions), request.consented)
        reply = served.orchestrator.authorize(asked)
        response = vehicle_pb2.AuthorizeInstallResponse(fleet_time=to_timestamp(self.fleet_ms()))
        if reply.permitted:
            response.permit.attempt_id = reply.attempt_id
            response.permit.valid_for.FromMilliseconds(reply.valid_for_ms)
        else:
            response.refusal.reason = reply.reason
            if reply.retry_after_ms is not None:
                response.refusal.retry_after.FromMilliseconds(reply.retry_after_ms)
        return response

    async def serve_image(self, request: web.Request) -> web.StreamResponse:
        self.ranges.append(request.headers.get("Range", ""))
        return web.FileResponse(self.data.image_repo / "targets" / request.match_info["name"])


def _serials(info: TargetInfo, served: Served) -> tuple[str, ...]:
    return tuple(serial for serial, hardware_id in served.hardware_ids.items() if hardware_id == info.hardware_id)


def _assigned(info: TargetInfo, served: Served) -> AssignedImage:
    return AssignedImage(
        path=info.path,
        length=info.length,
        sha256=info.sha256,
        hardware_id=info.hardware_id,
        release_counter=info.release_counter,
        ecu_serials=_serials(info, served),
    )


def _poll(request: Any) -> Poll:
    names = {vehicle_pb2.EventKind.Value(f"EVENT_KIND_{kind.name}"): kind for kind in EventKind}
    events = tuple(
        Event(event.number, event.attempt_id, names[event.kind], from_timestamp(event.event_time), event.failure_code)
        for event in request.events
    )
    director, image = (
        MetadataVersions(versions.root, versions.timestamp, versions.snapshot, versions.targets)
        for versions in (request.director_versions, request.image_versions)
    )
    severities = {vehicle_pb2.Severity.Value(f"SEVERITY_{severity.name}"): severity for severity in Severity}
    return Poll(
        outbox_id=request.outbox_id,
        events=events,
        oldest_number=request.oldest_number,
        manifest_sha256=request.manifest_sha256,
        director=director,
        image=image,
        conditions=_conditions(request.conditions),
        diagnostics=tuple(
            Diagnostic(ill.code, ill.ecu_serial, severities[ill.severity], from_timestamp(ill.first_seen_time))
            for ill in request.diagnostics
        ),
    )


def _conditions(told: Any) -> Conditions:
    links = {vehicle_pb2.LinkType.Value(f"LINK_TYPE_{link.name}"): link for link in Link}
    return Conditions(
        link=links[told.link_type],
        signal_percent=told.signal_percent,
        metered=told.metered,
        battery_percent=told.battery_percent,
        parked=told.parked,
        storage_free_bytes=told.storage_free_bytes,
    )


@asynccontextmanager
async def serving(orchestrator: WireOrchestrator, folder: Path) -> AsyncIterator[Path]:
    """Serve on free ports; yields the endpoints.json, with tokens.jsonl beside it."""
    data = orchestrator.data
    authority = Authority.load(data.authorities, "server")
    chain, key = authority.issue_server(names=["localhost", "127.0.0.1"], now=machine_now(), life=DAY)
    vehicle_ca = Authority.load(data.authorities, "vehicle").certificate_pem
    server = grpc.aio.server()
    add_VehicleServiceServicer_to_server(orchestrator, server)
    add_EnrollmentServiceServicer_to_server(orchestrator, server)
    mutual = grpc.ssl_server_credentials([(key, chain)], vehicle_ca, require_client_auth=True)
    vehicles = server.add_secure_port("127.0.0.1:0", mutual)
    enrollment = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)]))
    await server.start()
    runner = await _serve_images(orchestrator, folder, chain, key)
    endpoints = folder / "endpoints.json"
    endpoints.write_text(json.dumps({"enrollment": f"127.0.0.1:{enrollment}", "vehicles": f"127.0.0.1:{vehicles}"}))
    tokens = [json.dumps({"vehicle_id": name, "token": token}) for name, token in orchestrator.tokens.items()]
    (folder / "tokens.jsonl").write_text("\n".join(tokens))
    try:
        yield endpoints
    finally:
        await server.stop(None)
        await runner.cleanup()


async def _serve_images(orchestrator: WireOrchestrator, folder: Path, chain: bytes, key: bytes) -> web.AppRunner:
    (folder / "server.crt").write_bytes(chain)
    (folder / "server.key").write_bytes(key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    app = web.Application()
    app.router.add_get("/targets/{name}", orchestrator.serve_image)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    orchestrator.images_url = f"https://127.0.0.1:{port}/targets"
    return runner
