"""What gRPC hands to a servicer, as far as the edge looks at it: its own types cannot be made without a connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NoReturn

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from orchestrator.cli.local import certificate_time
from signing.pki import Authority, certificate_request, new_key

TRUST_DOMAIN = "test.outrider.invalid"


class AbortedError(Exception):
    """What ends a handler after its status was set."""


@dataclass
class AContext:
    """A call's context: TLS facts in, status out."""

    tls_version: bytes = b"TLSv1.3"
    certificate: bytes = b""
    status: rpc_status._Status | None = None
    trailing: Mapping[str, str] = field(default_factory=dict)

    def auth_context(self) -> Mapping[str, list[bytes]]:
        facts = {"ssl_tls_version": [self.tls_version]}
        return facts | ({"x509_pem_cert": [self.certificate]} if self.certificate else {})

    def set_trailing_metadata(self, metadata: Any) -> None:
        self.trailing = dict(metadata)

    async def abort_with_status(self, status: rpc_status._Status) -> NoReturn:
        self.status = status
        raise AbortedError

    @property
    def code(self) -> grpc.StatusCode:
        assert self.status is not None
        return self.status.code

    def details(self) -> tuple[error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo]:
        """ErrorInfo and RetryInfo of the status; empty ones where there was none."""
        assert self.status is not None
        packed = dict(self.status.trailing_metadata)["grpc-status-details-bin"]
        from_wire = rpc_status.status_pb2.Status.FromString(packed)
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        for detail in from_wire.details:
            detail.Unpack(info)
            detail.Unpack(retry)
        return info, retry


def vehicle_certificate(vehicle_id: str, *, trust_domain: str = TRUST_DOMAIN) -> bytes:
    """A certificate that names a vehicle."""
    return _authority().issue_vehicle(
        certificate_request(new_key()),
        trust_domain=trust_domain,
        vehicle_id=vehicle_id,
        now=certificate_time(),
        life=timedelta(days=1),
    )


def operator_certificate(name: str, role: str) -> bytes:
    """A certificate that names an operator."""
    chain, _ = _authority().issue_operator(
        trust_domain=TRUST_DOMAIN, name=name, role=role, now=certificate_time(), life=timedelta(days=1)
    )
    return chain


def _authority() -> Authority:
    return Authority.create("test", certificate_time(), timedelta(days=1))
