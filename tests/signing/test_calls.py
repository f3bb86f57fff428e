"""A vehicle's calls against a real server: what it shows, when it may call, and what it makes of refusals."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from outrider.v1 import enrollment_pb2, vehicle_pb2
from outrider.v1.enrollment_pb2_grpc import EnrollmentServiceServicer, add_EnrollmentServiceServicer_to_server
from outrider.v1.vehicle_pb2_grpc import VehicleServiceServicer, add_VehicleServiceServicer_to_server

from signing.calls import Calls
from signing.errors import CallFailedError, KeyFileError
from signing.pki import Authority

NOW = datetime.now(UTC).replace(microsecond=0)  # noqa: TID251 - TLS judges certificates by the machine's clock
DAY = timedelta(days=1)
SCALE = 60


class Servicer(EnrollmentServiceServicer, VehicleServiceServicer):
    """Both ports of an orchestrator, which answers as it is told to."""

    def __init__(self, vehicles: Authority, servers: Authority) -> None:
        self.vehicles = vehicles
        self.servers = servers
        self.life = 90 * DAY
        self.fault: Callable[[Any], None] | None = None
        self.calls: list[tuple[str, Any, bytes]] = []

    def _seen(self, method: str, request: Any, context: Any) -> None:
        shown = context.auth_context().get("x509_pem_cert", [b""])[0]
        self.calls.append((method, request, shown))
        if self.fault:
            self.fault(context)

    def _certificate(self, csr: bytes) -> bytes:
        return self.vehicles.issue_vehicle(
            csr, trust_domain="fleet.example", vehicle_id="veh-1", now=NOW, life=self.life
        )

    def Enroll(self, request: Any, context: Any) -> Any:
        self._seen("Enroll", request, context)
        return enrollment_pb2.EnrollResponse(
            certificate_chain=self._certificate(request.csr), server_ca=self.servers.certificate_pem
        )

    def RenewCertificate(self, request: Any, context: Any) -> Any:
        self._seen("RenewCertificate", request, context)
        return vehicle_pb2.RenewCertificateResponse(
            certificate_chain=self._certificate(request.csr), server_ca=self.servers.certificate_pem
        )

    def CheckIn(self, request: Any, context: Any) -> Any:
        self._seen("CheckIn", request, context)
        context.set_trailing_metadata([("outrider-fleet-time-ms", "1900000000000")])
        return vehicle_pb2.CheckInResponse()

    def SubmitManifest(self, request: Any, context: Any) -> Any:
        self._seen("SubmitManifest", request, context)
        return vehicle_pb2.SubmitManifestResponse()

    def FetchMetadata(self, request: Any, context: Any) -> Any:
        self._seen("FetchMetadata", request, context)
        return vehicle_pb2.FetchMetadataResponse(
            files=[vehicle_pb2.MetadataFile(repository=request.repository, name=request.names[0], content=b"signed")]
        )


def refusing(code: grpc.StatusCode, reason: str = "", *, retry_s: float = 0) -> Callable[[Any], None]:
    """A refusal as the orchestrator makes them."""
    info = any_pb2.Any()
    info.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="outrider"))
    details = [info]
    if retry_s:
        details.append(any_pb2.Any())
        details[-1].Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=int(retry_s))))
    status = status_pb2.Status(code=code.value[0], message="no", details=details)

    def refuse(context: Any) -> None:
        context.set_trailing_metadata([("grpc-status-details-bin", status.SerializeToString())])
        context.abort(code, "no")

    return refuse


class Bench:
    """A vehicle, its server, and its clock in hand."""

    def __init__(self, folder: Path) -> None:
        servers, vehicles = Authority.create("servers", NOW, DAY * 3650), Authority.create("vehicles", NOW, DAY * 3650)
        self.servicer, self.folder = Servicer(vehicles, servers), folder
        self.now_s, self.today = 1000.0, NOW
        (folder / "provisioning").mkdir()
        (folder / "state").mkdir()
        (folder / "provisioning" / "enrolment-ca.pem").write_bytes(servers.certificate_pem)
        (folder / "vehicle.json").write_text(json.dumps({"vehicle_id": "veh-1", "token": "secret"}))
        self.server = grpc.server(ThreadPoolExecutor(2))
        add_EnrollmentServiceServicer_to_server(self.servicer, self.server)
        add_VehicleServiceServicer_to_server(self.servicer, self.server)
        chain, key = servers.issue_server(names=["127.0.0.1"], now=NOW, life=DAY * 365)
        anybody = grpc.ssl_server_credentials([(key, chain)])
        mutual = grpc.ssl_server_credentials([(key, chain)], vehicles.certificate_pem, require_client_auth=True)
        ports = {
            "enrollment": self.server.add_secure_port("127.0.0.1:0", anybody),
            "vehicles": self.server.add_secure_port("127.0.0.1:0", mutual),
        }
        self.where({name: f"127.0.0.1:{port}" for name, port in ports.items()} | {"scale": SCALE})
        self.server.start()
        self.restart()

    def where(self, endpoints: dict[str, Any]) -> None:
        self.endpoints = endpoints
        (self.folder / "endpoints.json").write_text(json.dumps(endpoints))

    def restart(self) -> None:
        self.calls = Calls(
            self.folder,
            self.folder / "state",
            5000,
            now_s=lambda: self.now_s,
            today=lambda: self.today,
            rng=random.Random(7),
        )

    def poll(self) -> Any:
        return self.calls.call("CheckIn", vehicle_pb2.CheckInRequest())

    def methods(self) -> list[str]:
        return [method for method, _, _ in self.servicer.calls]

    def waits_s(self) -> float:
        """How long no call may be made, found by going forward."""
        begins = self.now_s
        while not self.calls.due():
            self.now_s += 0.01
        return self.now_s - begins


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A vehicle that never enrolled."""
    made = Bench(tmp_path)
    yield made
    made.server.stop(None).wait()


