"""`outrider serve`: owns the embedded store, the evaluator, the one /metrics, and the child processes that answer
gRPC and sign.

Whatever dies is started again: a worker, the signer, the store. When the supervisor itself is killed, its children
end, the store lives on, and the next start adopts it; rollouts go on only with proof that nothing is missing.
"""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector

from orchestrator.app.certificates import ServerCertificates
from orchestrator.app.children import Child, python_module
from orchestrator.app.delta_savings import show_savings
from orchestrator.app.expiries import show_expiries
from orchestrator.app.firstborn import Firstborn
from orchestrator.app.fleet_time import machine_origin, open_clock, show_clock
from orchestrator.app.installation import (
    Installation,
    InstallationError,
    Orders,
    Ports,
    clear_sockets,
    held_ports,
    is_free,
    last_ports,
    write_endpoints,
)
from orchestrator.app.ledger_heads import seal_days
from orchestrator.app.memory import give_back_now_and_then, scatter_less
from orchestrator.app.reloading import reloaded
from orchestrator.app.scheduling import run_in_long_turns
from orchestrator.app.signer_process import main as sign
from orchestrator.app.store_watch import watch_store
from orchestrator.app.vitals import show_vitals
from orchestrator.app.worker import main as work
from orchestrator.clock import FleetClock, MachineClock
from orchestrator.evaluator import Evaluator
from orchestrator.ledger import Ledger
from orchestrator.logs import configure_logging
from orchestrator.service.ledger_feed import LedgerFeed
from orchestrator.settings import Settings, SettingsError, load
from orchestrator.store.base import StoreRefusedError
from orchestrator.store.redis import EmbeddedServer, RedisStore
from orchestrator.store.redis.lock import FolderLock
from orchestrator.telemetry import (
    PREFIX,
    Exposition,
    Metrics,
    forget_worker,
    prepare_workers_folder,
)
from orchestrator.web import build_app, build_images_app, start, tls_context

log = structlog.get_logger()

PORT_LOOK_S = 0.2
SIGNER_GRACE_S = 2.0
PORT_TRIES = 15


