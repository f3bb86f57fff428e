"""What a vector is: steps that one vehicle goes through, each with files, a time and the verdict that is due."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.vectors.repository import VEHICLE, Repository, target

NOW = "2031-05-01T12:00:00Z"
ECUS = {"GW-1": "acme-gw-1", "BRAKE-1": "acme-brake-1"}
GATEWAY, BRAKE = "acme/gw-2.img", "acme/brake-2.img"
IMAGES = {GATEWAY: "gateway, version 2", BRAKE: "brake, version 2"}


@dataclass
class World:
    """Two repositories that agree, and a vehicle that is assigned both images."""

    director: Repository = field(default_factory=lambda: Repository("director", VEHICLE))
    image: Repository = field(default_factory=lambda: Repository("image"))
    now: str = NOW
    images: dict[str, str] = field(default_factory=lambda: dict(IMAGES))
    """What a mirror serves, by path."""
    installed: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.image.targets = {
            GATEWAY: target(IMAGES[GATEWAY], ["acme-gw-1"], 2),
            BRAKE: target(IMAGES[BRAKE], ["acme-brake-1"], 2),
        }
        self.director.targets = {
            GATEWAY: target(IMAGES[GATEWAY], ["acme-gw-1"], 2, ["GW-1"]),
            BRAKE: target(IMAGES[BRAKE], ["acme-brake-1"], 2, ["BRAKE-1"]),
        }

    def repository(self, name: str) -> Repository:
        """By `director` or `image`."""
        return self.director if name == "director" else self.image

    def files(self) -> dict[str, dict[str, str]]:
        """What both serve now."""
        return {"director": self.director.files(), "image": self.image.files()}

    def step(self, code: str = "", *, files: dict[str, dict[str, str]] | None = None, now: str = "") -> None:
        """One verification; without a code it has to be accepted."""
        assigned = sorted(self.director.targets)
        expect = {"verdict": "rejected", "code": code} if code else {"verdict": "accepted", "images": assigned}
        self.steps.append(
            {
                "now": now or self.now,
                "files": files if files is not None else self.files(),
                "installed": dict(self.installed),
                "images": dict(self.images),
                "expect": expect,
            }
        )


@dataclass(frozen=True)
class Vector:
    """One scenario."""

    name: str
    attacks: tuple[str, ...]
    says: str
    world: World

    def text(self) -> str:
        """The vector's file."""
        value = {
            "name": self.name,
            "attacks": list(self.attacks),
            "says": self.says,
            "vehicle": {
                "vehicle_id": VEHICLE,
                "ecus": ECUS,
                "director_root": self.world.director.first_root(),
                "image_root": self.world.image.first_root(),
            },
            "steps": self.world.steps,
        }
        return json.dumps(value, indent=1, ensure_ascii=True) + "\n"
