"""What goes wrong on the wire, as a scenario ordered it: which call, how often, and how.

Owns the choice; `server` does it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc


def _always(_: Any) -> bool:
    return True


@dataclass
class Fault:
    """One thing that goes wrong."""

    method: str
    times: int = 1
    """So often; then it is over."""
    when: Callable[[Any], bool] = _always
    """Of the request; others pass."""
    status: grpc.StatusCode | None = None
    """Answered in place of a reply; nothing was done."""
    reason: str = ""
    """ErrorInfo with `status`."""
    retry_s: float | None = None
    """RetryInfo with `status`, machine time."""
    lose_reply: bool = False
    """The work is done, and nobody is told."""
    delay_s: float = 0.0
    """Machine time before the work."""
    hang: bool = False
    """Never answered."""
    change: Callable[[Any], Any] | None = None
    """Of the reply: returns another."""
    hits: int = 0
    """How often it struck."""


@dataclass
class Mischief:
    """Everything that goes wrong in one scenario, in the order in which it was ordered."""

    faults: list[Fault] = field(default_factory=list)

    def order(self, fault: Fault) -> Fault:
        """From now on."""
        self.faults.append(fault)
        return fault

    def clear(self) -> None:
        """From now on everything works."""
        self.faults.clear()

    def strike(self, method: str, request: Any) -> Fault | None:
        """The fault that this call meets, which is then used up by one."""
        for fault in self.faults:
            if fault.method == method and fault.hits < fault.times and fault.when(request):
                fault.hits += 1
                return fault
        return None