class Supervisor:
    """One running installation.

    Args:
        installation: the data folder.
        settings: as resolved from file, environment and command line.
        look_again: resolves them anew.
        firstborn: children that wait to be let go, by name.
    """

    def __init__(
        self,
        installation: Installation,
        settings: Settings,
        look_again: Callable[[], Settings],
        firstborn: Firstborn,
    ) -> None:
        self._installation = installation
        self._firstborn = firstborn
        self._look_again = look_again
        self._settings = settings
        self._machine = MachineClock()
        self._metrics = Metrics(CollectorRegistry())
        ProcessCollector(namespace=PREFIX, registry=self._metrics.registry)
        self._metrics.build_info.labels(version=version("outrider")).set(1)
        self._embedded = None if settings.store_url else EmbeddedServer(installation.store)
        self._workers: list[Child] = []
        self._orders: Orders | None = None
        self._certificates = ServerCertificates(installation, settings, self._machine, self._metrics, name="images")
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain.

        Raises:
            InstallationError: the data folder or a port cannot be used.
            StoreError: the store cannot be used.
            ChildError: a child did not start.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopped.set)
        # A terminal that is closed sends it as well, and nobody shall run on unseen.
        on_hangup = self._stopped.set if sys.stdin.isatty() else self._reload
        loop.add_signal_handler(signal.SIGHUP, on_hangup)
        async with AsyncExitStack() as house:
            await self._open(house)

    def _reload(self) -> None:
        """Read settings and certificates anew; no call is dropped. What cannot be used leaves what counts."""
        if self._orders is None:
            return  # it has not read them for the first time yet
        try:
            found = reloaded(self._settings, self._look_again())
        except SettingsError as error:
            log.error("settings_refused", problems=error.problems, remedy="correct them and send SIGHUP again")
            return
        self._settings = found.settings
        self._orders = replace(self._orders, settings=found.settings.model_dump(mode="json"))
        self._orders.save(self._installation.run / "orders.json")
        configure_logging(level=found.settings.log_level, log_format=found.settings.log_format, stream=sys.stderr)
        self._certificates.asked.set()
        for worker in self._workers:
            worker.hang_up()
        log.info("settings_reloaded", applied=found.applied)
        if found.waiting:
            log.warning("settings_wait_for_restart", settings=found.waiting, remedy="restart `outrider serve`")

    async def _open(self, house: AsyncExitStack) -> None:
        self._lock(house)
        url = await self._start_store(house)
        settings = self._settings
        store = await RedisStore.connect(
            url, durability=settings.store_durability, replicas_min=settings.store_replicas_min
        )
        house.push_async_callback(store.close)
        ledger = await self._open_ledger(house, store)
        clock = await open_clock(store, self._settings, self._machine)
        evaluator = self._evaluator(store, ledger, clock)
        await evaluator.recover()
        await self._await_last_ports()
        orders = self._give_orders(house, url)
        children = await self._start_children(house)
        shown = await self._start_web(house, store, orders.ports)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(child.supervise(self._machine)) for child in children]
            running.append(tasks.create_task(evaluator.run(settings.evaluator_tick_s)))
            watch = watch_store(store, self._embedded, self._metrics, self._machine)
            running.append(tasks.create_task(watch))
            running.append(tasks.create_task(give_back_now_and_then()))
            shows = show_clock(clock, self._metrics, self._machine, process="supervisor")
            running.append(tasks.create_task(shows))
            running.append(tasks.create_task(self._certificates.renew({}, [(shown, "")])))
            running.append(tasks.create_task(seal_days(self._installation, ledger, clock, self._machine)))
            running.append(tasks.create_task(show_expiries(self._installation, self._metrics, self._machine)))
            saved = show_savings(self._installation, self._metrics, clock, self._machine)
            running.append(tasks.create_task(saved))
            durability = settings.store_durability
            vitals = show_vitals(self._installation, store, durability, self._metrics, self._machine)
            running.append(tasks.create_task(vitals))
            write_endpoints(
                self._installation,
                self._settings.host,
                orders.ports,
                self._settings.trust_domain,
                clock.scale,
            )
            log.info("serving", **{name: getattr(orders.ports, name) for name in Ports.__slots__})
            await self._stopped.wait()
            log.info("stopping")
            for task in running:
                task.cancel()

    def _lock(self, house: AsyncExitStack) -> None:
        """One supervisor a data folder, also where the store is elsewhere.

        Raises:
            InstallationError: another one serves it.
        """
        self._installation.run.mkdir(exist_ok=True)
        lock = FolderLock(self._installation.run)
        try:
            lock.take()
        except StoreRefusedError as error:
            raise InstallationError(
                f"{self._installation.data} is served by process {lock.holder} already: stop that one first, or use "
                "another data folder"
            ) from error
        house.callback(lock.drop)
        for path in self._installation.offline_keys():
            log.warning(
                "offline_key_online", path=str(path), remedy="take it offline before production; see SECURITY.md"
            )

    async def _await_last_ports(self) -> None:
        """Give workers of a killed supervisor the moment they need to let go of the ports that vehicles know."""
        for _ in range(PORT_TRIES):
            ports = last_ports(self._installation.endpoints).values()
            if all(is_free(self._settings.host, port) for port in ports):
                return
            await self._machine.sleep(PORT_LOOK_S)

    async def _start_store(self, house: AsyncExitStack) -> str:
        if self._embedded is None:
            return self._settings.store_url
        await asyncio.to_thread(self._embedded.start)
        house.push_async_callback(asyncio.to_thread, self._embedded.stop)
        return self._embedded.url

    async def _open_ledger(self, house: AsyncExitStack, store: RedisStore) -> Ledger:
        """The ledger, if it can be this store's.

        Raises:
            InstallationError: a database by URL belongs to another installation: two histories would become one.
            orchestrator.ledger.LedgerError: it cannot be used.
        """
        ledger = Ledger(self._installation.ledger_at(self._settings.ledger_url))
        house.push_async_callback(ledger.close)
        of_store, of_ledger = await store.dataset_id(), await ledger.dataset_id()
        # A file beside its store is let in: rollouts come up paused, and say why.
        if self._settings.ledger_url and of_ledger not in ("", of_store):
            raise InstallationError(
                f"ledger_url names the ledger of another data set ({of_ledger}), this store holds {of_store}: give "
                "each installation a database of its own, or restore the store that belongs to it"
            )
        return ledger

    def _evaluator(self, store: RedisStore, ledger: Ledger, clock: FleetClock) -> Evaluator:
        return Evaluator(
            store=store,
            feed=LedgerFeed(store, ledger),
            clock=clock,
            machine=self._machine,
            metrics=self._metrics,
            origin=machine_origin(self._settings, self._machine),
            scale=self._settings.scale,
            reachable=lambda: any(worker.serving for worker in self._workers),
        )

    def _give_orders(self, house: AsyncExitStack, store_url: str) -> Orders:
        settings = self._settings
        wanted = Ports(
            enrollment=settings.port_enrollment,
            vehicles=settings.port_vehicles,
            operators=settings.port_operators,
            web=settings.port_web,
            images=settings.port_images,
            director=settings.port_director,
        )
        clear_sockets(self._installation.run / "orders.json")
        # Unix socket paths are short, data folders need not be.
        sockets = Path(house.enter_context(tempfile.TemporaryDirectory(prefix="outrider-")))
        orders = Orders(
            settings=settings.model_dump(mode="json"),
            ports=house.enter_context(held_ports(settings.host, wanted, self._installation.endpoints)),
            store_url=store_url,
            signer_socket=str(sockets / "signer"),
        )
        orders.save(self._installation.run / "orders.json")
        self._orders = orders
        prepare_workers_folder(self._installation.metrics)
        return orders

    async def _start_children(self, house: AsyncExitStack) -> list[Child]:
        signer = self._child("signer", "signer_process", {})
        environment = worker_environment(self._installation)
        self._workers = [
            self._child(name, "worker", environment, beats=True) for name in worker_names(self._settings.workers)
        ]
        house.push_async_callback(signer.stop, grace_s=SIGNER_GRACE_S)
        for worker in self._workers:
            house.push_async_callback(worker.stop, grace_s=self._settings.drain_s + SIGNER_GRACE_S)
        # All at once: a worker calls the signer only when vehicles call it.
        children = [signer, *self._workers]
        for failed in await asyncio.gather(*(child.start() for child in children), return_exceptions=True):
            if failed is not None:
                raise failed
        return children

    def _child(self, name: str, entry: str, environment: Mapping[str, str], *, beats: bool = False) -> Child:
        # Shown from the start: an increase from nothing is none to Prometheus.
        restarts = self._metrics.child_restarts.labels(child=name)

        def ended(pid: int) -> None:
            restarts.inc()
            forget_worker(self._installation.metrics, pid)

        return Child(
            name=name,
            arguments=python_module(f"orchestrator.app.{entry}", self._installation.data),
            environment=environment,
            ended=ended,
            firstborn=lambda: self._firstborn.take(name),
            stuck=self._metrics.child_stuck.labels(child=name).inc if beats else None,
        )

    async def _start_web(self, house: AsyncExitStack, store: RedisStore, ports: Ports) -> ssl.SSLContext:
        """Serve monitoring and images; what the images' port shows, which may change."""
        app = build_app(
            metrics=Exposition(self._metrics.registry, self._installation.metrics), checks={"store": store.answers}
        )
        runner, _ = await start(app, self._settings.host, ports.web)
        house.push_async_callback(runner.cleanup)
        where = self._installation.images(self._settings.images)
        images = build_images_app(self._installation.image_repository, self._metrics, images=where)
        shown = self._images_tls()
        runner, _ = await start(images, self._settings.host, ports.images, ssl_context=shown)
        house.push_async_callback(runner.cleanup)
        return shown

    def _images_tls(self) -> ssl.SSLContext:
        tls = self._certificates.issue()[""]
        return tls_context(tls.key_pem, tls.chain_pem)


