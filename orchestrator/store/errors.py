"""What a store can raise; `base` offers it too."""

from __future__ import annotations


class StoreError(Exception):
    """Base of what a store can raise."""


class StoreUnavailableError(StoreError):
    """The store did not answer, or not in time: the outcome is unknown, every operation may be repeated."""


class StoreRefusedError(StoreError):
    """The store cannot be used as it is (too old, not durable, other data, other version): the message says the
    remedy.
    """
