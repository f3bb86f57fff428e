"""The faults that Outrider has to live through, each by its number, and what must hold then.

Owns the words. Leaves to tests which of them causes a fault: they cite it with `@pytest.mark.fault("F4", "P7")`.
F1 to F20 are the twenty of the design; P1 to P9 are what befalls a machine, against real processes alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MARK = "pytest.mark.fault"


@dataclass(frozen=True, slots=True)
class ListedFault:
    """One fault."""

    key: str
    """As tests cite it."""
    happens: str
    """What goes wrong."""
    holds: str
    """What must be true all the same."""


TWENTY: Sequence[ListedFault] = (
    ListedFault(
        "F1",
        "The orchestrator dies between reserve, assign and reply.",
        "No cap is exceeded, no slot is lost for ever.",
    ),
    ListedFault("F2", "Acknowledgements are doubled, out of order or weeks late.", "Counters equal the model."),
    ListedFault("F3", "A failover drops the last writes.", "A halt never comes back to life."),
    ListedFault("F4", "The store is out of reach.", "Grants and permits stop within ten seconds."),
    ListedFault("F5", "A stale evaluator wakes after a minute.", "Its transition is refused."),
    ListedFault("F6", "Clocks are ten minutes off, either way.", "The same decisions."),
    ListedFault(
        "F7", "A thousand grants and permits at once during a halt.", "None after it beyond permits already out."
    ),
    ListedFault(
        "F8", "A release bricks one vehicle in twenty, in silence.", "The harm stays below the published bound."
    ),
    ListedFault("F9", "A variant of 0.5 % bricks.", "That stratum stops after a few."),
    ListedFault("F10", "The network of a region is down.", "The region is paused; nothing is held or halted."),
    ListedFault(
        "F11",
        "Jeep 2025: installed well, fails while driving a day later; downloaded copies are still there.",
        "A signal holds; nothing is installed after permits have lapsed.",
    ),
    ListedFault("F12", "Rivian 2023: the wrong build under the right name.", "Promotion refuses another digest."),
    ListedFault(
        "F13",
        "CrowdStrike 2024: a payload that silences whoever takes it, even while it is fetched.",
        "Whatever is sent is staged; the blast budget bounds the harm.",
    ),
    ListedFault(
        "F14", "FCA 2018: one trim in one region reboots for ever.", "That stratum halts; a reboot loop is a failure."
    ),
    ListedFault(
        "F15", "Tesla 10.3: pulled an hour after it went out.", "A halt reaches every state before the permit."
    ),
    ListedFault(
        "F16", "100,000 vehicles call again within ten seconds.", "Refused early, with a delay; no amplification."
    ),
    ListedFault(
        "F17",
        "Shards move during a ramp; the function library is missing or old; the store is out of memory.",
        "Closed, not open: nobody is admitted on doubt.",
    ),
    ListedFault("F18", "Versions N and N+1 read each other's records.", "Read rightly or refused, never misread."),
    ListedFault("F19", "Another language draws the hash.", "The same vehicles; a ramp never takes one back."),
    ListedFault(
        "F20",
        "Whole systems from seeds, on virtual time: 300 in `make test`, more by `make simulate`.",
        "Every promise holds in every run.",
    ),
)

PROCESSES: Sequence[ListedFault] = (
    ListedFault(
        "P1",
        "kill -9 of worker, supervisor with its evaluator, signer and store, at random, a hundred times under load.",
        "No acknowledged event lost, none counted twice, no cap exceeded, no grant after a stop; serves again in 5 s"
        " where it has a processor.",
    ),
    ListedFault(
        "P2", "The disk is full.", "Refused and said; what was acknowledged stays; goes on when there is room."
    ),
    ListedFault("P3", "The store is at its memory limit.", "Refused and said; goes on by itself when there is room."),
    ListedFault("P4", "The disk turns read-only.", "As P2."),
    ListedFault("P5", "fsync fails.", "Nothing is acknowledged that may not be on disk."),
    ListedFault("P6", "The store is paused (SIGSTOP).", "Calls end by their deadline; grants stop; goes on by itself."),
    ListedFault("P7", "The network between orchestrator and store is cut.", "As P6."),
    ListedFault("P8", "The machine's date jumps.", "Fleet time never goes back; no mass of deadlines falls due."),
    ListedFault("P9", "Builds of two versions serve one store.", "Each call is done whole or refused with a remedy."),
)


def all_faults() -> Sequence[ListedFault]:
    """Every fault, in the order of the page."""
    return (*TWENTY, *PROCESSES)
