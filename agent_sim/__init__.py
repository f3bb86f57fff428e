"""Simulated vehicles: a client nobody could tell from a car fleet.

Pure, without IO or clock: `agent` (the Primary's state machine), `car` (the agent's body: power, flash memory, faults,
connectivity). Shell: `driver` and what it uses. Shares only `signing` and the wire with the orchestrator.
"""
