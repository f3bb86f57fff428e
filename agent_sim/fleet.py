"""A fleet on disk, made from a scenario: who drives where with what, keys, factory images, and the CSV for import.

The same scenario makes the same vehicles; keys are new each time, because secrets never come from a seed.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from agent_sim.connectivity import Connectivity
from agent_sim.ecu import InstalledImage
from agent_sim.errors import FleetFolderError
from agent_sim.flash import Flash
from agent_sim.images import build_image, image_path, release_counter
from agent_sim.scenario import ConnectivityPart, Scenario
from agent_sim.vehicle import EcuSpec, VehicleSpec, spec_from_json
from agent_sim.vehicle_folder import VehicleFolder
from signing.files import write_atomically

CSV_FIELDS = (
    "vehicle_id",
    "model",
    "hardware",
    "region",
    "cohort",
    "tags",
    "ecu_serial",
    "hardware_id",
    "primary",
    "public_key",
    "zone",
)
_T = TypeVar("_T")


def dealt(seed: int, what: str, shares: Sequence[tuple[_T, float]], count: int) -> list[_T]:
    """`count` values in the proportions of `shares`, exact to one, in an order that the seed decides."""
    exact = [share * count for _, share in shares]
    counts = [int(value) for value in exact]
    by_remainder = sorted(range(len(shares)), key=lambda index: counts[index] - exact[index])
    for index in by_remainder[: count - sum(counts)]:
        counts[index] += 1
    values = [value for (value, _), times in zip(shares, counts, strict=True) for _ in range(times)]
    random.Random(f"{seed}/{what}").shuffle(values)  # noqa: S311 - the seed decides
    return values


def make_vehicles(scenario: Scenario) -> list[VehicleSpec]:
    """The vehicles of a scenario, by id."""
    size, seed = scenario.fleet.size, scenario.seed
    regions = dealt(seed, "regions", list(scenario.regions.items()), size)
    cohorts = dealt(seed, "cohorts", list(scenario.cohorts.items()), size)
    models = dealt(seed, "models", list(scenario.models.items()), size)
    variants = dealt(seed, "hardware", [(part, part.share) for part in scenario.hardware], size)
    links = dealt(seed, "connectivity", [(part, part.share) for part in scenario.connectivity], size)
    owners = dealt(seed, "owners", [(part.owner, part.share) for part in scenario.owners], size)
    tagged = {tag: dealt(seed, f"tag/{tag}", [(True, s), (False, 1 - s)], size) for tag, s in scenario.tags.items()}
    phases = random.Random(f"{seed}/phases")  # noqa: S311 - the seed decides
    vehicles = []
    for index in range(size):
        vehicle_id = f"{scenario.fleet.prefix}-{index:06d}"
        vehicles.append(
            VehicleSpec(
                vehicle_id=vehicle_id,
                model=models[index],
                hardware=variants[index].name,
                region=regions[index],
                cohort=cohorts[index],
                tags=tuple(sorted(tag for tag, values in tagged.items() if values[index])),
                ecus=tuple(
                    EcuSpec(f"{vehicle_id}-e{number}", hardware_id, primary=number == 0)
                    for number, hardware_id in enumerate(variants[index].ecus)
                ),
                connectivity=_connectivity(links[index], phases),
                owner=owners[index],
                zone=scenario.zones.get(regions[index], ""),
            )
        )
    return vehicles


def _connectivity(link: ConnectivityPart, phases: random.Random) -> Connectivity:
    costs, wifi = link.is_metered, link.has_home_wifi
    if not link.period_ms:
        return Connectivity(link.model, metered=costs, home_wifi=wifi)
    phase_ms = phases.randrange(link.period_ms)
    return Connectivity(link.model, link.period_ms, link.online_ms, phase_ms, metered=costs, home_wifi=wifi)


def fleet_csv(vehicles: Sequence[VehicleSpec], public_keys: Mapping[str, str]) -> str:
    """The inventory for `outrider fleet import`, one row a control unit.

    Args:
        vehicles: whom.
        public_keys: SubjectPublicKeyInfo in base64 by serial.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_FIELDS)
    for spec in vehicles:
        head = (spec.vehicle_id, spec.model, spec.hardware, spec.region, spec.cohort, ";".join(spec.tags))
        for ecu in spec.ecus:
            primary = "true" if ecu.primary else "false"
            writer.writerow((*head, ecu.serial, ecu.hardware_id, primary, public_keys[ecu.serial], spec.zone))
    return out.getvalue()


@dataclass(frozen=True, slots=True)
class FactoryImage:
    """What the factory wrote into every unit of one hardware id."""

    hardware_id: str
    file: Path
    installed: InstalledImage


