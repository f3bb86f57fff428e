"""The reference model of a store: plain values in dictionaries, for simulations and differential tests."""

from orchestrator.store.memory.store import MemoryStore

__all__ = ["MemoryStore"]
