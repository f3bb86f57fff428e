"""Runs the real thing for tests: `outrider keys init`, `outrider serve`, the command line, real signals.

Owns processes and their end: whatever is started here is dead when `an_installation` is left, also when the test
failed. Leaves vehicles to `tests.vehicles`. Everything listens on 127.0.0.1 at free ports.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import grpc
from outrider.v1 import case_pb2_grpc, fleet_pb2_grpc, release_pb2_grpc, rollout_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.clock import MachineClock
from tests.evidence import believe, evidence_fields

T = TypeVar("T")

TRUST_DOMAIN = "test.outrider.invalid"
PRIMARY_HARDWARE = "acme-gw-2"
SECONDARY_HARDWARE = "acme-bcm-2"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
CALL_TIMEOUT_S = 20.0
POLL_S = 0.05
SETTINGS: Mapping[str, object] = {
    "trust_domain": TRUST_DOMAIN,
    "evaluator_tick_s": 0.2,
    "drain_s": 5.0,
    "poll_s": 3600,
    "poll_live_s": 60,
}
OUTRIDER = Path(sys.executable).with_name("outrider")
Labels = frozenset[tuple[str, str]]


def eventually(ask: Callable[[], T], *, timeout_s: float = 15.0, what: str = "") -> T:
    """What `ask` answers once it is true; for what another process does in its own time.

    Args:
        ask: asked again and again; its AssertionErrors count as "not yet".
        timeout_s: machine time; far more than it should take.
        what: said when it never became true.
    """
    machine = MachineClock()
    ends_ms = machine.monotonic_ms() + timeout_s * 1000
    while True:
        try:
            answer = ask()
        except AssertionError:
            if machine.monotonic_ms() > ends_ms:
                raise
        else:
            if answer:
                return answer
            if machine.monotonic_ms() > ends_ms:
                raise AssertionError(f"not within {timeout_s:g} s: {what or ask!r}; the last answer was {answer!r}")
        time.sleep(POLL_S)


@dataclass(frozen=True)
class CliOutcome:
    """How one command line ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """What `--output json` wrote."""
        return json.loads(self.stdout)


@dataclass(frozen=True)
class OperatorApi:
    """The operator services over one channel."""

    channel: grpc.Channel
    fleet: fleet_pb2_grpc.FleetServiceStub
    releases: release_pb2_grpc.ReleaseServiceStub
    rollouts: rollout_pb2_grpc.RolloutServiceStub
    cases: case_pb2_grpc.CaseServiceStub


@dataclass(frozen=True)
class ImageSpec:
    """One image of a release to be published."""

    hardware_id: str
    content: bytes