def test_the_first_call_enrols(bench: Bench):
    """Once; the token goes to the enrolment port only, and what was got is shown from then on."""
    bench.poll()
    bench.poll()
    bench.restart()
    bench.poll()
    assert bench.methods() == ["Enroll", "CheckIn", "CheckIn", "CheckIn"]
    assert (bench.servicer.calls[0][1].token, bench.servicer.calls[0][2]) == ("secret", b"")
    assert len({shown for _, _, shown in bench.servicer.calls[1:]}) == 1


def test_a_lost_enrolment_is_repeated_with_the_same_request(bench: Bench):
    """The token may be spent: only the very same bytes are answered again."""
    bench.servicer.fault = refusing(grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(CallFailedError, match="UNAVAILABLE"):
        bench.poll()
    bench.restart()
    bench.servicer.fault = None
    bench.poll()
    first, second = (request.csr for method, request, _ in bench.servicer.calls if method == "Enroll")
    assert first == second


def test_a_certificate_is_renewed_by_the_call_that_finds_it_due(bench: Bench):
    """The call itself then shows the new one."""
    bench.poll()
    bench.today = NOW + 61 * DAY
    bench.servicer.life = 365 * DAY
    bench.poll()
    bench.poll()
    assert bench.methods() == ["Enroll", "CheckIn", "RenewCertificate", "CheckIn", "CheckIn"]
    _, old, asked, new, again = (shown for _, _, shown in bench.servicer.calls)
    assert old == asked != new == again


def test_an_outage_right_after_a_renewal_does_not_renew_again(bench: Bench):
    """The old certificate may get the first answer after it: that is no reason to ask for a third."""
    bench.poll()
    bench.today = NOW + 61 * DAY
    bench.servicer.life = 365 * DAY

    def outage(context: Any) -> None:
        if bench.methods()[-1] == "CheckIn":
            refusing(grpc.StatusCode.UNAVAILABLE)(context)

    bench.servicer.fault = outage
    for _ in range(3):
        with pytest.raises(CallFailedError):
            bench.poll()
    bench.servicer.fault = None
    bench.poll()
    bench.poll()
    assert bench.methods().count("RenewCertificate") == 1
    newest = bench.servicer.calls[-1][2]
    assert newest != bench.servicer.calls[1][2], "the new one is shown in the end"


def test_a_new_certificate_that_is_refused_does_not_lock_the_vehicle_out(bench: Bench):
    """The next call shows the old one, and is answered."""
    bench.poll()
    bench.today = NOW + 61 * DAY
    bench.servicer.life = 365 * DAY
    old = bench.servicer.calls[-1][2]

    def refuse_new(context: Any) -> None:
        if bench.servicer.calls[-1][2] != old:
            refusing(grpc.StatusCode.PERMISSION_DENIED, "IDENTITY_MALFORMED")(context)

    bench.servicer.fault = refuse_new
    with pytest.raises(CallFailedError, match="IDENTITY_MALFORMED"):
        bench.poll()
    bench.poll()
    assert bench.servicer.calls[-1][2] == old


def test_fleet_time_goes_on_from_the_last_answer(bench: Bench):
    """As fast as endpoints.json says; before any answer, from what was remembered."""
    assert bench.calls.fleet_ms() == 5000
    bench.poll()
    bench.now_s += 2
    assert bench.calls.fleet_ms() == 1_900_000_000_000 + 2000 * SCALE


def test_failed_calls_back_off_and_an_answer_ends_it(bench: Bench):
    """uniform(0, min(30 min, 5 s x 2^n)) of fleet time: no wait is longer, and later ones are long."""
    bench.poll()
    bench.servicer.fault = refusing(grpc.StatusCode.UNAVAILABLE)
    waits = []
    for _ in range(12):
        with pytest.raises(CallFailedError):
            bench.poll()
        waits.append(bench.waits_s() * SCALE)
    assert all(wait <= min(1800, 5 * 2**n) + 1 for n, wait in enumerate(waits))
    assert max(waits[8:]) > 300
    bench.servicer.fault = None
    bench.poll()
    assert bench.calls.due()
    bench.servicer.fault = refusing(grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(CallFailedError):
        bench.poll()
    assert bench.waits_s() * SCALE <= 6


def test_retry_info_is_waited_for_in_machine_time(bench: Bench):
    """Not scaled, and up to half as long again, so that those who were told the same do not come together."""
    bench.poll()
    bench.servicer.fault = refusing(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", retry_s=40)
    with pytest.raises(CallFailedError) as caught:
        bench.poll()
    assert (caught.value.code, caught.value.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
    assert 40 <= bench.waits_s() <= 60.1


def test_who_may_not_waits_longest_at_once(bench: Bench):
    """A refused token or a revoked vehicle does not insist."""
    bench.servicer.fault = refusing(grpc.StatusCode.PERMISSION_DENIED, "TOKEN_REFUSED")
    with pytest.raises(CallFailedError):
        bench.poll()
    assert bench.waits_s() * SCALE > 60, "another first failure waits 5 s at most"


def test_metadata_that_is_nowhere_is_an_answer_and_an_outage_is_not(bench: Bench):
    """Only METADATA_UNKNOWN says that there is no such file; everything else says nothing."""
    assert bench.calls.metadata("image", "timestamp.json") == b"signed"
    assert bench.servicer.calls[-1][1].repository == vehicle_pb2.REPOSITORY_IMAGE
    bench.servicer.fault = refusing(grpc.StatusCode.NOT_FOUND, "METADATA_UNKNOWN")
    assert bench.calls.metadata("director", "7.snapshot.json") is None
    assert bench.calls.due()
    bench.servicer.fault = refusing(grpc.StatusCode.NOT_FOUND, "RELEASE_UNKNOWN")
    with pytest.raises(CallFailedError, match="RELEASE_UNKNOWN"):
        bench.calls.metadata("director", "7.snapshot.json")


def test_a_manifest_is_taken_refused_or_unknown(bench: Bench):
    """Refused for good, a fresh one is due; without an answer the same bytes are."""
    assert bench.calls.hand_in(b"manifest")
    bench.servicer.fault = refusing(grpc.StatusCode.INVALID_ARGUMENT, "REPLAY")
    assert not bench.calls.hand_in(b"manifest")
    assert not bench.calls.due()
    bench.servicer.fault = refusing(grpc.StatusCode.UNAVAILABLE, "RELEASE_NOT_YET_KNOWN")
    with pytest.raises(CallFailedError):
        bench.calls.hand_in(b"manifest")


def test_a_server_that_moved_is_found(bench: Bench):
    """Endpoints are read for each call: nobody has to restart the vehicle."""
    true = bench.endpoints
    bench.where(true | {"enrollment": "127.0.0.1:1"})
    with pytest.raises(CallFailedError, match="UNAVAILABLE"):
        bench.poll()
    bench.where(true)
    bench.poll()


def test_waits_keep_to_the_contract(bench: Bench):
    """P-POLL-1, P-POLL-7 and P-PERMIT-5, drawn often enough to see both ends."""
    now = bench.now_s
    polls = [(bench.calls.next_poll_at(3600) - now) * SCALE for _ in range(300)]
    assert 1800 <= min(polls) < 2000
    assert 5200 < max(polls) <= 5400
    assert (bench.calls.next_poll_at(1) - now) * SCALE >= 30
    assert (bench.calls.next_poll_at(10**9) - now) * SCALE <= 1.5 * 86_400
    assert bench.calls.first_poll_at(news=True) == now
    assert 0 <= (bench.calls.first_poll_at(news=False) - now) * SCALE <= 600
    asks = [(bench.calls.again_at(18_000) - now) * SCALE for _ in range(300)]
    assert min(asks) >= 18_000
    assert 18_500 < max(asks) <= 18_600


def test_a_folder_that_lacks_something_is_said(bench: Bench):
    """A factory forgot a file: the message names it."""
    (bench.folder / "endpoints.json").unlink()
    with pytest.raises(KeyFileError, match=r"endpoints\.json"):
        bench.restart()
