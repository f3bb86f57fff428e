"""The three gRPC servers of a worker: enrolment, vehicles, operators. Different ports, different authorities,
different limits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import grpc
from grpc_reflection.v1alpha import reflection
from outrider.v1 import (
    case_pb2,
    case_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
    fleet_pb2,
    fleet_pb2_grpc,
    ledger_pb2,
    ledger_pb2_grpc,
    release_pb2,
    release_pb2_grpc,
    rollout_pb2,
    rollout_pb2_grpc,
    vehicle_pb2,
    vehicle_pb2_grpc,
)

from orchestrator.rpc.case_servicer import CaseServicer
from orchestrator.rpc.credentials import Credentials, Tls
from orchestrator.rpc.fleet_servicer import FleetServicer
from orchestrator.rpc.health import SERVICE as HEALTH
from orchestrator.rpc.health import Health
from orchestrator.rpc.interceptor import EdgeInterceptor, Registry
from orchestrator.rpc.ledger_servicer import LedgerServicer
from orchestrator.rpc.release_servicer import ReleaseServicer
from orchestrator.rpc.rollout_servicer import RolloutServicer
from orchestrator.rpc.vehicle_servicer import EnrollmentServicer, VehicleServicer

ENROLLMENT = enrollment_pb2.DESCRIPTOR.services_by_name["EnrollmentService"].full_name
VEHICLES = vehicle_pb2.DESCRIPTOR.services_by_name["VehicleService"].full_name
OPERATORS = (
    fleet_pb2.DESCRIPTOR.services_by_name["FleetService"].full_name,
    release_pb2.DESCRIPTOR.services_by_name["ReleaseService"].full_name,
    rollout_pb2.DESCRIPTOR.services_by_name["RolloutService"].full_name,
    case_pb2.DESCRIPTOR.services_by_name["CaseService"].full_name,
    ledger_pb2.DESCRIPTOR.services_by_name["LedgerService"].full_name,
)
CONNECTION_GRACE_MS = 300_000
"""That calls have which are under way when their connection is too old."""
PENDING_MAX = 4_000
"""Calls that gRPC holds until the worker looks at them, some four seconds' worth; beyond, ever more are cancelled, and
all beyond twice as many. By itself it would cancel from 1,000 on, a second's worth: a herd would call twice as often.
"""
METADATA_BYTES_MAX = 16_384
ENROLLMENT_BYTES_MAX = 65_536
VEHICLE_CALLS_MAX = 16
"""Calls at a time on one connection of a vehicle, which makes one."""
OTHER_CALLS_MAX = 128
"""On one connection of a works that enrols, or of an operator's tool: watched rollouts are calls too."""


@dataclass(frozen=True, slots=True)
class Binding:
    """Where a server listens."""

    host: str
    port: int
    shared: bool
    """Whether other workers listen on the same port; otherwise a second server there must fail loudly."""
    message_bytes_max: int
    probed: bool
    """Whether how much the network holds is probed by pings, for long messages; short ones pay more than they gain."""
    calls_max: int
    """At a time on one connection; what is more waits at the client. Far beyond what clients need: gRPC counts ended
    calls for a moment longer than its client does, and may refuse one that takes a place at once.
    """
    described: bool
    """Whether whoever is let in may ask for the services and their messages (reflection)."""
    connection_age_ms: int
    """After which a connection takes no more calls; gRPC spreads it by a tenth, so that they do not all come anew at
    once. Those under way are answered, and the client connects anew by itself.
    """


class PortTakenError(Exception):
    """Nothing can listen there; the message names the address and the remedy."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A server that is bound."""

    server: grpc.aio.Server
    registry: Registry
    """Where servicers are put on it."""
    credentials: Credentials
    """What it shows, which may change."""


def new_server(
    binding: Binding, tls: Tls, interceptor: EdgeInterceptor, services: Sequence[str], serving: Callable[[], bool]
) -> Bound:
    """A server that tells its health, bound and not yet started.

    Args:
        binding: where, and its limits.
        tls: shown from the start.
        interceptor: in front of it.
        services: that it will have.
        serving: what health checks are answered.

    Raises:
        PortTakenError: the port is taken.
    """
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", int(binding.shared)),
            ("grpc.max_receive_message_length", binding.message_bytes_max),
            ("grpc.server.max_pending_requests", PENDING_MAX),
            ("grpc.server.max_pending_requests_hard_limit", 2 * PENDING_MAX),
            ("grpc.max_metadata_size", METADATA_BYTES_MAX),
            ("grpc.max_concurrent_streams", binding.calls_max),
            ("grpc.http2.bdp_probe", int(binding.probed)),
            ("grpc.max_connection_age_ms", binding.connection_age_ms),
            ("grpc.max_connection_age_grace_ms", CONNECTION_GRACE_MS),
        ],
    )
    credentials = Credentials(tls)
    registry = Registry(server, interceptor)
    Health(services, serving).add_to(registry)
    if binding.described:
        reflection.enable_server_reflection([*services, HEALTH, reflection.SERVICE_NAME], server)
    address = f"{binding.host}:{binding.port}"
    try:
        server.add_secure_port(address, credentials.as_grpc())
    except RuntimeError as error:
        raise PortTakenError(
            f"cannot listen on {address}: {error}; stop what listens there or choose another port"
        ) from error
    return Bound(server, registry, credentials)


def _as_server(registry: Registry) -> grpc.aio.Server:
    """For generated code, which asks for no more of a server than a registry has."""
    return cast("grpc.aio.Server", registry)


def add_enrollment(registry: Registry, servicer: EnrollmentServicer) -> None:
    """Put the enrolment service on its server."""
    enrollment_pb2_grpc.add_EnrollmentServiceServicer_to_server(servicer, _as_server(registry))


def add_vehicles(registry: Registry, servicer: VehicleServicer) -> None:
    """Put the vehicle service on its server."""
    vehicle_pb2_grpc.add_VehicleServiceServicer_to_server(servicer, _as_server(registry))


def add_operators(
    registry: Registry,
    *,
    fleet: FleetServicer,
    releases: ReleaseServicer,
    rollouts: RolloutServicer,
    cases: CaseServicer,
    ledger: LedgerServicer,
) -> None:
    """Put the operators' services on their server."""
    fleet_pb2_grpc.add_FleetServiceServicer_to_server(fleet, _as_server(registry))
    release_pb2_grpc.add_ReleaseServiceServicer_to_server(releases, _as_server(registry))
    rollout_pb2_grpc.add_RolloutServiceServicer_to_server(rollouts, _as_server(registry))
    case_pb2_grpc.add_CaseServiceServicer_to_server(cases, _as_server(registry))
    ledger_pb2_grpc.add_LedgerServiceServicer_to_server(ledger, _as_server(registry))
