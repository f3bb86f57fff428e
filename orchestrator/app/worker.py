"""One worker: builds the three gRPC servers and the Director's HTTPS port, serves until SIGTERM, drains."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import signal
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import structlog
import uvloop
from aiohttp import web
from prometheus_client import CollectorRegistry

from orchestrator.app.certificates import ServerCertificates
from orchestrator.app.children import beat, end_with_parent, name_process, say_ready
from orchestrator.app.fleet_time import machine_origin, open_clock, show_clock
from orchestrator.app.installation import Installation, Orders
from orchestrator.app.memory import give_back_now_and_then, scatter_less
from orchestrator.clock import FleetClock, MachineClock
from orchestrator.ledger import LedgerReader
from orchestrator.logs import configure_logging
from orchestrator.model.ids import VehicleId
from orchestrator.rpc import servers
from orchestrator.rpc.case_servicer import CaseServicer
from orchestrator.rpc.credentials import Tls
from orchestrator.rpc.fleet_servicer import FleetServicer
from orchestrator.rpc.identity import IdentityReader
from orchestrator.rpc.interceptor import EdgeInterceptor
from orchestrator.rpc.ledger_servicer import LedgerServicer
from orchestrator.rpc.overload import Turnstile
from orchestrator.rpc.release_servicer import ReleaseServicer
from orchestrator.rpc.rollout_servicer import RolloutServicer
from orchestrator.rpc.servers import Binding, Bound
from orchestrator.rpc.vehicle_servicer import EnrollmentServicer, VehicleServicer
from orchestrator.service.call_rates import CallRates
from orchestrator.service.cases import CaseDesk
from orchestrator.service.director import DirectorDesk
from orchestrator.service.enrollment import EnrollmentDesk
from orchestrator.service.explain import ExplainDesk
from orchestrator.service.fleet import FleetDesk
from orchestrator.service.fleet_care import FleetCareDesk
from orchestrator.service.history import HistoryDesk
from orchestrator.service.image_files import ImageFiles
from orchestrator.service.last_seen import LastSeen
from orchestrator.service.manifests import ManifestDesk
from orchestrator.service.permits import PermitDesk
from orchestrator.service.releases import ReleaseDesk
from orchestrator.service.rollouts import RolloutDesk
from orchestrator.service.snapshot import SnapshotKeeper
from orchestrator.service.vehicles import VehicleDesk
from orchestrator.service.vouching import Vouching
from orchestrator.service.waiting import PollPace
from orchestrator.settings import Settings
from orchestrator.store.redis import RedisStore
from orchestrator.tallies import Batch
from orchestrator.telemetry import Metrics, count_as_one_process
from orchestrator.web import build_director_app, start, tls_context
from signing.image_repo import ImageRepository
from signing.ingest_gate import IngestGate
from signing.pki import Authority
from signing.signer import SignerClient

log = structlog.get_logger()

PROCESS_NAME = "outrider-worker"
CALLS_MAX = 512
STORE_APART_S = 0.01
"""Least time between round trips to the store: no vehicle feels it, and under load a trip brings several calls."""
ROOT_LOOKS_APART_S = 0.1
"""Least time between looks at the disk for a new root, on behalf of vehicles that lack nothing."""
GARBAGE_THRESHOLDS = (20_000, 2, 2)
TOKEN_LIFE_MS = 7 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Desks:
    """The use cases that a worker serves, and what they keep fresh."""

    vehicles: VehicleDesk
    permits: PermitDesk
    manifests: ManifestDesk
    enrollment: EnrollmentDesk
    fleet: FleetDesk
    care: FleetCareDesk
    explain: ExplainDesk
    cases: CaseDesk
    releases: ReleaseDesk
    rollouts: RolloutDesk
    snapshots: SnapshotKeeper
    images: ImageFiles
    vouching: Vouching
    last_seen: LastSeen
    ledger: LedgerReader


@dataclass(frozen=True, slots=True)
class Context:
    """What every part of a worker is built from."""

    installation: Installation
    settings: Settings
    orders: Orders
    machine: MachineClock
    clock: FleetClock
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class Callers:
    """Who calls, and how often a vehicle may, over gRPC and HTTPS together."""

    identities: IdentityReader
    rates: CallRates

    def vehicle(self, certificate_pem: bytes) -> VehicleId:
        """The vehicle that a client certificate names, once it may call.

        Raises:
            ServiceError: it names none, is revoked, or has called too often.
        """
        vehicle_id = self.identities.vehicle({"x509_pem_cert": [certificate_pem]} if certificate_pem else {})
        self.rates.take(vehicle_id)
        return vehicle_id


def build_desks(context: Context, store: RedisStore, signer: SignerClient) -> Desks:
    """Put the use cases together."""
    installation, settings = context.installation, context.settings
    snapshots = SnapshotKeeper(
        store, context.clock, origin=machine_origin(settings, context.machine), scale=settings.scale
    )
    images = ImageFiles(installation.image_repository / "metadata")
    repository = ImageRepository(installation.image_repository)
    vouching = Vouching(repository, IngestGate(installation.image_repository))
    last_seen = LastSeen(store)
    vehicles = VehicleDesk(
        store=store,
        snapshots=snapshots,
        clock=context.clock,
        director=DirectorDesk(signer, installation.director_metadata, looks_apart_s=ROOT_LOOKS_APART_S),
        images=images,
        last_seen=last_seen,
        pace=pace_of(settings),
        metrics=context.metrics,
        repeats_max=settings.quarantine_after,
        vouching=vouching,
    )
    enrollment = EnrollmentDesk(
        store=store,
        authority=Authority.load(installation.authorities, "vehicle"),
        server_ca_pem=Authority.load(installation.authorities, "server").certificate_pem,
        trust_domain=settings.trust_domain,
        machine=context.machine,
        life=timedelta(days=settings.certificate_vehicle_days),
    )
    fleet = FleetDesk(
        store=store,
        snapshots=snapshots,
        clock=context.clock,
        machine=context.machine,
        token_life_ms=TOKEN_LIFE_MS,
    )
    return Desks(
        vehicles=vehicles,
        permits=PermitDesk(
            store=store, snapshots=snapshots, clock=context.clock, last_seen=last_seen, metrics=context.metrics
        ),
        manifests=ManifestDesk(store=store, snapshots=snapshots, clock=context.clock, metrics=context.metrics),
        enrollment=enrollment,
        fleet=fleet,
        care=FleetCareDesk(store=store, clock=context.clock),
        explain=ExplainDesk(store=store, snapshots=snapshots, clock=context.clock, vouching=vouching),
        cases=CaseDesk(store=store, clock=context.clock),
        releases=ReleaseDesk(store=store, repository=repository, clock=context.clock, vouching=vouching),
        rollouts=RolloutDesk(store=store, clock=context.clock, machine=context.machine, vouching=vouching),
        snapshots=snapshots,
        images=images,
        vouching=vouching,
        last_seen=last_seen,
        ledger=LedgerReader(installation.ledger_at(settings.ledger_url)),
    )


def build_servers(context: Context, desks: Desks, callers: Callers, tls: Mapping[str, Tls]) -> Mapping[str, Bound]:
    """The three gRPC servers, bound, by the name of their clients' authority (empty: anybody).

    Raises:
        servers.PortTakenError: a port is taken.
    """
    settings, ports, identities = context.settings, context.orders.ports, callers.identities

    def bound_to(port: int, message_bytes_max: int, calls_max: int, *, operators: bool = False) -> Binding:
        return Binding(
            host=settings.host,
            port=port,
            shared=settings.workers > 1,
            message_bytes_max=message_bytes_max,
            probed=operators,
            calls_max=calls_max,
            described=operators,
            connection_age_ms=settings.connection_age_s * 1000,
        )

    def serving() -> bool:
        return desks.snapshots.fresh

    enrollment = servers.new_server(
        bound_to(ports.enrollment, servers.ENROLLMENT_BYTES_MAX, servers.OTHER_CALLS_MAX),
        tls[""],
        edge(context),
        [servers.ENROLLMENT],
        serving,
    )
    servers.add_enrollment(enrollment.registry, EnrollmentServicer(desks.enrollment))
    vehicles = servers.new_server(
        bound_to(ports.vehicles, settings.vehicle_message_bytes_max, servers.VEHICLE_CALLS_MAX),
        tls["vehicle"],
        edge(context),
        [servers.VEHICLES],
        serving,
    )
    servers.add_vehicles(
        vehicles.registry,
        VehicleServicer(
            desk=desks.vehicles,
            permits=desks.permits,
            manifests=desks.manifests,
            enrollment=desks.enrollment,
            identities=identities,
            rates=callers.rates,
            events_max=settings.events_max,
            image_base_urls=[f"https://{settings.host}:{ports.images}/targets"],
        ),
    )
    operators = servers.new_server(
        bound_to(ports.operators, settings.operator_message_bytes_max, servers.OTHER_CALLS_MAX, operators=True),
        tls["operator"],
        edge(context),
        list(servers.OPERATORS),
        serving,
    )
    servers.add_operators(
        operators.registry,
        fleet=FleetServicer(desk=desks.fleet, care=desks.care, explain=desks.explain, identities=identities),
        releases=ReleaseServicer(desks.releases, identities),
        rollouts=RolloutServicer(desks.rollouts, identities),
        cases=CaseServicer(desks.cases, identities),
        ledger=LedgerServicer(HistoryDesk(desks.ledger), identities),
    )
    return {"": enrollment, "vehicle": vehicles, "operator": operators}


async def start_director(
    context: Context, desks: Desks, callers: Callers, tls: Tls
) -> tuple[web.AppRunner, ssl.SSLContext]:
    """Serve each vehicle its own Director files by HTTPS; also what that shows, which may change.

    Raises:
        WebError: the port is taken.
    """
    shown = tls_context(tls.key_pem, tls.chain_pem, tls.client_ca_pem)
    runner, _ = await start(
        build_director_app(desks.vehicles, callers.vehicle),
        context.settings.host,
        context.orders.ports.director,
        shown,
        shared=context.settings.workers > 1,
    )
    return runner, shown


def edge(context: Context) -> EdgeInterceptor:
    """A fresh interceptor, for one server."""
    turnstile = Turnstile(CALLS_MAX, random.SystemRandom().random)
    return EdgeInterceptor(metrics=context.metrics, clock=context.clock, machine=context.machine, turnstile=turnstile)


async def serve(installation: Installation, orders: Orders) -> None:
    """Serve until SIGTERM, then let running calls end, flush and leave.

    Raises:
        StoreError: the store cannot be used.
        servers.PortTakenError: a port is taken.
    """
    settings = Settings(**orders.settings)
    machine = MachineClock()
    store = await RedisStore.connect(
        orders.store_url,
        beside=True,
        durability=settings.store_durability,
        replicas_min=settings.store_replicas_min,
        apart_s=STORE_APART_S,
    )
    signer = SignerClient(Path(orders.signer_socket))
    clock = await open_clock(store, settings, machine)
    count_as_one_process()
    batch = Batch()
    metrics = Metrics(CollectorRegistry(), batch)
    context = Context(installation, settings, orders, machine, clock, metrics)
    desks = build_desks(context, store, signer)
    desks.images.refresh()
    await desks.snapshots.refresh()
    callers = Callers(IdentityReader(settings.trust_domain, desks.fleet.revoked), CallRates(clock))
    certificates = ServerCertificates(installation, settings, machine, metrics, name="server")
    tls = certificates.issue()
    servers_by_clients = build_servers(context, desks, callers, tls)
    running = list(servers_by_clients.values())
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload, installation, desks, certificates)
    async with asyncio.TaskGroup() as tasks:
        background = [
            tasks.create_task(desks.snapshots.run()),
            tasks.create_task(desks.images.run()),
            tasks.create_task(desks.vouching.run()),
            tasks.create_task(desks.last_seen.run()),
            tasks.create_task(give_back_now_and_then()),
            tasks.create_task(show_clock(clock, metrics, machine, process="worker")),
        ]
        for bound in running:
            await bound.server.start()
        director, shown = await start_director(context, desks, callers, tls["vehicle"])
        credentials = {name: bound.credentials for name, bound in servers_by_clients.items()}
        renewal = certificates.renew(credentials, [(shown, "vehicle")], lambda: adopt_authorities(installation, desks))
        background.append(tasks.create_task(renewal))
        keep_off_garbage()
        say_ready()
        background.append(tasks.create_task(beat(machine)))
        await stopped.wait()
        log.info("draining", seconds=settings.drain_s)
        await asyncio.gather(director.cleanup(), *(bound.server.stop(settings.drain_s) for bound in running))
        for task in background:
            task.cancel()
    batch.write()
    await desks.last_seen.flush()
    await desks.ledger.close()
    await signer.close()
    await store.close()
    log.info("drained")


def reload(installation: Installation, desks: Desks, certificates: ServerCertificates) -> None:
    """Take over what the supervisor read anew, and fresh certificates; calls under way go on."""
    settings = Settings(**Orders.load(installation.run / "orders.json").settings)
    configure_logging(level=settings.log_level, log_format=settings.log_format, stream=sys.stderr)
    desks.vehicles.adopt(pace_of(settings), repeats_max=settings.quarantine_after)
    certificates.asked.set()


def adopt_authorities(installation: Installation, desks: Desks) -> None:
    """Issue vehicle certificates by the authorities as they are now.

    Raises:
        OSError: one cannot be read.
        SigningError: it is none.
    """
    authorities = installation.authorities
    desks.enrollment.adopt(
        Authority.load(authorities, "vehicle"), Authority.load(authorities, "server").certificate_pem
    )


def pace_of(settings: Settings) -> PollPace:
    """How often vehicles shall call."""
    return PollPace(idle_ms=settings.poll_s * 1000, live_ms=settings.poll_live_s * 1000)


def keep_off_garbage() -> None:
    """Look for cycles of garbage seldom, and not at what stays: a call makes hardly any, and a look takes long. One
    look in thirteen is at all that was made since: there is little of it, and what is missed would lie for hours.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


def main(data: Path) -> None:
    """Entry of the process."""
    name_process(PROCESS_NAME)
    scatter_less()
    end_with_parent()
    installation = Installation(data)
    orders = Orders.load(installation.run / "orders.json")
    settings = Settings(**orders.settings)
    configure_logging(level=settings.log_level, log_format=settings.log_format, stream=sys.stderr)
    structlog.contextvars.bind_contextvars(process="worker")
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(installation, orders))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
