"""What an error that a server replies with means to whoever called.

Owns the wording, and which of them are worth another try; leaves to `pipeline` what becomes of the connection.
"""

from __future__ import annotations

from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from orchestrator.store.base import StoreError, StoreRefusedError, StoreUnavailableError

_PASSING = (ClusterDownError, TryAgainError)
_PASSING_CODES = ("BUSY", "MISCONF", "NOREPLICAS", "MASTERDOWN", "UNBLOCKED")
"""Refusals of a server that may recover: a failing disk included."""


class ElsewhereError(StoreUnavailableError):
    """Another node of the cluster serves this slot; the call was not carried out, so that it may be sent there.

    Attributes:
        slot: which.
        host: of that node; empty where it is the one that was asked.
        port: of that node.
    """

    def __init__(self, slot: int, host: str, port: int) -> None:
        super().__init__(f"slot {slot} is served by {host}:{port}")
        self.slot = slot
        self.host = host
        self.port = port


class DemotedError(StoreUnavailableError):
    """The server is a replica now; its address may lead to another one already."""


def worded(error: ResponseError) -> StoreError:
    """The error in our words."""
    text = str(error)
    if isinstance(error, MovedError):
        return ElsewhereError(error.slot_id, error.host, error.port)
    if isinstance(error, AskError):
        # Never followed: functions name no key that exists, so the new node would begin with empty ones, while the
        # real ones are still on their way.
        return StoreUnavailableError(f"slot {error.slot_id} is on its way to another node: wait until it is there")
    if isinstance(error, ReadOnlyError):
        return DemotedError(f"the store's server is a replica now and takes no writes: {text}")
    if isinstance(error, OutOfMemoryError) or text.startswith("OOM"):
        return StoreUnavailableError(f"the store is at its memory limit, raise its `maxmemory`: {text}")
    if isinstance(error, _PASSING) or text.startswith(_PASSING_CODES):
        return StoreUnavailableError(f"the store takes no writes now: {text}")
    if "Function not found" in text:
        return StoreRefusedError("the store lost its function library: restart the orchestrator to load it")
    return StoreError(f"the store refused a call: {text}")
