"""Every Prometheus metric.

Owns the names, labels and units of all metrics, and the one exposition of several processes. Leaves to each part when
to count, and to the evaluator which rollouts to show. One promise holds here and nowhere else: no metric has a vehicle
for a label.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from orchestrator.tallies import Batch

PREFIX = "outrider"
OTHER = "other"
SERIES_MAX = 2000
"""Label combinations of one counter or histogram; what comes after is counted under `other`."""
GAUGE_SERIES_MAX = 10_000
"""The same of a gauge: its labels come from plans and inventory, not from whoever calls."""
LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_LABEL_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./:-]{0,79}")

M = TypeVar("M", bound=MetricWrapperBase)


class Family(Generic[M]):
    """One metric with labels, kept to few and short label values.

    A value that is not `[A-Za-z0-9_./:-]`, is longer than 80 characters, or would be one combination too many is
    counted under `other`: a hostile client must not be able to fill Prometheus.

    Args:
        metric: The parent metric.
        label_names: Its labels, in order; at least one.
        series_max: Combinations that are told apart.
        batched: What a series is counted through; None for the series itself.
    """

    def __init__(
        self,
        metric: M,
        label_names: Sequence[str],
        *,
        series_max: int = SERIES_MAX,
        batched: Callable[[M], M] | None = None,
    ) -> None:
        self._batched = batched
        self._metric = metric
        self._names = tuple(label_names)
        self._series_max = series_max
        self._children: dict[tuple[str, ...], M] = {}
        self._as_given: dict[tuple[tuple[str, str], ...], M] = {}

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels, in order."""
        return self._names

    def labels(self, **labels: str) -> M:
        """The series with these label values, made when it is new.

        Raises:
            ValueError: the names are not those of the metric; a mistake of ours.
        """
        given = tuple(labels.items())
        known = self._as_given.get(given)
        if known is not None:
            return known
        if labels.keys() != set(self._names):
            raise ValueError(f"labels {sorted(labels)} given, {sorted(self._names)} expected")
        key = tuple(labels[name] if _LABEL_VALUE.fullmatch(labels[name]) else OTHER for name in self._names)
        if key not in self._children:
            if len(self._children) >= self._series_max:
                key = (OTHER,) * len(self._names)
            series = self._metric.labels(*key)
            self._children[key] = self._batched(series) if self._batched else series
        if key == tuple(labels[name] for name in self._names):
            # Counted at every call, so not looked at anew; what goes under `other` is, as there is no end of that.
            self._as_given[given] = self._children[key]
        return self._children[key]

    def drop(self, **labels: str) -> None:
        """Forget every series with these label values; other labels may have any.

        Only for metrics that one process writes alone: files shared by several processes keep what they have.
        """
        wanted = {self._names.index(name): value for name, value in labels.items()}
        for key in [key for key in self._children if all(key[index] == value for index, value in wanted.items())]:
            self._forget(key)

    def keep(self, keys: Collection[tuple[str, ...]]) -> None:
        """Forget every series but those with these label values, in the order of the label names; same restriction."""
        for key in self._children.keys() - set(keys):
            self._forget(key)

    def _forget(self, key: tuple[str, ...]) -> None:
        del self._children[key]
        self._as_given.clear()
        self._metric.remove(*key)


