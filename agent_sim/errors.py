"""What can go wrong in the simulator itself, in words for whoever started it."""

from __future__ import annotations


class SimulationError(Exception):
    """Base: the message is one line with the cause and the remedy."""


class ScenarioError(SimulationError):
    """The scenario file cannot be read or says something impossible."""


class FleetFolderError(SimulationError):
    """The fleet folder is missing, incomplete, or belongs to another scenario."""


class InputFileError(SimulationError):
    """The endpoints, tokens or provisioning files cannot be used."""


class EnrollmentError(SimulationError):
    """A vehicle could not get its certificate."""


class StateError(SimulationError):
    """What a vehicle persisted cannot be read back."""


class ShardError(SimulationError):
    """One of several processes that drive a fleet failed."""


class DemoError(SimulationError):
    """A step of the demonstration failed."""
