"""What an installation can choose: names, ranges, defaults and where they come from.

Owns the settings file DIR/outrider.toml, its overriding by environment and command line, and the words in which a bad
value is refused. Leaves to `app` what each value is used for. Nothing here is secret except a password in `store_url`
or `ledger_url`, which is never shown.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

FILE_NAME = "outrider.toml"
ENV_PREFIX = "OUTRIDER_"

Port = Annotated[int, Field(ge=0, le=65535)]
LifeDays = Annotated[int, Field(ge=1, le=825)]


class SettingsError(Exception):
    """Settings that cannot be used.

    Attributes:
        problems: One line each, with the cause and the remedy.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Settings(BaseSettings):
    """Every setting with its default. Built by `load`; a direct call takes nothing from file or environment."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=ENV_PREFIX, allow_inf_nan=False)

    trust_domain: str = Field(
        "outrider.local",
        pattern=r"^[a-z0-9]([a-z0-9.-]{0,253}[a-z0-9])?$",
        description="SPIFFE trust domain in every certificate; cannot change once certificates are out",
    )
    host: str = Field("127.0.0.1", min_length=1, max_length=253, description="Address that every port listens on")
    port_enrollment: Port = Field(0, description="Port for first contact of vehicles; 0 takes a free one")
    port_vehicles: Port = Field(0, description="Port for vehicles; 0 takes a free one")
    port_operators: Port = Field(0, description="Port for operators; 0 takes a free one")
    port_web: Port = Field(0, description="Port for /metrics, /healthz and /readyz; 0 takes a free one")
    port_images: Port = Field(0, description="Port for images and image metadata by HTTPS; 0 takes a free one")
    port_director: Port = Field(
        0, description="Port for a vehicle's own Director files by HTTPS with its certificate; 0 takes a free one"
    )
    workers: int = Field(1, ge=1, le=64, description="Processes that answer gRPC; they share the ports")

    store_url: str = Field(
        "",
        pattern=r"^$|^(redis|rediss|unix|redis\+cluster|rediss\+cluster)://.+$",
        repr=False,
        description="Redis or Valkey 7.0 or newer, as redis://, rediss:// or unix://, a cluster as redis+cluster:// or "
        "rediss+cluster:// with some of its nodes; empty starts a private one",
    )
    images: str = Field(
        "",
        pattern=r"^$|^/.+$|^[a-z0-9]+://[^/]+.*$",
        description="Where images lie: a folder by its whole path, or s3://bucket/prefix with the extra `s3`; empty "
        "for DIR/image-repo/targets",
    )

    store_durability: Literal["always", "provider"] = Field(
        "always",
        description="Who sees to it that acknowledged data is on disk: `always` is checked (appendfsync always), "
        "`provider` trusts whoever runs `store_url`",
    )
    store_replicas_min: int = Field(
        0,
        ge=0,
        le=5,
        description="Replicas of `store_url` that must confirm a change before it is acknowledged; a failover loses "
        "what no replica has",
    )
    ledger_url: str = Field(
        "",
        pattern=r"^$|^postgres(ql)?://.+$",
        repr=False,
        description="Database of the ledger, as postgresql://; empty keeps it in a SQLite file in the data folder",
    )

    poll_s: int = Field(
        3600, ge=60, le=86_400, description="Fleet seconds between polls of a vehicle with nothing to do"
    )
    poll_live_s: int = Field(
        300,
        ge=60,
        le=86_400,
        description="Fleet seconds between polls while an attempt is live and lacks more than leave to install; "
        "at most `poll_s`",
    )
    quarantine_after: int = Field(
        3,
        ge=0,
        le=100,
        description="Rollouts in a row that a vehicle may fail in before it is kept out of all; 0 for however many",
    )
    scale: float = Field(
        1.0, gt=0, le=3600, description="How fast fleet time runs; above 1 for simulations only; fixed at first start"
    )
    fleet_origin: AwareDatetime | None = Field(
        None, description="Fleet time at first start, with zone; unset means the date of that moment"
    )
    evaluator_tick_s: float = Field(
        1.0,
        ge=0.05,
        le=3.0,
        description="Machine seconds between two looks of the evaluator; grants stop 10 s after its last",
    )

    certificate_server_days: LifeDays = Field(90, description="Life of server certificates, days")
    certificate_vehicle_days: LifeDays = Field(90, description="Life of vehicle certificates, days")
    certificate_operator_days: LifeDays = Field(365, description="Life of operator certificates, days")

    events_max: int = Field(
        64, ge=1, le=64, description="Events that are taken from one check-in; those beyond come again"
    )
    vehicle_message_bytes_max: int = Field(
        1_048_576, ge=131_072, le=16_777_216, description="Largest message that a vehicle may send, bytes"
    )
    operator_message_bytes_max: int = Field(
        4_194_304, ge=131_072, le=67_108_864, description="Largest message that an operator may send, bytes"
    )
    connection_age_s: int = Field(
        1800,
        ge=2,
        le=86_400,
        description="Seconds, give or take a tenth, until a gRPC connection is closed in good order and made anew",
    )
    drain_s: float = Field(10.0, ge=0, le=300, description="Seconds that calls may take to end after SIGTERM")

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severity that is logged")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`json` for machines, `console` for people, `auto` by whether standard error is a terminal"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is handed in: `load` reads file and environment itself and so can name the origin of a fault."""
        return (init_settings,)

    @property
    def fleet_origin_ms(self) -> int | None:
        """Fleet time at first start, milliseconds since the Unix epoch; None for the date of that moment."""
        return None if self.fleet_origin is None else round(self.fleet_origin.timestamp() * 1000)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_values(cls, value: object) -> object:
        """Refuse `true` where a number is meant: it would silently become 1."""
        if isinstance(value, bool):
            raise ValueError("true and false are not values of any setting")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        faults = []
        if self.poll_live_s > self.poll_s:
            faults.append(
                f"poll_live_s ({self.poll_live_s}) > poll_s ({self.poll_s}): a live attempt must not be polled "
                "less often; lower poll_live_s or raise poll_s"
            )
        if self.store_durability == "provider" and not self.store_url:
            faults.append(
                "store_durability = provider without store_url: the private store is always durable; "
                "set store_url or remove store_durability"
            )
        if self.store_replicas_min and not self.store_url:
            faults.append(
                f"store_replicas_min ({self.store_replicas_min}) without store_url: the private store has no replicas; "
                "set store_url or remove store_replicas_min"
            )
        ports = {name: getattr(self, name) for name in type(self).model_fields if name.startswith("port_")}
        for number in sorted({port for port in ports.values() if port and list(ports.values()).count(port) > 1}):
            names = ", ".join(name for name, port in ports.items() if port == number)
            faults.append(f"{names} are all {number}: give each a port of its own, or 0 for a free one")
        if faults:
            raise ValueError("\n".join(faults))
        return self


