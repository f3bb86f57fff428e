"""A minimal vehicle for tests of the edge: keys, enrolment, calls over mutual TLS, manifests; and fleets of them.

It does what it is told, right or wrong: nothing here checks what a correct agent would check, unless asked to. It
shares no code with `agent_sim`, so that a mistake there cannot hide one in the orchestrator.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric import ec
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from outrider.v1 import enrollment_pb2, enrollment_pb2_grpc, fleet_pb2, vehicle_pb2, vehicle_pb2_grpc
from securesystemslib.signer import CryptoSigner

from orchestrator.cli.local import certificate_time
from signing.keys import generate_ecu_key, public_key_base64
from signing.manifest import EcuReport, sign_manifest, sign_report
from signing.pki import Authority, certificate_request, key_pem, new_key
from signing.verify import InstalledImage, PrimaryVerifier, VerifiedBundle, VerifiedImage
from tests.processes import CALL_TIMEOUT_S, PRIMARY_HARDWARE, SECONDARY_HARDWARE, TRUST_DOMAIN, Installation, eventually

CSV_HEADER = "vehicle_id,model,hardware,region,cohort,tags,ecu_serial,hardware_id,primary,public_key"
FACTORY = VerifiedImage(
    path="factory.img", length=7, sha256="00" * 32, hardware_id="", release_counter=0, ecu_serials=()
)
"""What every control unit runs when it is new."""


@dataclass
class AVehicle:
    """One vehicle with a Primary and a Secondary."""

    vehicle_id: str
    model: str = "S"
    hardware: str = "gen2"
    region: str = "eu"
    cohort: str = "canary"
    tags: str = ""
    tls_key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    primary_key: CryptoSigner = field(default_factory=generate_ecu_key)
    secondary_key: CryptoSigner = field(default_factory=generate_ecu_key)
    outbox_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    certificate_chain: bytes = b""
    counter: int = 0
    """Of the last manifest."""
    next_event: int = 1
    runs: dict[str, VerifiedImage] = field(default_factory=dict)
    """Image by control unit."""
    fleet_time: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    """As the last answer said."""
    metadata: dict[tuple[str, str], bytes] = field(default_factory=dict)
    """Files that check-ins brought and no verification has seen yet."""
    stub: Any = None
    verifier: PrimaryVerifier | None = None

    @property
    def primary(self) -> str:
        """Serial of the Primary."""
        return f"{self.vehicle_id}-gw"

    @property
    def secondary(self) -> str:
        """Serial of the Secondary."""
        return f"{self.vehicle_id}-bcm"

    @property
    def keys(self) -> Mapping[str, CryptoSigner]:
        """Each control unit's own key."""
        return {self.primary: self.primary_key, self.secondary: self.secondary_key}

    def csv_rows(self) -> list[str]:
        """Its lines of a fleet CSV."""
        shared = f"{self.vehicle_id},{self.model},{self.hardware},{self.region},{self.cohort},{self.tags}"
        return [
            f"{shared},{self.primary},{PRIMARY_HARDWARE},true,{public_key_base64(self.primary_key)}",
            f"{shared},{self.secondary},{SECONDARY_HARDWARE},false,{public_key_base64(self.secondary_key)}",
        ]

    # -- identity -----------------------------------------------------------------------------------------------

    def enrol(self, installation: Installation, token: str) -> None:
        """Get a certificate for a token and connect."""
        stub = enrollment_pb2_grpc.EnrollmentServiceStub(installation.channel("enrollment"))
        request = enrollment_pb2.EnrollRequest(
            vehicle_id=self.vehicle_id, token=token, csr=certificate_request(self.tls_key)
        )
        self.certificate_chain = stub.Enroll(request, timeout=CALL_TIMEOUT_S).certificate_chain
        self.connect(installation)

    def connect(self, installation: Installation) -> None:
        """Connect with the certificate it has; anew after the server came back on other ports."""
        channel = installation.channel("vehicles", key_pem(self.tls_key), self.certificate_chain)
        self.stub = vehicle_pb2_grpc.VehicleServiceStub(channel)

    def provision(self, installation: Installation, folder: Path) -> None:
        """Put in what the factory puts in: the roots of trust."""
        roots = installation.data / "provisioning"
        self.verifier = PrimaryVerifier(
            folder,
            vehicle_id=self.vehicle_id,
            ecus={self.primary: PRIMARY_HARDWARE, self.secondary: SECONDARY_HARDWARE},
            director_root=(roots / "director-root.json").read_bytes(),
            image_root=(roots / "image-root.json").read_bytes(),
            durable=False,
        )

    # -- calls --------------------------------------------------------------------------------------------------

    def check_in(self, *events: vehicle_pb2.Event, **changes: Any) -> vehicle_pb2.CheckInResponse:
        """Poll, with these events and with any field changed."""
        request = vehicle_pb2.CheckInRequest(
            outbox_id=self.outbox_id, events=events, oldest_number=events[0].number if events else 0
        )
        if self.verifier is not None:
            for field_name, held in zip(("director_versions", "image_versions"), self.verifier.versions(), strict=True):
                getattr(request, field_name).CopyFrom(
                    vehicle_pb2.MetadataVersions(
                        root=held.root, timestamp=held.timestamp, snapshot=held.snapshot, targets=held.targets
                    )
                )
        request.MergeFrom(vehicle_pb2.CheckInRequest(**changes))
        response: vehicle_pb2.CheckInResponse = self.stub.CheckIn(request, timeout=CALL_TIMEOUT_S)
        self.fleet_time = response.fleet_time.ToDatetime(tzinfo=UTC)
        for file in response.metadata:
            repository = "director" if file.repository == vehicle_pb2.REPOSITORY_DIRECTOR else "image"
            self.metadata[repository, file.name] = file.content
        return response

    def event(self, attempt_id: str, kind: str, failure_code: str = "", **changes: Any) -> vehicle_pb2.Event:
        """The next numbered event, for example `event(attempt, "INSTALL_STARTED")`."""
        event = vehicle_pb2.Event(
            number=self.next_event,
            attempt_id=attempt_id,
            kind=vehicle_pb2.EventKind.Value(f"EVENT_KIND_{kind}"),
            failure_code=failure_code,
        )
        event.MergeFrom(vehicle_pb2.Event(**changes))
        self.next_event = event.number + 1
        return event

    def authorize(self, attempt_id: str) -> vehicle_pb2.AuthorizeInstallResponse:
        """Ask for a permit."""
        request = vehicle_pb2.AuthorizeInstallRequest(attempt_id=attempt_id)
        response: vehicle_pb2.AuthorizeInstallResponse = self.stub.AuthorizeInstall(request, timeout=CALL_TIMEOUT_S)
        return response

    def submit(self, manifest: bytes) -> vehicle_pb2.SubmitManifestResponse:
        """Hand in a manifest."""
        request = vehicle_pb2.SubmitManifestRequest(manifest=manifest)
        response: vehicle_pb2.SubmitManifestResponse = self.stub.SubmitManifest(request, timeout=CALL_TIMEOUT_S)
        return response

    def fetch(self, repository: str, *names: str) -> Mapping[str, bytes]:
        """Metadata files by name."""
        request = vehicle_pb2.FetchMetadataRequest(
            repository=vehicle_pb2.Repository.Value(f"REPOSITORY_{repository}"), names=names
        )
        return {file.name: file.content for file in self.stub.FetchMetadata(request, timeout=CALL_TIMEOUT_S).files}

    # -- what it runs -------------------------------------------------------------------------------------------

    def verify(self) -> VerifiedBundle:
        """Verify what check-ins brought, as a Primary has to."""
        assert self.verifier is not None, "provision it first"
        installed = {
            serial: InstalledImage(path=image.path, release_counter=image.release_counter)
            for serial, image in self.running.items()
        }
        bundle = self.verifier.verify(self.metadata, now=self.fleet_time.replace(microsecond=0), installed=installed)
        self.metadata.clear()
        return bundle

    @property
    def running(self) -> Mapping[str, VerifiedImage]:
        """Image by control unit, the factory's where nothing was installed."""
        return {serial: self.runs.get(serial, FACTORY) for serial in self.keys}

    def install(self, images: Sequence[VerifiedImage]) -> None:
        """Run these images from now on."""
        self.runs |= {serial: image for image in images for serial in image.ecu_serials}

    def report(self, serial: str, **changes: Any) -> EcuReport:
        """What a control unit says about itself, with any field changed."""
        image = self.running[serial]
        report = EcuReport(
            ecu_serial=serial,
            path=image.path,
            length=image.length,
            sha256=image.sha256,
            attack="",
            time=self.fleet_time.replace(microsecond=0),
            counter=self.counter,
        )
        return replace(report, **changes)

    def manifest(
        self,
        *,
        reports: Sequence[EcuReport] | None = None,
        keys: Mapping[str, CryptoSigner] | None = None,
        signer: CryptoSigner | None = None,
        vehicle_id: str = "",
    ) -> bytes:
        """The next manifest; by default a true one.

        Args:
            reports: instead of one true report a control unit.
            keys: instead of each control unit's own, by serial.
            signer: instead of the Primary's key.
            vehicle_id: instead of its own.
        """
        self.counter += 1
        keys = {**self.keys, **(keys or {})}
        chosen = [self.report(serial) for serial in self.keys] if reports is None else reports
        signed = [sign_report(report, keys[report.ecu_serial]) for report in chosen]
        return sign_manifest(vehicle_id or self.vehicle_id, self.primary, signed, signer or self.primary_key)

    def attest(self) -> vehicle_pb2.SubmitManifestResponse:
        """Hand in a true manifest."""
        return self.submit(self.manifest())