class Metrics:
    """Every metric of the orchestrator. One instance a process.

    Counters and histograms of calls are written by each worker; gauges of rollouts, journal and ledger by the
    evaluator's process alone. Where `PROMETHEUS_MULTIPROC_DIR` was set before this module was imported, samples go to
    files there, for `Exposition` to add up.

    Args:
        registry: Where the metrics are registered; fresh for each instance.
        batch: Writes what is counted, where that is much; None for at once.
    """

    def __init__(self, registry: CollectorRegistry, batch: Batch | None = None) -> None:
        self.registry = registry
        self._batch = batch
        self.families: dict[str, Family[Any]] = {}
        self._calls()
        self._rollouts()
        self._house()

    def _calls(self) -> None:
        """What vehicles and operators ask, counted where it is answered."""
        rpc = ("service", "method")
        self.grpc_handled = self._counter("grpc_server_handled", "gRPC calls answered.", *rpc, "code")
        self.grpc_handling = self._histogram("grpc_server_handling_seconds", "Time to answer a gRPC call.", *rpc)
        self.checkins = self._counter("checkins", "Polls answered, by directive or failure.", "outcome")
        self.refusals = self._counter("refusals", "Vehicles that may not begin an attempt now.", "reason")
        self.permits = self._counter("permits", "Answers to AuthorizeInstall: permitted, or why not.", "outcome")
        self.events = self._counter("events", "Numbered vehicle events, by what became of them.", "outcome")
        self.contacts = self._counter("contacts", "Polls of vehicles, by their region.", "region")
        self.manifests = self._counter("manifests", "Vehicle version manifests, by what became of them.", "outcome")
        self.refused_requests = self._counter("refused_requests", "Requests refused at the edge.", "reason")
        self.downloads_broken = self._counter("downloads_broken", "Downloads that a vehicle broke off.", "reason")
        self.image_bytes = self._counter("image_bytes", "Bytes sent to vehicles, of images and of deltas.", "kind")
        self.quarantines = self._counter("quarantines", "Vehicles kept out after repeated failures.", "region")

    def _rollouts(self) -> None:
        """What the evaluator saw in its last tick. Times are fleet time."""
        where = ("rollout", "region", "hardware")
        self.attempts = self._gauge("attempts", "Attempts by state.", *where, "state")
        self.exposures = self._gauge("exposures", "Attempts with a permit: the denominator of a gate.", *where)
        self.aged = self._gauge("aged", "Exposures that reached a checkpoint.", *where, "checkpoint")
        self.silent = self._gauge("silent", "Of the aged, those without word by then.", *where, "checkpoint")
        self.silence_expected = self._gauge(
            "silence_expected", "Of the aged, those that would be silent as usual.", *where, "checkpoint"
        )
        self.rollout_status = self._gauge("rollout_status", "1 for the status a rollout has.", "rollout", "status")
        self.rollout_epoch = self._gauge(
            "rollout_epoch", "Version of a rollout; every transition raises it.", "rollout"
        )
        self.rollout_changed = self._gauge(
            "rollout_changed_timestamp_seconds", "When a rollout last made a transition.", "rollout"
        )
        self.cases_open = self._gauge("cases_open", "Vehicles that a rollout hurt, or may have.", "rollout")
        self._gate()
        self._regions()
        self._judgement()

    def _judgement(self) -> None:
        """What is compared with what, what stands still, and what was lost before a permit."""
        where, one = ("rollout", "region", "hardware"), ("rollout",)
        self.controls = self._gauge("controls", "Vehicles that wait by a coin and reached it.", *where, "checkpoint")
        self.controls_silent = self._gauge("controls_silent", "Of the controls, the silent.", *where, "checkpoint")
        early = ("rollout", "habit", "checkpoint", "group")
        self.habit_silence = self._gauge("habit_silence", "Of frequent callers, at an earlier age.", *early)
        self.brakes = self._gauge("brakes", "Parts of a rollout that stand still.", *one, "kind")
        self.hold_final = self._gauge("hold_final", "Holds, of all or of a part, that need a person.", *one)
        self.signals = self._gauge("signals", "Signals from outside that are beyond their limit.", *one, "kind")
        aging = ("rollout", "signal", "scope")
        self.signal_age = self._gauge("signal_age_ratio", "Age of a signal, of how long it is good.", *aging)
        self.lost = self._gauge("failed_before_permit", "Attempts that failed without a permit.", *where)
        self.grants_aged = self._gauge("grants_aged", "Grants as old as the first checkpoint.", *one)
        self.grants_silent = self._gauge("grants_silent", "Of these, the silent without a permit.", *one)
        self.at_risk = self._gauge("slots_at_risk", "Slots without a permit.", *one)
        self.grant_ceiling = self._gauge("grant_ceiling", "Slots without a permit that may be held.", *one)

    def _gate(self) -> None:
        """What the gate weighs, against what it is weighed with; of several scopes the worst."""
        self.gate_verdict = self._gauge("gate_verdict", "1 for what the gate says now.", "rollout", "verdict")
        self.gate_evidence = self._gauge(
            "gate_evidence_ratio",
            "Evidence of a broken limit, its logarithm as a share of what halts.",
            *("rollout", "quantity"),
        )
        self.gate_probability = self._gauge(
            "gate_probability_ratio", "Probability that a limit is broken.", "rollout", "quantity"
        )
        self.gate_hold_above = self._gauge(
            "gate_hold_above_ratio", "Probability of a broken limit that holds.", "rollout", "told_by"
        )
        self.failure_limit = self._gauge("failure_limit_ratio", "Failures that a plan accepts.", "rollout")
        self.permit_allowance = self._gauge("permit_allowance", "Permits that may still be given now.", "rollout")
        self.young_exposures = self._gauge(
            "young_exposures", "Exposures that have not reached the first checkpoint.", "rollout"
        )
        self.blast_budget = self._gauge(
            "blast_budget", "Vehicles that may be hurt at worst by young exposures.", "rollout"
        )

    def _regions(self) -> None:
        """Where each region of a rollout stands, and the fleet by region."""
        region = ("rollout", "region")
        self.region_phase = self._gauge("region_phase", "1 for the phase a region is in.", *region, "phase")
        self.region_wave = self._gauge("region_wave", "Number of the wave a region is in, from 1.", *region)
        self.rollout_waves = self._gauge("rollout_waves", "Waves of a plan.", "rollout")
        self.wave_started = self._gauge("wave_started_timestamp_seconds", "When a region's wave began.", *region)
        self.wave_least = self._gauge(
            "wave_least_seconds", "Least time that a region's wave takes: soak or first checkpoint.", *region
        )
        self.in_flight = self._gauge("in_flight", "Attempts that hold a slot.", *region)
        self.in_flight_limit = self._gauge("in_flight_limit", "Attempts that may hold a slot at once.", *region)
        self.region_dark = self._gauge("region_dark", "1 while a region's network seems to be down.", *region)
        self.vehicles_waiting = self._gauge(
            "vehicles_waiting", "Vehicles that the plan is for and that do not run its release.", *region
        )
        self.vehicles = self._gauge(
            "vehicles", "Vehicles by the release that their last manifest proved.", "region", "version"
        )

    def _house(self) -> None:
        """How the service itself is."""
        own: dict[str, Any] = {"namespace": PREFIX, "registry": self.registry}
        single: dict[str, Any] = {**own, "multiprocess_mode": "mostrecent"}
        self.evaluator_tick = Histogram(
            "evaluator_tick_seconds", "Time of an evaluator tick.", buckets=LATENCY_S, **own
        )
        self.evaluator_last_tick = Gauge(
            "evaluator_last_tick_timestamp_seconds", "Machine time of the last finished tick.", **single
        )
        self.fleet_time = Gauge("fleet_time_timestamp_seconds", "Fleet time at the last finished tick.", **single)
        self.fleet_time_ahead = self._gauge(
            "fleet_time_ahead_seconds", "How far the store's date is behind fleet time.", "process", mode="livemax"
        )
        self.journal_lag = Gauge("journal_lag_entries", "Journal entries that the ledger has not yet.", **single)
        self.vehicles_registered = Gauge("vehicles_registered", "Vehicles in the inventory.", **single)
        self.ledger_entries = self._counter("ledger_entries", "Entries written to the ledger.", "kind")
        self.store_up = self._gauge("store_up", "Whether a process reaches the store.", "process", mode="livemin")
        self.certificate_expiry = self._gauge(
            "certificate_expiry_timestamp_seconds", "When a certificate of ours ends.", "certificate", mode="livemin"
        )
        self.evaluator_failures = self._counter(
            "evaluator_failures", "Ticks that failed, by what failed: store, ledger, or a defect of ours.", "part"
        )
        self.child_restarts = self._counter("child_restarts", "Restarts of a child that ended unasked.", "child")
        self.child_stuck = self._counter("child_stuck", "Children that gave no sign of life and were ended.", "child")
        self.store_call = Histogram(
            "store_call_seconds", "Time of a small question to the store.", buckets=LATENCY_S, **own
        )
        self.store_durable = self._gauge(
            "store_durable", "Whether what is acknowledged is on disk, by who guarantees it.", "by", mode="livemin"
        )
        self.store_memory = Gauge("store_memory_bytes", "Memory that the store's data take.", **single)
        self.store_file = Gauge("store_file_bytes", "Size of the store's append-only file.", **single)
        self.disk_free = self._gauge("disk_free_bytes", "Free space where a folder lies.", "folder")
        self.disk_size = self._gauge("disk_size_bytes", "Size of the disk where a folder lies.", "folder")
        self.metadata_expiry = self._gauge(
            "metadata_expiry_timestamp_seconds", "When metadata ends, fleet time.", "repository", "role"
        )
        self.signatures_lacking = self._gauge(
            "signatures_lacking", "Signatures that a pending change of keys or lists still waits for.", "change"
        )
        self.delta_saved = self._gauge(
            "delta_saved_bytes", "What deltas save a vehicle from one release to another.", "version", "from_version"
        )
        self.build_info = self._gauge("build_info", "1, with what runs here.", "version", mode="livemax")

    def show_status(
        self, rollout: str, *, status: str, statuses: Sequence[str], verdict: str, verdicts: Sequence[str]
    ) -> None:
        """Set the 0/1 series of a rollout's status and verdict: exactly one of each is 1, none when it is empty."""
        for each in statuses:
            self.rollout_status.labels(rollout=rollout, status=each).set(each == status)
        for each in verdicts:
            self.gate_verdict.labels(rollout=rollout, verdict=each).set(each == verdict)

    def show_vehicles(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Set the vehicles by (region, version); whatever was shown before and is not among these is forgotten."""
        self.vehicles.keep(counts)
        for (region, release), count in counts.items():
            self.vehicles.labels(region=region, version=release).set(count)

    def show_savings(self, saved: Mapping[tuple[str, str], int]) -> None:
        """Set what deltas save by (version, version they start from); what is not among these is forgotten."""
        self.delta_saved.keep(saved)
        for (release, start), size in saved.items():
            self.delta_saved.labels(version=release, from_version=start).set(size)

    def drop_rollout(self, rollout: str) -> None:
        """Forget every series of a rollout that has been over for long."""
        for family in self.families.values():
            if "rollout" in family.label_names:
                family.drop(rollout=rollout)

    def _counter(self, name: str, about: str, *labels: str) -> Family[Counter]:
        metric = Counter(name, about, labels, namespace=PREFIX, registry=self.registry)
        batched = self._batch.counter if self._batch else None
        return self._family(f"{PREFIX}_{name}_total", Family(metric, labels, batched=batched))

    def _gauge(
        self, name: str, about: str, *labels: str, mode: Literal["mostrecent", "livemin", "livemax"] = "mostrecent"
    ) -> Family[Gauge]:
        metric = Gauge(name, about, labels, namespace=PREFIX, registry=self.registry, multiprocess_mode=mode)
        return self._family(f"{PREFIX}_{name}", Family(metric, labels, series_max=GAUGE_SERIES_MAX))

    def _histogram(self, name: str, about: str, *labels: str) -> Family[Histogram]:
        metric = Histogram(name, about, labels, namespace=PREFIX, registry=self.registry, buckets=LATENCY_S)
        batched = self._batch.histogram if self._batch else None
        return self._family(f"{PREFIX}_{name}", Family(metric, labels, batched=batched))

    def _family(self, name: str, family: Family[M]) -> Family[M]:
        self.families[name] = family
        return family


class Exposition(Collector):
    """The text that Prometheus scrapes: this process's registry, with the workers' files added.

    Args:
        own: Registry of this process.
        workers_folder: What workers have for `PROMETHEUS_MULTIPROC_DIR`; None when there are none. This process must
            not have it set itself.
    """

    def __init__(self, own: CollectorRegistry, workers_folder: Path | None) -> None:
        self._own = own
        self._folder = workers_folder

    def __call__(self) -> bytes:
        """Everything, in the text format of Prometheus."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """One family a metric. Counts of processes are added up; of a gauge that stands here, the workers' is ignored:
        a metric without labels is 0 in every process that never set it.
        """
        families: dict[str, Metric] = {}
        for family in (*self._own.collect(), *self._workers()):
            merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            _merge(merged, family)
        yield from families.values()

    def _workers(self) -> Iterator[Metric]:
        if self._folder is None:
            return
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(self._folder))  # type: ignore[no-untyped-call]
        yield from registry.collect()


def _merge(merged: Metric, family: Metric) -> None:
    """Add a family's samples; without the times of creation, which cannot be added up."""
    known = {(sample.name, *sorted(sample.labels.items())): index for index, sample in enumerate(merged.samples)}
    for sample in family.samples:
        if sample.name.endswith("_created"):
            continue
        index = known.get((sample.name, *sorted(sample.labels.items())))
        if index is None:
            merged.samples.append(sample)
        elif family.type != "gauge":
            first = merged.samples[index]
            merged.samples[index] = first._replace(value=first.value + sample.value)


def prepare_workers_folder(folder: Path) -> None:
    """Make the folder that workers share, empty: counts of an earlier run would be added to this one's."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.db"):
        file.unlink()


def count_as_one_process() -> None:
    """In a worker, before its metrics are made: name its files once by its process id.

    The client would ask the kernel for the id at every count, to notice a fork; a worker never forks.
    """
    pid = os.getpid()
    values.ValueClass = values.MultiProcessValue(lambda: pid)  # type: ignore[no-untyped-call]


def forget_worker(folder: Path, pid: int) -> None:
    """Drop the gauges of a worker that has ended; what it counted stays."""
    mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
