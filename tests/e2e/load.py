"""How heavy the traffic is in which things are killed: the fleet, its limits, and the plan of its rollouts.

Owns numbers and both files made of them. Leaves to `preparing` the data folder, to `rolling` the road.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

FACTORY, GOOD, BAD = "1.0.0", "1.1.0", "1.2.0"
IMAGE_BYTES = 30_000
SCENARIO = """\
name = "kill"
seed = 11

[fleet]
size = {size}
release = "{factory}"
image_bytes = 16384

[regions]
eu = 0.4
us = 0.4
apac = 0.2

[cohorts]
canary = 0.2
general = 0.8

[[hardware]]
name = "gen1"
share = 0.6
ecus = ["acme-gw-1", "acme-brake-1"]

[[hardware]]
name = "gen2"
share = 0.4
ecus = ["acme-gw-2", "acme-brake-2"]

[[connectivity]]
model = "always"
share = 0.8

[[connectivity]]
model = "tunnel"
share = 0.2

[[faults]]
kind = "silent_brick"
releases = ["{bad}"]
hardware = ["gen2"]

[[faults]]
kind = "link_break"
probability = 0.3

[[faults]]
kind = "offline"
probability = 0.1
duration = "20m"

[[faults]]
kind = "power_loss"
probability = 0.05

[[faults]]
kind = "lost_replies"
probability = 0.02

[agent]
first_poll_within = "5m"
install = "2m"
reboot = "1m"
"""
PLAN = """\
name: {name}
release: {release}
waves:
  - {{name: canary, cohorts: [canary], soak: 5m}}
  - {{name: general, soak: 5m}}
regions: {{{regions}}}
gate: {{failure_ratio: 2%, sample: 5, checkpoints: [20m], silence_reference: [10%]}}
limits: {{in_flight: {in_flight}, blast_budget: {budget}, starts_per_minute: {starts}, permit_valid: 15m, attempts: 5}}
deadlines: {{permitted: 2h, installing: 30m, rebooting: 30m, verifying: 30m}}
holdout: 0%
"""


@dataclass(frozen=True, slots=True)
class Load:
    """A fleet and what its rollouts may do at once."""

    size: int = 60
    """Vehicles."""
    scale: int = 200
    """Fleet seconds in a second of the machine."""
    tick_s: float = 0.4
    """Machine seconds between two looks of the evaluator."""
    in_flight: Mapping[str, int] = field(default_factory=lambda: {"apac": 6, "eu": 10, "us": 10})
    """Attempts that hold a slot, by region."""
    in_flight_in_all: int = 20
    starts_per_minute: int = 6
    """Permits in a minute of fleet time."""
    blast_budget: int = 16
    """Young exposures while nothing is known."""
    releases: tuple[str, ...] = (FACTORY, GOOD, BAD)
    """Published; the first is what vehicles leave the factory with."""
    workers: int = 1
    connection_age_s: int = 1800
    """Machine time after which a worker ends a connection."""

    def scenario(self) -> str:
        """The fleet, as `outrider-sim` reads it."""
        return SCENARIO.format(size=self.size, factory=FACTORY, bad=BAD)

    def plan(self, name: str, release: str) -> str:
        """A plan that takes a release to the whole fleet within the limits."""
        return PLAN.format(
            name=name,
            release=release,
            regions=", ".join(f"{region}: {{in_flight: {most}}}" for region, most in self.in_flight.items()),
            in_flight=self.in_flight_in_all,
            budget=self.blast_budget,
            starts=self.starts_per_minute,
        )


SMALL = Load()
"""What most tests drive."""
SIZE = SMALL.size