def issue(authorities: Path, vehicle: AVehicle, *, trust_domain: str = TRUST_DOMAIN) -> bytes:
    """A certificate for a vehicle straight from an authority, past enrolment."""
    return Authority.load(authorities, "vehicle").issue_vehicle(
        certificate_request(vehicle.tls_key),
        trust_domain=trust_domain,
        vehicle_id=vehicle.vehicle_id,
        now=certificate_time(),
        life=timedelta(days=1),
    )


def installing(response: vehicle_pb2.CheckInResponse) -> vehicle_pb2.InstallDirective:
    """The install directive of an answer that has to have one."""
    assert response.directive.WhichOneof("kind") == "install", response.directive
    return response.directive.install


def offered(vehicle: AVehicle) -> vehicle_pb2.InstallDirective:
    """Poll until the vehicle is told to install."""
    return eventually(lambda: installing(vehicle.check_in()), what=f"{vehicle.vehicle_id} is offered a release")


def fleet_csv(vehicles: Sequence[AVehicle]) -> str:
    """The CSV of some vehicles."""
    return "\n".join([CSV_HEADER, *(row for vehicle in vehicles for row in vehicle.csv_rows())]) + "\n"


def import_fleet(installation: Installation, vehicles: Sequence[AVehicle]) -> None:
    """Put vehicles into the inventory."""
    request = fleet_pb2.ImportVehiclesRequest(csv=fleet_csv(vehicles).encode(), reason="test")
    installation.api().fleet.ImportVehicles(request, timeout=CALL_TIMEOUT_S)


