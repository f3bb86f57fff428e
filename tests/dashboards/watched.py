"""An installation that a real Prometheus watches by the committed rules, told faster.

Owns the telling: `faster` divides each duration of machine time. Which fault makes which alert fire is the matter of
`test_faults`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.dashboards.asked import RULES
from tests.dashboards.monitoring import Prometheus, a_prometheus, program
from tests.processes import Installation, an_installation, eventually

FACTOR = 20
"""How many times faster the rules are told: half a minute becomes one and a half seconds."""
FIRES_S = 150.0
"""Machine time within which an alert must have fired, on a machine with other work."""
MACHINE_TIMES = {"age_seconds > 30": "age_seconds > {:g}", "rate1d * 900": "rate1d * {:g}"}
"""Durations of machine time that stand in expressions as numbers."""
IN_BRACKETS = re.compile(r"\[(\d+)([smhd])\]")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def faster(text: str, factor: float) -> str:
    """Rules as they are committed, with every duration of machine time divided: `for`, ranges, and MACHINE_TIMES."""
    for words, pattern in MACHINE_TIMES.items():
        assert words in text, f"{words} is no longer in the rules"
        text = text.replace(words, pattern.format(float(words.split()[-1]) / factor))
    text = IN_BRACKETS.sub(lambda found: f"[{milliseconds(found[1] + found[2], factor)}]", text)
    return re.sub(r"(?m)^( +for: )(\w+)$", lambda found: f"{found[1]}{milliseconds(found[2], factor)}", text)


def milliseconds(duration: str, factor: float) -> str:
    """A duration like `5m`, divided."""
    return f"{int(duration[:-1]) * SECONDS[duration[-1]] * 1000 / factor:.0f}ms"


@dataclass
class Watched:
    """An installation, and the Prometheus that watches it."""

    installation: Installation
    prometheus: Prometheus

    def told(self, alert: str, **labels: str) -> dict[str, Any]:
        """The alert, once it fires with these labels."""
        return eventually(
            lambda: next((one for one in self.prometheus.alerts(alert) if labels.items() <= one["labels"].items()), {}),
            timeout_s=FIRES_S,
            what=f"{alert} fires",
        )

    def over(self, alert: str, **labels: str) -> None:
        """Wait until it no longer fires."""
        eventually(
            lambda: not [one for one in self.prometheus.alerts(alert) if labels.items() <= one["labels"].items()],
            timeout_s=FIRES_S,
            what=f"{alert} ends",
        )

    def quiet(self, alert: str) -> None:
        """It neither fires nor is about to, once the first scrape is behind us."""
        assert not self.prometheus.alerts(alert)
        eventually(lambda: not self.prometheus.alerts(alert, "pending"), what=f"{alert} is not about to fire")


@contextmanager
def watched(folder: Path, *, factor: float = FACTOR, interval: str = "1s", **settings: object) -> Iterator[Watched]:
    """An installation that is scraped."""
    program("prometheus")
    rules = folder / "rules.yaml"
    rules.write_text(faster(RULES.read_text("utf-8"), factor))
    with an_installation(folder, **settings) as installation:
        web = installation.endpoints["web"].removeprefix("http://")
        config = folder / "prometheus.yml"
        scrape = {"job_name": "outrider", "static_configs": [{"targets": [web]}]}
        pace = {"scrape_interval": interval, "evaluation_interval": interval, "scrape_timeout": interval}
        config.write_text(yaml.safe_dump({"global": pace, "rule_files": [str(rules)], "scrape_configs": [scrape]}))
        with a_prometheus(folder, config, "--storage.tsdb.min-block-duration=2h") as prometheus:
            eventually(lambda: prometheus.ask('up{job="outrider"} == 1'), timeout_s=60, what="it is scraped")
            yield Watched(installation, prometheus)
