"""A rollout as the demonstration reads it: numbers out of the JSON that `outrider` answers with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

TERMINAL = frozenset({"succeeded", "failed", "rolled_back", "rejected", "timed_out", "withdrawn"})


@dataclass(frozen=True, slots=True)
class Counts:
    """What a person asks of a group of vehicles. The first four add up to all of them, but for vehicles under way."""

    targeted: int = 0
    done: int = 0
    failed: int = 0
    silent: int = 0
    under_way: int = 0
    exposed: int = 0

    @property
    def waiting(self) -> int:
        """Targeted, and nothing of the above."""
        return max(0, self.targeted - self.done - self.failed - self.silent - self.under_way)

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            targeted=self.targeted + other.targeted,
            done=self.done + other.done,
            failed=self.failed + other.failed,
            silent=self.silent + other.silent,
            under_way=self.under_way + other.under_way,
            exposed=self.exposed + other.exposed,
        )


@dataclass(frozen=True, slots=True)
class View:
    """One answer of `outrider rollout status` or `watch`."""

    document: Mapping[str, Any]

    @property
    def status(self) -> str:
        """In one lower-case word."""
        return str(self.document["status"]).removeprefix("ROLLOUT_STATUS_").lower()

    @property
    def regions(self) -> list[tuple[str, str, str]]:
        """Region, phase and wave, what it waits for."""
        waves = list(self.document["waves"])
        rows = []
        for region in self.document["regions"]:
            phase = str(region["phase"]).removeprefix("REGION_PHASE_").lower()
            where = waves[int(region.get("wave", 0))] if phase == "rolling" else phase
            rows.append((str(region["region"]), where, str(region["waiting_for"])))
        return rows

    def cells(self) -> Iterable[tuple[str, str, str, Counts]]:
        """Region, hardware, cohort and counts of each."""
        for cell in self.document["cells"]:
            yield cell["region"], cell["hardware"], cell["cohort"], counts_of(cell)

    def total(self) -> Counts:
        """Counts over everything."""
        return sum((counts for *_, counts in self.cells()), Counts())

    def states(self) -> Counter[str]:
        """Attempts by state."""
        states: Counter[str] = Counter()
        for cell in self.document["cells"]:
            states.update({state: int(number) for state, number in cell["states"].items()})
        return states

    @property
    def live(self) -> int:
        """Attempts that are not over."""
        return sum(number for state, number in self.states().items() if state not in TERMINAL)

    @property
    def gate(self) -> Mapping[str, Any]:
        """What the gate last said."""
        report: Mapping[str, Any] = self.document["gate"]
        return report


def counts_of(cell: Mapping[str, Any]) -> Counts:
    """Counts of one cell."""
    states = {state: int(number) for state, number in cell["states"].items()}
    live = sum(number for state, number in states.items() if state not in TERMINAL)
    silent = max((int(group.get("silent", 0)) for group in cell["age_groups"]), default=0)
    # A vehicle that fell silent stays in a live state until that state's deadline.
    unheard = min(silent, live + states.get("timed_out", 0))
    return Counts(
        targeted=int(cell["targeted"]),
        done=states.get("succeeded", 0),
        failed=int(cell.get("failed", 0)),
        silent=unheard,
        under_way=max(0, live - unheard),
        exposed=int(cell.get("exposed", 0)),
    )
