"""Scenarios: what fleet drives, how it is connected, what goes wrong, and when a run is over. Read from TOML.

Owns the file's form and its errors; the same scenario and seed make the same fleet and the same faults.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from agent_sim.car import BodyConfig
from agent_sim.connectivity import (
    DEFAULT_HOME_WIFI,
    DEFAULT_METERED,
    DEFAULT_ONLINE_MS,
    DEFAULT_PERIOD_MS,
    LinkModel,
)
from agent_sim.errors import ScenarioError
from agent_sim.faults import Fault, FaultKind
from agent_sim.messages import Severity
from agent_sim.owner import Manner, Owner
from agent_sim.pacing import AgentConfig, Pace

FLEET_MAX = 1_000_000
_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(\d+)(ms|s|m|h|d)")
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$"
_SHARE_SLACK = 1e-6


def _duration(value: object) -> int:
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        return int(match[1]) * _UNITS_MS[match[2]]
    raise ValueError(f"{value!r} is not a duration such as '90s', '10m', '6h' or '7d'")


Duration = Annotated[int, BeforeValidator(_duration)]
"""Milliseconds of fleet time, written `90s`, `10m`, `6h`, `7d`."""
Name = Annotated[str, Field(pattern=_NAME)]
HardwareName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Shares = Annotated[dict[Name, Share], Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FleetPart(_Part):
    """How many vehicles, and what the factory put into them."""

    size: int = Field(ge=1, le=FLEET_MAX)
    prefix: Name = "sim"
    """Vehicle ids are `<prefix>-<number>`."""
    release: str = Field(default="1.0.0", pattern=r"^\d{1,3}\.\d{1,3}\.\d{1,3}$")
    """Of the factory images."""
    image_bytes: int = Field(default=65_536, ge=256, le=1 << 30)
    """Size of each factory image."""


class HardwarePart(_Part):
    """A hardware variant: a share of the fleet and its control units' hardware ids, the Primary's first."""

    name: Name
    share: Share
    ecus: tuple[HardwareName, ...] = Field(min_length=1, max_length=16)


class ConnectivityPart(_Part):
    """A share of the fleet that is connected in one way; what is not given defaults by model."""

    model: LinkModel
    share: Share
    period: Duration | None = None
    online: Duration | None = None
    metered: bool | None = None
    """Whether cellular data costs the owner money; default: tunnel."""
    home_wifi: bool | None = None
    """Whether it has wireless LAN where it stands at home; default: garage and weekly."""

    @property
    def is_metered(self) -> bool:
        """As given, or by model."""
        return self.metered if self.metered is not None else self.model in DEFAULT_METERED

    @property
    def has_home_wifi(self) -> bool:
        """As given, or by model."""
        return self.home_wifi if self.home_wifi is not None else self.model in DEFAULT_HOME_WIFI

    @property
    def period_ms(self) -> int:
        """Length of one round; 0: always online."""
        return self.period if self.period is not None else DEFAULT_PERIOD_MS.get(self.model, 0)

    @property
    def online_ms(self) -> int:
        """Time online in a round."""
        return self.online if self.online is not None else DEFAULT_ONLINE_MS.get(self.model, 0)

    @model_validator(mode="after")
    def _possible(self) -> ConnectivityPart:
        if self.model is LinkModel.ALWAYS and (self.period is not None or self.online is not None):
            raise ValueError("model 'always' takes neither period nor online")
        if self.period_ms and not 0 < self.online_ms <= self.period_ms:
            raise ValueError(f"online ({self.online_ms} ms) must be above 0 and at most period ({self.period_ms} ms)")
        return self


class FaultPart(_Part):
    """One fault, as `agent_sim.faults` describes it."""

    kind: FaultKind
    probability: Share = 1.0
    releases: tuple[str, ...] = ()
    hardware: tuple[Name, ...] = ()
    regions: tuple[Name, ...] = ()
    duration: Duration = 0
    failure_code: str = Field(default="flash_write_failed", pattern=r"^[a-z0-9_]{1,64}$")
    code: str = Field(default="", pattern=r"^[A-Z0-9-]{0,16}$")
    """Trouble code."""
    severity: Severity = Severity.WARNING
    after: Duration = 0
    ecu: str = ""
    """Hardware id of the unit that reports the code; empty means the Primary."""

    @model_validator(mode="after")
    def _possible(self) -> FaultPart:
        if (self.kind is FaultKind.OFFLINE) != (self.duration > 0):
            raise ValueError("duration is needed by kind 'offline', and by no other")
        if (self.kind is FaultKind.TROUBLE_CODE) != bool(self.code):
            raise ValueError("code, for example 'U0100', is needed by kind 'trouble_code', and by no other")
        foreign = self.model_fields_set & {"severity", "after", "ecu"}
        if foreign and self.kind is not FaultKind.TROUBLE_CODE:
            raise ValueError(f"only kind 'trouble_code' takes {', '.join(sorted(foreign))}; remove it")
        return self

    @property
    def fault(self) -> Fault:
        """As the pure core takes it."""
        return Fault(
            kind=self.kind,
            probability=self.probability,
            releases=self.releases,
            hardware=self.hardware,
            regions=self.regions,
            duration_ms=self.duration,
            failure_code=self.failure_code,
            trouble_code=self.code,
            severity=self.severity,
            after_ms=self.after,
            ecu=self.ecu,
        )


class OutagePart(_Part):
    """A network that is down for every vehicle of some regions at once, and up again for all of them at once."""

    after: Duration
    """Since the run began."""
    duration: Duration
    regions: tuple[Name, ...] = ()
    """Default: all."""

    @model_validator(mode="after")
    def _possible(self) -> OutagePart:
        if not self.duration:
            raise ValueError("duration must be above 0, for example '2h'")
        return self

    def hits(self, region: str) -> bool:
        """Whether a region is among those that it is for."""
        return not self.regions or region in self.regions


class OwnerPart(_Part):
    """A share of the owners, and how they take questions about updates."""

    answer: Manner
    share: Share
    after: Duration = 1_800_000
    again_after: Duration | None = None
    times: int | None = Field(default=None, ge=1, le=20)

    @model_validator(mode="after")
    def _possible(self) -> OwnerPart:
        if self.answer is not Manner.POSTPONE and (self.again_after is not None or self.times is not None):
            raise ValueError("only answer 'postpone' takes again_after and times; remove them")
        if self.answer is Manner.IGNORE and "after" in self.model_fields_set:
            raise ValueError("answer 'ignore' never comes and takes no after; remove it")
        return self

    @property
    def owner(self) -> Owner:
        """As the pure core takes it."""
        return Owner(
            self.answer,
            after_ms=self.after,
            again_after_ms=self.again_after if self.again_after is not None else Owner().again_after_ms,
            times=self.times if self.times is not None else Owner().times,
        )


class AgentPart(_Part):
    """How agents and vehicles behave."""

    poll_min: Duration = 60_000
    poll_max: Duration = 86_400_000
    backoff_base: Duration = 5_000
    backoff_max: Duration = 1_800_000
    first_poll_within: Duration = 600_000
    link_wake_within: Duration = 120_000
    look_every: Duration = 300_000
    """While conditions keep an attempt waiting, they are looked at this often."""
    install: Duration = 300_000
    reboot: Duration = 120_000

    @model_validator(mode="after")
    def _possible(self) -> AgentPart:
        if not 0 < self.poll_min <= self.poll_max:
            raise ValueError(f"poll_min ({self.poll_min} ms) must be above 0 and at most poll_max ({self.poll_max} ms)")
        if not self.look_every:
            raise ValueError("look_every must be above 0, for example '5m'")
        return self

    @property
    def agent(self) -> AgentConfig:
        """As the pure core takes it."""
        pace = Pace(
            poll_min_ms=self.poll_min,
            poll_max_ms=self.poll_max,
            backoff_base_ms=self.backoff_base,
            backoff_max_ms=self.backoff_max,
        )
        return AgentConfig(
            pace=pace,
            first_poll_within_ms=self.first_poll_within,
            link_wake_within_ms=self.link_wake_within,
            look_every_ms=self.look_every,
        )

    @property
    def body(self) -> BodyConfig:
        """As the pure core takes it."""
        return BodyConfig(install_ms=self.install, reboot_ms=self.reboot)


class RunPart(_Part):
    """When a run is over; a stop file or SIGTERM ends any run."""

    until: Literal["settled", "duration", "stopped"] = "stopped"
    """`settled`: every vehicle that lives runs `release` and has nothing more to tell."""
    duration: Duration | None = None
    """Fleet time; ends the run in any case when given."""
    release: str | None = None

    @model_validator(mode="after")
    def _possible(self) -> RunPart:
        if self.until == "duration" and self.duration is None:
            raise ValueError("until = 'duration' needs duration")
        if (self.until == "settled") != (self.release is not None):
            raise ValueError("release is needed by until = 'settled', and by no other")
        return self


class Scenario(_Part):
    """A whole scenario."""

    name: Name
    seed: int = Field(default=1, ge=0)
    fleet: FleetPart
    regions: Shares
    cohorts: Shares
    models: Shares = Field(default_factory=lambda: {"S": 1.0})
    tags: dict[Name, Share] = Field(default_factory=dict)
    """Share of the fleet that carries each tag; these need not sum to 1."""
    hardware: tuple[HardwarePart, ...] = Field(min_length=1)
    connectivity: tuple[ConnectivityPart, ...] = (ConnectivityPart(model=LinkModel.ALWAYS, share=1.0),)
    owners: tuple[OwnerPart, ...] = (OwnerPart(answer=Manner.AGREE, share=1.0),)
    zones: dict[Name, str] = Field(default_factory=dict)
    """IANA time zone of the vehicles of a region; those of other regions have none of their own."""
    faults: tuple[FaultPart, ...] = ()
    outages: tuple[OutagePart, ...] = ()
    agent: AgentPart = AgentPart()
    run: RunPart = RunPart()

    @model_validator(mode="after")
    def _consistent(self) -> Scenario:
        for what, shares in (
            ("regions", list(self.regions.values())),
            ("cohorts", list(self.cohorts.values())),
            ("models", list(self.models.values())),
            ("hardware", [part.share for part in self.hardware]),
            ("connectivity", [part.share for part in self.connectivity]),
            ("owners", [part.share for part in self.owners]),
        ):
            if abs(sum(shares) - 1) > _SHARE_SLACK:
                raise ValueError(f"the shares of {what} sum to {sum(shares):g}, they must sum to 1")
        variants = {part.name for part in self.hardware}
        if len(variants) < len(self.hardware):
            raise ValueError("two hardware variants have the same name")
        for fault in self.faults:
            if unknown := (set(fault.hardware) - variants) | (set(fault.regions) - set(self.regions)):
                raise ValueError(f"fault {fault.kind} names {sorted(unknown)}, which the scenario does not have")
            if fault.ecu and fault.ecu not in {ecu for part in self.hardware for ecu in part.ecus}:
                raise ValueError(f"fault {fault.kind} names ecu '{fault.ecu}', which no hardware variant has")
        for outage in self.outages:
            if unknown := set(outage.regions) - set(self.regions):
                raise ValueError(f"an outage names {sorted(unknown)}, which the scenario does not have")
        for region, zone in self.zones.items():
            if region not in self.regions:
                raise ValueError(f"zones names '{region}', which is no region of the scenario; remove it")
            if zone not in available_timezones():
                raise ValueError(f"zones.{region}: '{zone}' is no IANA time zone; write one such as 'Europe/Berlin'")
        return self


def parse_scenario(text: str, *, source: str = "scenario") -> Scenario:
    """Read a scenario.

    Args:
        text: TOML.
        source: what to call it in errors, for example the file's name.

    Raises:
        ScenarioError: it is not TOML, or a field is unknown, missing, of the wrong type, or impossible.
    """
    try:
        return Scenario.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{source}: not TOML: {error}") from error
    except ValidationError as error:
        faults = "; ".join(_fault(detail) for detail in error.errors())
        raise ScenarioError(f"{source}: {faults}") from error


def load_scenario(path: Path) -> Scenario:
    """Read a scenario file.

    Raises:
        ScenarioError: it cannot be read, or `parse_scenario` refuses it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: cannot be read: {error}; see examples/scenarios") from error
    return parse_scenario(text, source=str(path))


def parse_duration(text: str) -> int:
    """Milliseconds of fleet time in a duration such as `6h`.

    Raises:
        ScenarioError: it is something else.
    """
    try:
        return _duration(text)
    except ValueError as error:
        raise ScenarioError(str(error)) from error


def _fault(detail: Any) -> str:
    place = ".".join(str(part) for part in detail["loc"])
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        message = "unknown field"
    return f"{place}: {message}" if place else message