@dataclass
class Installation:
    """A data folder and the `outrider serve` that runs on it."""

    data: Path
    process: subprocess.Popen[bytes] | None = None
    channels: list[grpc.Channel] = field(default_factory=list)

    # -- life ---------------------------------------------------------------------------------------------------

    def start(self, *arguments: str) -> None:
        """Start `outrider serve` and wait until it told its ports and is ready."""
        assert self.process is None or self.process.poll() is not None, "it runs already"
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [str(OUTRIDER), "serve", "--data", str(self.data), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        eventually(self._serves, timeout_s=START_TIMEOUT_S, what="outrider serve is ready")

    def _serves(self) -> bool:
        assert self.process is not None
        code = self.process.poll()
        if code is not None:
            raise RuntimeError(f"outrider serve ended with {code}:\n{self.log_text()[-4000:]}")
        try:
            # An earlier run left its addresses behind: only those of this process count.
            if self.endpoints["pid"] != self.process.pid:
                return False
            return self.get("/readyz")[0] == 200
        except (OSError, ValueError):
            return False

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_TIMEOUT_S)

    def kill(self) -> None:
        """SIGKILL the supervisor; its children end by themselves, its store lives on."""
        assert self.process is not None
        children = self.children()
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)
        eventually(lambda: not any(map(is_alive, children)), what="the children of a killed supervisor end")

    def kill_store(self) -> None:
        """SIGKILL the store."""
        os.kill(self.store_pid, signal.SIGKILL)

    def kill_worker(self) -> int:
        """SIGKILL a gRPC worker; which one."""
        pid = self.workers()[0]
        os.kill(pid, signal.SIGKILL)
        return pid

    def restart(self, *arguments: str) -> None:
        """SIGTERM if it runs, then start again on the same data."""
        if self.process is not None and self.process.poll() is None:
            self.terminate()
        self.start(*arguments)

    def close(self) -> None:
        """End everything that was started here, whatever state it is in."""
        for channel in self.channels:
            channel.close()
        if self.process is None:
            return
        children = self.children()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pid in (*children, *self._left_behind_store()):
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)

    def _left_behind_store(self) -> Sequence[int]:
        try:
            return [self.store_pid]
        except (OSError, ValueError):
            return []

    # -- processes ----------------------------------------------------------------------------------------------

    def children(self) -> list[int]:
        """Process ids of the supervisor's direct children: signer, workers, and a store that it started itself."""
        assert self.process is not None
        try:
            listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        except OSError:
            return []
        return [int(pid) for pid in listed.split()]

    def workers(self) -> list[int]:
        """Process ids of the gRPC workers."""
        return [pid for pid in self.children() if process_name(pid) == "outrider-worker"]

    @property
    def store_pid(self) -> int:
        """Process id of the embedded store."""
        return int(json.loads((self.data / "store" / "store.json").read_text())["pid"])

    # -- what it says -------------------------------------------------------------------------------------------

    @property
    def log_path(self) -> Path:
        """Where the server's output goes."""
        return self.data.parent / f"{self.data.name}.log"

    def log_text(self) -> str:
        """Everything the server wrote to its output, all runs."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_events(self, event: str) -> list[dict[str, Any]]:
        """Log lines of one event."""
        lines = (json.loads(line) for line in self.log_text().splitlines() if line.startswith("{"))
        return [line for line in lines if line.get("event") == event]

    @property
    def endpoints(self) -> Mapping[str, Any]:
        """What it told about itself."""
        return cast("dict[str, Any]", json.loads((self.data / "endpoints.json").read_text()))

    @property
    def server_ca(self) -> bytes:
        """What verifies the server."""
        return (self.data / "provisioning" / "enrolment-ca.pem").read_bytes()

    def get(self, path: str) -> tuple[int, str]:
        """GET from the web port."""
        try:
            with urllib.request.urlopen(self.endpoints["web"] + path, timeout=CALL_TIMEOUT_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def get_image(self, path: str, byte_range: str = "") -> tuple[int, bytes]:
        """GET from the images port, by TLS that is verified."""
        where = urllib.parse.urlsplit(self.endpoints["images"])
        context = ssl.create_default_context(cadata=self.server_ca.decode())
        assert where.hostname is not None
        connection = http.client.HTTPSConnection(where.hostname, where.port, context=context, timeout=CALL_TIMEOUT_S)
        try:
            connection.request("GET", path, headers={"Range": byte_range} if byte_range else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def metrics(self) -> dict[tuple[str, Labels], float]:
        """A scrape: values by name and labels; a moment later, as workers write what they counted a little behind."""
        time.sleep(2 * POLL_S)
        status, text = self.get("/metrics")
        assert status == 200, text
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def metric(self, name: str, **labels: str) -> float:
        """The sum of one metric's series that have these labels; 0 when there is none."""
        wanted = frozenset(labels.items())
        return sum(value for (found, has), value in self.metrics().items() if found == name and wanted <= has)

    # -- who operates it ----------------------------------------------------------------------------------------

    def cli(self, *arguments: str | Path) -> CliOutcome:
        """Run the command line on this installation, answers as JSON."""
        return run_cli("--data", self.data, "--output", "json", *arguments)

    def must(self, *arguments: str | Path) -> Any:
        """The answer of a command line that has to work."""
        outcome = self.cli(*arguments)
        assert outcome.exit_code == 0, f"{arguments}: {outcome.stderr}\n{self.log_text()[-2000:]}"
        return outcome.json

    def api(self, operator: str = "admin", *, port: str = "operators") -> OperatorApi:
        """The operator API as this operator."""
        channel = self.channel(port, *read_identity(self.data / "operators" / operator))
        return OperatorApi(
            channel=channel,
            fleet=fleet_pb2_grpc.FleetServiceStub(channel),
            releases=release_pb2_grpc.ReleaseServiceStub(channel),
            rollouts=rollout_pb2_grpc.RolloutServiceStub(channel),
            cases=case_pb2_grpc.CaseServiceStub(channel),
        )

    def channel(self, port: str, key: bytes | None = None, chain: bytes | None = None) -> grpc.Channel:
        """A channel to one of the ports with a client certificate, or none; closed at the end."""
        credentials = grpc.ssl_channel_credentials(self.server_ca, key, chain)
        options = (("grpc.enable_retries", 0), ("grpc.max_receive_message_length", 64 * 1024 * 1024))
        channel = grpc.secure_channel(self.endpoints[port], credentials, options)
        self.channels.append(channel)
        return channel

    def publish(self, version: str, *, release_counter: int, images: Sequence[ImageSpec] = ()) -> Any:
        """Sign and register a release by the command line; by default small images for a Primary and a Secondary."""
        images = images or some_images(version)
        folder = self.data.parent / f"release-{version}"
        folder.mkdir(exist_ok=True)
        lines = [f"version: {version}", f"notes: Release {version}", "images:"]
        for image in images:
            file = folder / f"{image.hardware_id}.img"
            file.write_bytes(image.content)
            lines.append(
                f"  - {{file: {image.hardware_id}.img, hardware_id: {image.hardware_id}, "
                f"release_counter: {release_counter}, {evidence_fields(file, version=version)}}}"
            )
        believe(self.data)
        (folder / "release.yaml").write_text("\n".join(lines) + "\n")
        return self.must("release", "publish", folder / "release.yaml")

    def write(self, name: str, text: str) -> Path:
        """A file beside the data folder."""
        path = self.data.parent / name
        path.write_text(text)
        return path


