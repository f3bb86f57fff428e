"""What a gRPC server shows, and whom it lets in; may change while it serves.

gRPC asks before each handshake whether there is something new. Connections that stand keep what they were made with,
until they are too old to go on (`connection_age_s`); a vehicle's revocation does not wait for that, each call
looks it up.
"""

from __future__ import annotations

from dataclasses import dataclass

import grpc


@dataclass(frozen=True, slots=True)
class Tls:
    """What a server shows, and whom it lets in."""

    key_pem: bytes
    chain_pem: bytes
    client_ca_pem: bytes | None
    """None: clients need no certificate."""


class Credentials:
    """Of one server.

    Args:
        tls: shown from the start.
    """

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._fresh: grpc.ServerCertificateConfiguration | None = None

    def show(self, tls: Tls) -> None:
        """From the next handshake on."""
        self._fresh = _configuration(tls)

    def as_grpc(self) -> grpc.ServerCredentials:
        """As gRPC takes them."""
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._tls),
            self._next,  # type: ignore[arg-type]  # the stubs do not know that None means no change
            require_client_authentication=self._tls.client_ca_pem is not None,
        )

    def _next(self) -> grpc.ServerCertificateConfiguration | None:
        """What is new since it was asked last; on a thread of gRPC's."""
        fresh, self._fresh = self._fresh, None
        return fresh


def _configuration(tls: Tls) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(tls.key_pem, tls.chain_pem)], tls.client_ca_pem)