def tokens(installation: Installation, *vehicle_ids: str) -> Mapping[str, str]:
    """Fresh enrolment tokens by vehicle."""
    request = fleet_pb2.CreateEnrollmentTokensRequest(vehicle_ids=vehicle_ids, reason="test")
    response = installation.api().fleet.CreateEnrollmentTokens(request, timeout=CALL_TIMEOUT_S)
    return {token.vehicle_id: token.token for token in response.tokens}


def enrolled(installation: Installation, *vehicles: AVehicle) -> Sequence[AVehicle]:
    """Import these vehicles and enrol them."""
    import_fleet(installation, vehicles)
    given = tokens(installation, *(vehicle.vehicle_id for vehicle in vehicles))
    for vehicle in vehicles:
        vehicle.enrol(installation, given[vehicle.vehicle_id])
    return vehicles


@dataclass(frozen=True)
class Refusal:
    """What a failed call said."""

    code: grpc.StatusCode
    message: str
    reason: str
    """Of google.rpc.ErrorInfo; empty when there was none."""
    domain: str
    fields: Mapping[str, str]
    """Descriptions of google.rpc.BadRequest, by field."""


def refusal(error: grpc.RpcError) -> Refusal:
    """Take a failed call apart."""
    assert isinstance(error, grpc.Call)
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        detail.Unpack(info)
        detail.Unpack(bad_request)
    return Refusal(
        code=error.code(),
        message=error.details() or "",
        reason=info.reason,
        domain=info.domain,
        fields={violation.field: violation.description for violation in bad_request.field_violations},
    )