def serve(data: Path, **overrides: object) -> None:
    """Serve a data folder until SIGTERM or SIGINT.

    Args:
        data: made by `outrider keys init`.
        overrides: settings from the command line, by name; they win over environment and file.

    Raises:
        InstallationError: the data folder or a port cannot be used.
        orchestrator.settings.SettingsError: a setting is wrong.
        StoreError: the store cannot be used; the message says the remedy.
        orchestrator.app.children.ChildError: a child did not start; its log says why.
    """
    installation = Installation(data.resolve())
    installation.check()
    settings = load(installation.data, overrides=overrides)
    os.umask(0o077)
    scatter_less()
    run_in_long_turns()
    configure_logging(level=settings.log_level, log_format=settings.log_format, stream=sys.stderr)
    with fork_children(installation, settings) as firstborn:
        structlog.contextvars.bind_contextvars(process="supervisor")
        supervisor = Supervisor(installation, settings, lambda: load(installation.data, overrides=overrides), firstborn)
        asyncio.run(supervisor.run())


@contextmanager
def fork_children(installation: Installation, settings: Settings) -> Iterator[Firstborn]:
    """Every child, waiting to be let go; they hold nothing yet, and end with this."""
    firstborn = Firstborn()
    firstborn.fork("signer", sign, installation.data, {})
    for name in worker_names(settings.workers):
        firstborn.fork(name, work, installation.data, worker_environment(installation))
    try:
        yield firstborn
    finally:
        firstborn.drop()


def worker_names(workers: int) -> list[str]:
    """What each worker is called."""
    return [f"worker-{number}" for number in range(1, workers + 1)]


def worker_environment(installation: Installation) -> Mapping[str, str]:
    """What a worker has besides the supervisor's own."""
    return {"PROMETHEUS_MULTIPROC_DIR": str(installation.metrics)}