def some_images(version: str) -> Sequence[ImageSpec]:
    """Small images of a release for a Primary and a Secondary, different for each version."""
    return [
        ImageSpec(hardware_id, f"{hardware_id} {version} ".encode() * 200)
        for hardware_id in (PRIMARY_HARDWARE, SECONDARY_HARDWARE)
    ]


def run_cli(*arguments: str | Path, timeout_s: float = 180.0) -> CliOutcome:
    """Run `outrider` as a process of its own."""
    done = subprocess.run(
        [str(OUTRIDER), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return CliOutcome(done.returncode, done.stdout, done.stderr)


def read_identity(folder: Path) -> tuple[bytes, bytes]:
    """Key and chain of an operator."""
    return (folder / "operator.key").read_bytes(), (folder / "operator.crt").read_bytes()


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def process_name(pid: int) -> str:
    """What a child calls itself; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


@contextmanager
def an_installation(folder: Path, *, start: bool = True, **settings: object) -> Iterator[Installation]:
    """A fresh installation below `folder`, serving; everything that it started is dead afterwards.

    Args:
        folder: of the test.
        start: False makes the data folder only.
        settings: into outrider.toml, besides SETTINGS.
    """
    data = folder / "data"
    data.mkdir()
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in {**SETTINGS, **settings}.items()]
    (data / "outrider.toml").write_text("".join(lines))
    outcome = run_cli("keys", "init", "--data", data)
    assert outcome.exit_code == 0, outcome.stderr
    installation = Installation(data)
    try:
        if start:
            installation.start()
        yield installation
    finally:
        installation.close()
