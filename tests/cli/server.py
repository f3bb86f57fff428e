"""A real gRPC server with mutual TLS that gives the answers a test wrote down, and remembers what it was asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from outrider.v1 import case_pb2, fleet_pb2, ledger_pb2, release_pb2, rollout_pb2

from orchestrator.cli.local import certificate_time
from signing.pki import Authority

TRUST_DOMAIN = "test.outrider.invalid"
FLEET_TIME = datetime(2031, 4, 5, 6, 7, 8, tzinfo=UTC)
ISSUED_AT = certificate_time()
LIFE = timedelta(days=2)
SERVICES = (
    fleet_pb2.DESCRIPTOR.services_by_name["FleetService"],
    release_pb2.DESCRIPTOR.services_by_name["ReleaseService"],
    rollout_pb2.DESCRIPTOR.services_by_name["RolloutService"],
    case_pb2.DESCRIPTOR.services_by_name["CaseService"],
    ledger_pb2.DESCRIPTOR.services_by_name["LedgerService"],
)


@dataclass(frozen=True)
class Refused:
    """An answer that is a refusal, in the server's own form."""

    code: grpc.StatusCode
    message: str
    remedy: str = ""
    violations: Sequence[tuple[str, str]] = ()
    retry_after_s: float | None = None

    def status(self) -> status_pb2.Status:
        details: list[Message] = []
        metadata = {"remedy": self.remedy} if self.remedy else {}
        details.append(error_details_pb2.ErrorInfo(reason="TEST", domain="outrider", metadata=metadata))
        if self.violations:
            faults = [
                error_details_pb2.BadRequest.FieldViolation(field=place, description=words)
                for place, words in self.violations
            ]
            details.append(error_details_pb2.BadRequest(field_violations=faults))
        if self.retry_after_s is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromTimedelta(timedelta(seconds=self.retry_after_s))
            details.append(retry)
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        for detail in details:
            packed = Packed()
            packed.Pack(detail)
            status.details.append(packed)
        return status


Answer = Message | Refused | Callable[[Any], Message | Refused]


@dataclass
class OperatorServer:
    """Answers by name of the method: the first of several once, the last for ever; a stream sends all of one list."""

    answers: dict[str, list[Answer]] = field(default_factory=dict)
    streams: dict[str, list[list[Answer]]] = field(default_factory=dict)
    requests: list[tuple[str, Any]] = field(default_factory=list)
    address: str = ""
    tells_fleet_time: bool = True

    def will_answer(self, method: str, *answers: Answer) -> None:
        self.answers[method] = list(answers)

    def will_stream(self, method: str, *streams: list[Answer]) -> None:
        self.streams[method] = list(streams)

    def asked(self, method: str) -> list[Any]:
        """The requests that one method got."""
        return [request for name, request in self.requests if name == method]

    def start(self, authorities: Path) -> grpc.Server:
        server = grpc.server(ThreadPoolExecutor(max_workers=4))
        for service in SERVICES:
            handlers = {method.name: self._handler(method) for method in service.methods}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
        chain, key = Authority.load(authorities, "server").issue_server(
            names=["localhost", "127.0.0.1"], now=ISSUED_AT, life=LIFE
        )
        clients = Authority.load(authorities, "operator").certificate_pem
        credentials = grpc.ssl_server_credentials([(key, chain)], clients, require_client_auth=True)
        self.address = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
        server.start()
        return server

    def _handler(self, method: Any) -> grpc.RpcMethodHandler:
        make, behaviour = (
            (grpc.unary_stream_rpc_method_handler, self._stream)
            if method.server_streaming
            else (grpc.unary_unary_rpc_method_handler, self._unary)
        )
        return make(
            lambda request, context: behaviour(method.name, request, context),
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    def _unary(self, name: str, request: Any, context: grpc.ServicerContext) -> Message:
        self.requests.append((name, request))
        if self.tells_fleet_time:
            milliseconds = int(FLEET_TIME.timestamp() * 1000) + 987
            context.set_trailing_metadata((("outrider-fleet-time-ms", str(milliseconds)),))
        answers = self.answers.get(name)
        if not answers:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"the test wrote no answer for {name}")
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return settle(answer, request, context)

    def _stream(self, name: str, request: Any, context: grpc.ServicerContext) -> Iterator[Message]:
        self.requests.append((name, request))
        streams = self.streams[name]
        for answer in streams.pop(0) if len(streams) > 1 else streams[0]:
            yield settle(answer, request, context)


def settle(answer: Answer, request: Any, context: grpc.ServicerContext) -> Message:
    """The message to send; a refusal ends the call."""
    if callable(answer):
        answer = answer(request)
    if isinstance(answer, Refused):
        context.abort_with_status(rpc_status.to_status(answer.status()))
    return answer


def make_authorities(folder: Path) -> None:
    """The authorities that server and operators share."""
    for name in ("server", "operator"):
        Authority.create(f"test {name}", ISSUED_AT, LIFE).save(folder, name)


def make_operator(authorities: Path, folder: Path, name: str, role: str = "admin") -> None:
    """A client identity as `outrider ca issue-operator` lays it out."""
    chain, key = Authority.load(authorities, "operator").issue_operator(
        trust_domain=TRUST_DOMAIN, name=name, role=role, now=ISSUED_AT, life=LIFE
    )
    folder.mkdir(parents=True)
    (folder / "operator.crt").write_bytes(chain)
    (folder / "operator.key").write_bytes(key)
    (folder / "server-ca.pem").write_bytes(Authority.load(authorities, "server").certificate_pem)


def write_endpoints(data: Path, address: str) -> None:
    """What `outrider serve` writes for the command line."""
    (data / "endpoints.json").write_text(json.dumps({"operators": address}), encoding="utf-8")
