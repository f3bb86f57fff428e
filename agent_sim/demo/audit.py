"""The honest end: four records of the same run are laid side by side, and any difference fails the demonstration.

The simulator knows what each vehicle truly runs; the orchestrator counts; the ledger replays; Prometheus is told.
None is made from another.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table
from rich.text import Text

from agent_sim.demo.view import View

SAMPLE = re.compile(r"(?P<name>[a-z_]+)\{(?P<labels>[^}]*)\} (?P<value>[0-9.e+-]+)")
LABEL = re.compile(r'([a-z_]+)="([^"]*)"')
SOURCES = ("simulator", "orchestrator", "ledger", "/metrics")


@dataclass(frozen=True, slots=True)
class Fact:
    """One number, by each record that knows it."""

    what: str
    values: Mapping[str, int]

    @property
    def agreed(self) -> bool:
        """Whether all that know it say the same."""
        return len(set(self.values.values())) == 1


@dataclass(slots=True)
class Audit:
    """Everything that was compared."""

    facts: list[Fact] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """Differences between lists, in words."""

    @property
    def passed(self) -> bool:
        """Whether nothing differs."""
        return not self.faults and all(fact.agreed for fact in self.facts)

    def table(self) -> Table:
        """The comparison for people."""
        table = Table(header_style="bold", box=None)
        table.add_column("fact")
        for source in SOURCES:
            table.add_column(source, justify="right")
        table.add_column("")
        for fact in self.facts:
            verdict = Text("✓ agree", "green") if fact.agreed else Text("✗ DIFFER", "bold red")
            table.add_row(fact.what, *(str(fact.values.get(source, "–")) for source in SOURCES), verdict)
        return table


def vehicles_agree(audit: Audit, simulator: Mapping[str, Any], vehicles: Sequence[Mapping[str, Any]]) -> None:
    """Vehicle by vehicle: what it runs against what its last manifest proved."""
    claimed = {vehicle["vehicle_id"]: vehicle["installed_release"] for vehicle in vehicles}
    true = simulator["vehicles"]
    for vehicle_id in sorted(claimed.keys() ^ true.keys()):
        audit.faults.append(f"{vehicle_id} is known to one side only")
    healthy = {vehicle_id: truth for vehicle_id, truth in true.items() if not truth["bricked"]}
    for vehicle_id, truth in sorted(healthy.items()):
        if claimed.get(vehicle_id) != truth["release"]:
            audit.faults.append(f"{vehicle_id} runs {truth['release']}, on record is {claimed.get(vehicle_id)}")
    for release in sorted({truth["release"] for truth in healthy.values()}):
        members = {vehicle_id for vehicle_id, truth in healthy.items() if truth["release"] == release}
        proven = sum(claimed.get(vehicle_id) == release for vehicle_id in members)
        audit.facts.append(Fact(f"healthy vehicles on {release}", {"simulator": len(members), "orchestrator": proven}))


def rollout_agrees(
    audit: Audit, view: View, simulator: Mapping[str, Any], ledger: Mapping[str, Any], metrics: str
) -> None:
    """A rollout's counts by all four."""
    rollout_id = str(view.document["name"]).removeprefix("rollouts/")
    states = view.states()
    replayed = Counter({state: int(number) for state, number in ledger["states"].items()})
    if states != replayed:
        audit.faults.append(f"{rollout_id}: counters say {dict(states)}, the ledger replays {dict(replayed)}")
    scraped = scrape(metrics, "outrider_attempts", rollout_id, by="state")
    if +states != +scraped:
        audit.faults.append(f"{rollout_id}: counters say {dict(states)}, /metrics says {dict(scraped)}")
    permits, settled = told(simulator, rollout_id)
    audit.facts.append(
        Fact(
            f"{rollout_id}: permits",
            {
                "simulator": permits,
                "orchestrator": view.total().exposed,
                "ledger": int(ledger["permitted"]),
                "/metrics": sum(scrape(metrics, "outrider_exposures", rollout_id, by="region").values()),
            },
        )
    )
    audit.facts.append(
        Fact(
            f"{rollout_id}: succeeded",
            {
                "simulator": settled,
                "orchestrator": states["succeeded"],
                "ledger": replayed["succeeded"],
                "/metrics": scraped["succeeded"],
            },
        )
    )


def told(simulator: Mapping[str, Any], rollout_id: str) -> tuple[int, int]:
    """Of one rollout, by the vehicles themselves: permits received, and attempts whose release was booted and
    attested.
    """
    permits = settled = 0
    for vehicle in simulator["vehicles"].values():
        mine = [attempt_id for attempt_id in vehicle["permits"] if attempt_id.startswith(f"{rollout_id}.")]
        permits += len(mine)
        lost = vehicle["bricked"] and vehicle["attempts"][-1]["attempt_id"] in mine
        settled += len([attempt_id for attempt_id in mine if attempt_id in vehicle["installs"]]) - lost
    return permits, settled


def cases_agree(audit: Audit, simulator: Mapping[str, Any], cases: Sequence[Mapping[str, Any]]) -> None:
    """Every vehicle that was hurt stands in a case, and no other; but a permit that went unused is rightly one, too."""
    vehicles = simulator["vehicles"]
    bricked = {vehicle_id for vehicle_id, truth in vehicles.items() if truth["bricked"]}
    listed = {case["vehicle_id"] for case in cases if not unused(vehicles, case)}
    audit.facts.append(Fact("vehicles hurt", {"simulator": len(bricked), "orchestrator": len(listed)}))
    for vehicle_id in sorted(bricked ^ listed):
        words = "is bricked without a case" if vehicle_id in bricked else "is in a case, but well"
        audit.faults.append(f"{vehicle_id} {words}")


def unused(vehicles: Mapping[str, Mapping[str, Any]], case: Mapping[str, Any]) -> bool:
    """Whether the vehicle of a case is well because it never installed what it had a permit for."""
    truth = vehicles.get(case["vehicle_id"])
    return truth is not None and not truth["bricked"] and case["attempt_id"] not in truth["installs"]


def scrape(metrics: str, name: str, rollout_id: str, *, by: str) -> Counter[str]:
    """Sums of one metric of one rollout by one label."""
    sums: Counter[str] = Counter()
    for sample in SAMPLE.finditer(metrics):
        labels = dict(LABEL.findall(sample["labels"]))
        if sample["name"] == name and labels.get("rollout") == rollout_id:
            sums[labels[by]] += round(float(sample["value"]))
    return sums