def load(folder: Path, *, overrides: Mapping[str, object] | None = None) -> Settings:
    """Read the settings of a data folder.

    Args:
        folder: Holds `outrider.toml`; without that file the defaults hold.
        overrides: From the command line, by name; they win over the environment, which wins over the file.

    Raises:
        SettingsError: One line for each bad value, whatever their origin.
    """
    path = folder / FILE_NAME
    in_file = _read_file(path)
    in_environment = EnvSettingsSource(Settings)()
    given = dict(overrides or {})
    problems = [*_unknown(in_file, f"{path}: "), *_unknown(given, ""), *_misspelt_environment()]
    values = {**in_file, **in_environment, **given}
    try:
        settings = Settings(**{name: value for name, value in values.items() if name in Settings.model_fields})
    except ValidationError as exc:
        for error in exc.errors():
            name = str(error["loc"][0]) if error["loc"] else ""
            problems.extend(_lines(error, _origin(name, path, in_environment, given)))
        raise SettingsError(tuple(problems)) from exc
    if problems:
        raise SettingsError(tuple(problems))
    return settings


def default_toml() -> str:
    """The text of a fresh `outrider.toml`: every setting explained, none set, so that defaults may improve later."""
    lines = ["# Settings of this Outrider installation. Remove a leading # to change a value.", ""]
    for name, field in Settings.model_fields.items():
        lines += [f"# {field.description}.", f"#{name} = {_toml(field.default)}", ""]
    return "\n".join(lines)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except tomllib.TOMLDecodeError as exc:
        raise SettingsError((f"{path}: not TOML: {exc}; correct that line",)) from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError((f"{path}: cannot be read: {exc}; see to it that this user can read it as text",)) from exc


def _unknown(values: Mapping[str, object], where: str) -> list[str]:
    return [
        f"{where}{name}: no such setting; {_suggestion(name)}" for name in values if name not in Settings.model_fields
    ]


def _misspelt_environment() -> list[str]:
    """Variables that look like a setting's. Others with our prefix are left alone: they may be the command line's."""
    problems = []
    for variable in sorted(os.environ):
        name = variable.removeprefix(ENV_PREFIX).lower()
        if not variable.startswith(ENV_PREFIX) or name in Settings.model_fields:
            continue
        if close := difflib.get_close_matches(name, Settings.model_fields, n=1, cutoff=0.85):
            problems.append(f"{variable}: no such setting; did you mean {ENV_PREFIX}{close[0].upper()}?")
    return problems


def _suggestion(name: str) -> str:
    close = difflib.get_close_matches(name, Settings.model_fields, n=1)
    return f"did you mean {close[0]}?" if close else "docs/settings.md lists them all"


def _origin(name: str, path: Path, in_environment: Mapping[str, object], given: Mapping[str, object]) -> str:
    if not name:
        return ""
    if name in given:
        return f"--{name.replace('_', '-')}"
    if name in in_environment:
        return f"{ENV_PREFIX}{name.upper()}"
    return f"{path}: {name}"


def _lines(error: ErrorDetails, origin: str) -> list[str]:
    """One line a fault; faults between settings bring their own remedy and no single origin."""
    message = error["msg"].removeprefix("Value error, ")
    if not origin:
        return message.splitlines()
    name = str(error["loc"][0])
    if name == "ledger_url":
        return [f"{origin}: must begin with postgresql:// and name a database, or be empty"]
    if name == "store_url":
        return [
            f"{origin}: must begin with redis://, rediss:// or unix:// and name a server, or with redis+cluster:// or "
            "rediss+cluster:// and name nodes, or be empty"
        ]
    for told, tell in (("Input should be", "must be"), ("Input should have", "must have"), ("String should", "must")):
        message = message.replace(told, tell)
    default = Settings.model_fields[name].default
    default_text = "unset" if default is None else _toml(default)
    return [f"{origin} = {error['input']!r}: {message}; correct it, or remove it for the default ({default_text})"]


def _toml(value: object) -> str:
    match value:
        case None:
            return "2030-01-01T00:00:00Z"
        case str():
            return f'"{value}"'
        case datetime():
            return value.isoformat()
        case _:
            return str(value)