@dataclass(frozen=True, slots=True)
class Fleet:
    """A fleet on disk."""

    folder: Path
    vehicles: tuple[VehicleSpec, ...]
    factory: Mapping[str, FactoryImage]
    """By hardware id."""

    @property
    def csv(self) -> Path:
        """The inventory for `outrider fleet import`."""
        return self.folder / "fleet.csv"

    @property
    def states(self) -> Path:
        """Where vehicles persist."""
        return self.folder / "states.jsonl"

    @property
    def flash(self) -> Flash:
        """The bytes of what its units run."""
        return Flash(self.folder / "flash", {image.installed.sha256: image.file for image in self.factory.values()})

    def home(self, vehicle_id: str) -> VehicleFolder:
        """Where a vehicle's files are."""
        return VehicleFolder(self.folder / "vehicles" / vehicle_id)


def build_fleet(scenario: Scenario, folder: Path, *, progress: Callable[[int, int], None] | None = None) -> Fleet:
    """Make a fleet: keys, factory images, CSV.

    Args:
        scenario: what it is like.
        folder: where; must not hold a fleet.
        progress: told (vehicles made, of how many).

    Raises:
        FleetFolderError: there is a fleet already, or the folder cannot be written.
    """
    if (folder / "fleet.json").exists():
        raise FleetFolderError(f"{folder} holds a fleet already; remove it or choose another folder")
    vehicles = make_vehicles(scenario)
    public_keys: dict[str, str] = {}
    try:
        (folder / "factory").mkdir(parents=True, exist_ok=True)
        for hardware_id in _hardware_ids(scenario):
            content = build_image(hardware_id, scenario.fleet.release, scenario.fleet.image_bytes, scenario.seed)
            write_atomically(_factory_file(folder, hardware_id, scenario.fleet.release), content, durable=False)
        for number, spec in enumerate(vehicles, start=1):
            public_keys |= VehicleFolder(folder / "vehicles" / spec.vehicle_id).make_keys(spec)
            if progress is not None:
                progress(number, len(vehicles))
        write_atomically(folder / "fleet.csv", fleet_csv(vehicles, public_keys).encode(), durable=False)
        record = {"scenario": fingerprint(scenario), "vehicles": [spec.to_json() for spec in vehicles]}
        write_atomically(folder / "fleet.json", json.dumps(record).encode(), durable=False)
    except OSError as error:
        raise FleetFolderError(f"cannot write the fleet to {folder}: {error}; choose another folder") from error
    return load_fleet(scenario, folder)


def load_fleet(scenario: Scenario, folder: Path) -> Fleet:
    """Read a fleet.

    Raises:
        FleetFolderError: there is none, it is damaged, or it was made from another scenario.
    """
    try:
        record = json.loads((folder / "fleet.json").read_bytes())
        if record["scenario"] != fingerprint(scenario):
            raise FleetFolderError(f"{folder} was made from a scenario with another fleet; make a new one elsewhere")
        vehicles = tuple(spec_from_json(data) for data in record["vehicles"])
        factory = {
            hardware_id: _factory_image(folder, hardware_id, scenario) for hardware_id in _hardware_ids(scenario)
        }
    except FileNotFoundError as error:
        raise FleetFolderError(f"no fleet at {folder}: run `outrider-sim fleet SCENARIO --out {folder}`") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FleetFolderError(f"the fleet at {folder} cannot be read: {error!r}; make it again") from error
    return Fleet(folder, vehicles, factory)


def fingerprint(scenario: Scenario) -> str:
    """Digest of everything that decides which vehicles a scenario makes."""
    fields = {"seed", "fleet", "regions", "cohorts", "models", "tags", "hardware", "connectivity", "owners", "zones"}
    return sha256(scenario.model_dump_json(include=fields).encode()).hexdigest()


def _hardware_ids(scenario: Scenario) -> list[str]:
    return sorted({hardware_id for part in scenario.hardware for hardware_id in part.ecus})


def _factory_file(folder: Path, hardware_id: str, version: str) -> Path:
    return folder / "factory" / f"{hardware_id}-{version}.img"


def _factory_image(folder: Path, hardware_id: str, scenario: Scenario) -> FactoryImage:
    version = scenario.fleet.release
    file = _factory_file(folder, hardware_id, version)
    content = file.read_bytes()
    digest = sha256(content).hexdigest()
    installed = InstalledImage(image_path(hardware_id, version), len(content), digest, release_counter(version))
    return FactoryImage(hardware_id, file, installed)
