"""Who gets through TLS, and to which port: three ports, three authorities, TLS 1.3."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message
from outrider.v1 import rollout_pb2, rollout_pb2_grpc, vehicle_pb2, vehicle_pb2_grpc

from orchestrator.cli.local import certificate_time
from signing.ceremony import initialise
from signing.pki import key_pem
from tests.processes import CALL_TIMEOUT_S, TRUST_DOMAIN, Installation, eventually, read_identity
from tests.vehicles import AVehicle, enrolled, issue, refusal

CHECK_IN = b"/outrider.v1.VehicleService/CheckIn"
DATA, HEADERS, SETTINGS = 0, 1, 4
END_STREAM, END_HEADERS, ACK = 1, 4, 1


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of another installation, of the same trust domain: names are equal, keys are not."""
    return initialise(tmp_path_factory.mktemp("strangers"), trust_domain=TRUST_DOMAIN, now=certificate_time()).path


def fails_at_tls(channel: grpc.Channel, port: str) -> bool:
    """Whether a call dies before anybody looked at it."""
    if port == "vehicles":
        call = vehicle_pb2_grpc.VehicleServiceStub(channel).CheckIn
        request: Message = vehicle_pb2.CheckInRequest(outbox_id="x")
    else:
        call = rollout_pb2_grpc.RolloutServiceStub(channel).ListRollouts
        request = rollout_pb2.ListRolloutsRequest()
    with pytest.raises(grpc.RpcError) as error:
        call(request, timeout=CALL_TIMEOUT_S)
    return refusal(error.value).code is grpc.StatusCode.UNAVAILABLE and refusal(error.value).domain == ""


def test_certificates_of_another_authority_are_refused(installation: Installation, strangers: Path) -> None:
    """A name is worth what its authority is worth."""
    vehicle = AVehicle("tls-stranger")
    chain = issue(strangers / "authorities", vehicle)
    assert fails_at_tls(installation.channel("vehicles", key_pem(vehicle.tls_key), chain), "vehicles")
    admin = read_identity(strangers / "operators" / "admin")
    assert fails_at_tls(installation.channel("operators", *admin), "operators")


@pytest.mark.uptane("D2")
def test_client_without_a_certificate_is_refused(installation: Installation) -> None:
    """Only enrolment is open to the unknown."""
    assert fails_at_tls(installation.channel("vehicles"), "vehicles")
    assert fails_at_tls(installation.channel("operators"), "operators")


def test_operators_and_vehicles_cannot_enter_by_each_others_port(installation: Installation) -> None:
    """A vehicle's key, of which there are millions in the field, must not open the operators' door."""
    (vehicle,) = enrolled(installation, AVehicle("tls-crossing"))
    admin = read_identity(installation.data / "operators" / "admin")
    assert fails_at_tls(installation.channel("vehicles", *admin), "vehicles")
    car = installation.channel("operators", key_pem(vehicle.tls_key), vehicle.certificate_chain)
    assert fails_at_tls(car, "operators")


def test_certificate_of_another_trust_domain_is_refused(installation: Installation) -> None:
    """One authority may serve several fleets: the name's domain says whose vehicle it is."""
    vehicle = AVehicle("tls-elsewhere")
    chain = issue(installation.data / "authorities", vehicle, trust_domain="elsewhere.example")
    vehicle.certificate_chain = chain
    vehicle.connect(installation)
    with pytest.raises(grpc.RpcError) as error:
        vehicle.check_in()
    answer = refusal(error.value)
    assert (answer.code, answer.reason) == (grpc.StatusCode.PERMISSION_DENIED, "IDENTITY_MALFORMED")


@pytest.mark.uptane("A20")
def test_vehicle_does_not_believe_a_server_of_another_authority(installation: Installation, strangers: Path) -> None:
    """Mutual means both ways: our own client tells a stranger from the server."""
    address = installation.endpoints["enrollment"]
    credentials = grpc.ssl_channel_credentials((strangers / "provisioning" / "enrolment-ca.pem").read_bytes())
    with grpc.secure_channel(address, credentials) as channel, pytest.raises(grpc.FutureTimeoutError):
        grpc.channel_ready_future(channel).result(timeout=1.0)


@pytest.mark.uptane("A20")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_less_than_tls_1_3_is_refused(installation: Installation, tmp_path: Path, version: ssl.TLSVersion) -> None:
    """GRPC cannot be told to refuse the handshake, so the edge must refuse the call."""
    (vehicle,) = enrolled(installation, AVehicle(f"tls-{version.name.lower().replace('_', '-')}"))
    before = installation.metric("outrider_refused_requests_total", reason="tls_too_old")
    with a_tls_line(installation, vehicle, tmp_path, version) as line:
        assert line.version() == version.name.replace("_", ".")
        answer = raw_check_in(line)

    def counted() -> float:
        return installation.metric("outrider_refused_requests_total", reason="tls_too_old") - before

    if version is ssl.TLSVersion.TLSv1_2:
        assert b"less than TLS 1.3" in answer
        eventually(lambda: counted() == 1, what="it is counted")
    else:
        assert b"less than TLS 1.3" not in answer
        assert b"MALFORMED" in answer or b"outbox_id" in answer, "the empty poll itself was judged"
        assert counted() == 0


@contextmanager
def a_tls_line(
    installation: Installation, vehicle: AVehicle, folder: Path, version: ssl.TLSVersion
) -> Iterator[ssl.SSLSocket]:
    """A connection to the vehicle port by exactly this version of TLS."""
    identity = folder / "vehicle.pem"
    identity.write_bytes(key_pem(vehicle.tls_key) + vehicle.certificate_chain)
    context = ssl.create_default_context(cadata=installation.server_ca.decode())
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(identity)
    context.set_alpn_protocols(["h2"])
    host, _, port = installation.endpoints["vehicles"].rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=CALL_TIMEOUT_S) as line,
        context.wrap_socket(line, server_hostname=host) as wrapped,
    ):
        assert wrapped.selected_alpn_protocol() == "h2"
        yield wrapped


def raw_check_in(line: ssl.SSLSocket) -> bytes:
    """An empty CheckIn over bare HTTP/2, since gRPC's own client only speaks the newest TLS; the trailers' bytes."""
    headers = {
        b":method": b"POST",
        b":scheme": b"https",
        b":path": CHECK_IN,
        b":authority": b"localhost",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
    }
    # Source: RFC 7541, Literal Header Field without Indexing, New Name; no Huffman coding.
    block = b"".join(b"\0" + bytes([len(name)]) + name + bytes([len(text)]) + text for name, text in headers.items())
    line.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b""))
    line.sendall(frame(HEADERS, END_HEADERS, 1, block) + frame(DATA, END_STREAM, 1, b"\0" * 5))
    answer = b""
    while True:
        length, kind, flags, _ = struct.unpack(">I B B I", b"\0" + received(line, 9))
        payload = received(line, length)
        if kind == SETTINGS and not flags & ACK:
            line.sendall(frame(SETTINGS, ACK, 0, b""))
        if kind == HEADERS:
            answer += payload
            if flags & END_STREAM:
                return answer


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """An HTTP/2 frame. Source: RFC 9113, Frame Format."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def received(line: ssl.SSLSocket, length: int) -> bytes:
    """Exactly that many bytes."""
    data = b""
    while len(data) < length:
        chunk = line.recv(length - len(data))
        assert chunk, "the server hung up"
        data += chunk
    return data
