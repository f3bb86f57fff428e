"""Whole-system seeded runs: engine, services, memory store and simulated agents on virtual time; see `world`."""
