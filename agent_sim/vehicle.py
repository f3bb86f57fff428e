"""One simulated vehicle as the factory made it: ids, units, where it belongs. A value; knows nothing of software."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from agent_sim.connectivity import Connectivity, LinkModel
from agent_sim.errors import FleetFolderError
from agent_sim.owner import USUAL_OWNER, Manner, Owner


@dataclass(frozen=True, slots=True)
class EcuSpec:
    """One control unit."""

    serial: str
    """Unique in the fleet."""
    hardware_id: str
    primary: bool


@dataclass(frozen=True, slots=True)
class VehicleSpec:
    """One vehicle."""

    vehicle_id: str
    model: str
    hardware: str
    """Hardware variant."""
    region: str
    cohort: str
    tags: tuple[str, ...]
    ecus: tuple[EcuSpec, ...]
    """The Primary first."""
    connectivity: Connectivity
    owner: Owner = USUAL_OWNER
    zone: str = ""
    """IANA time zone of its own; empty means that of its region."""

    @property
    def primary(self) -> EcuSpec:
        """The unit that runs the agent."""
        return next(ecu for ecu in self.ecus if ecu.primary)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def spec_from_json(data: Any) -> VehicleSpec:
    """Read back what `to_json` wrote.

    Raises:
        FleetFolderError: it is something else.
    """
    try:
        connectivity = {**data["connectivity"], "model": LinkModel(data["connectivity"]["model"])}
        owner = {**data["owner"], "manner": Manner(data["owner"]["manner"])}
        return VehicleSpec(
            **{
                **data,
                "tags": tuple(data["tags"]),
                "ecus": tuple(EcuSpec(**ecu) for ecu in data["ecus"]),
                "connectivity": Connectivity(**connectivity),
                "owner": Owner(**owner),
            }
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FleetFolderError(f"a vehicle in fleet.json cannot be read: {error!r}; make the fleet again") from error
