"""The real Prometheus and Alertmanager for tests: found, or their absence said with the remedy; started, and ended.

Debian's packages `prometheus` and `prometheus-alertmanager` bring all four programs. `make system-packages` installs
them. Without them tests are skipped, but not where nothing may be: in CI as root.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port
from tests.processes import eventually

REMEDY = "apt-get install prometheus prometheus-alertmanager"
START_TIMEOUT_S = 60.0
HTTP_TIMEOUT_S = 30.0


def program(name: str) -> str:
    """Path of a program; skips the test, or fails it in CI as root, when it is not installed."""
    found = shutil.which(name)
    if found:
        return found
    if os.environ.get("CI") and os.getuid() == 0:
        pytest.fail(f"{name} is not installed, and in CI nothing is skipped: {REMEDY}")
    pytest.skip(f"{name} is not installed: {REMEDY}")


def run(name: str, *arguments: str | Path, stdin: bytes = b"") -> str:
    """What a program says when it ends well.

    Raises:
        AssertionError: it does not; what it said.
    """
    done = subprocess.run(
        [program(name), *map(str, arguments)], input=stdin, capture_output=True, timeout=60, check=False
    )
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


@dataclass(frozen=True)
class Prometheus:
    """One that runs."""

    url: str

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an API call.

        Raises:
            AssertionError: it refuses; why.
        """
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}{query}", timeout=HTTP_TIMEOUT_S) as reply:
                answer = json.load(reply)
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error
        except OSError as error:
            raise AssertionError(f"Prometheus does not answer: {error}") from error
        assert answer["status"] == "success", answer
        return answer["data"]

    def ask(self, expr: str) -> list[dict[str, Any]]:
        """Series that an expression answers now."""
        found: list[dict[str, Any]] = self.get("query", query=expr)["result"]
        return found

    def alerts(self, name: str, state: str = "firing") -> list[dict[str, Any]]:
        """Alerts of a name in a state."""
        return [
            alert
            for alert in self.get("alerts")["alerts"]
            if alert["labels"]["alertname"] == name and alert["state"] == state
        ]


@contextmanager
def a_prometheus(folder: Path, config: Path, *arguments: str) -> Iterator[Prometheus]:
    """A Prometheus that scrapes as `config` says; dead afterwards."""
    port = free_port()
    command = [
        program("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        *arguments,
    ]
    with _running(command, folder / "prometheus.log"):
        prometheus = Prometheus(f"http://127.0.0.1:{port}")
        eventually(lambda: prometheus.get("status/runtimeinfo"), timeout_s=START_TIMEOUT_S, what="Prometheus answers")
        yield prometheus


@contextmanager
def _running(command: Sequence[str], log_path: Path) -> Iterator[None]:
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        yield
    finally:
        process.kill()
        process.wait()
