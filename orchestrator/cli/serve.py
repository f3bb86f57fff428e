"""`outrider serve`: runs the orchestrator on a data folder until it is ended by a signal."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from orchestrator.app.children import ChildError
from orchestrator.app.installation import InstallationError
from orchestrator.app.supervisor import serve as serve_installation
from orchestrator.cli.errors import CliError, RefusedError
from orchestrator.cli.local import require_folder, wrong_settings
from orchestrator.cli.session import Session, local_command
from orchestrator.ledger import LedgerError
from orchestrator.settings import SettingsError
from orchestrator.store.base import StoreError
from orchestrator.web import WebError

app = typer.Typer(add_completion=False)

PANEL = "Settings (the command line wins over the environment, which wins over outrider.toml)"


class StoreDurability(StrEnum):
    """Who sees to it that acknowledged data is on disk."""

    ALWAYS = "always"
    PROVIDER = "provider"


class LogLevel(StrEnum):
    """Least severity that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How log lines look."""

    AUTO = "auto"
    JSON = "json"
    CONSOLE = "console"


def port_option(name: str, purpose: str) -> Any:
    """The option for one of the ports."""
    words = f"Port for {purpose}; 0 takes a free one."
    return typer.Option(f"--port-{name}", metavar="PORT", min=0, max=65535, help=words, rich_help_panel=PANEL)


def setting_option(name: str, metavar: str | None, words: str) -> Any:
    """The option for one of the other settings; its range is checked with all the others."""
    return typer.Option(f"--{name}", metavar=metavar, help=words, rich_help_panel=PANEL)


@local_command(app, "serve")
def serve(
    session: Session,
    workers: Annotated[int | None, setting_option("workers", "N", "Processes that answer gRPC.")] = None,
    host: Annotated[str | None, setting_option("host", "ADDRESS", "Address that every port listens on.")] = None,
    port_enrollment: Annotated[int | None, port_option("enrollment", "first contact of vehicles")] = None,
    port_vehicles: Annotated[int | None, port_option("vehicles", "vehicles")] = None,
    port_operators: Annotated[int | None, port_option("operators", "operators: this command line")] = None,
    port_web: Annotated[int | None, port_option("web", "/metrics, /healthz and /readyz")] = None,
    port_images: Annotated[int | None, port_option("images", "images by HTTPS")] = None,
    port_director: Annotated[int | None, port_option("director", "a vehicle's Director files by HTTPS")] = None,
    store_url: Annotated[
        str | None,
        setting_option(
            "store-url", "URL", "Redis or Valkey 7.0 or newer, or a cluster of them. Default: a private one."
        ),
    ] = None,
    store_durability: Annotated[
        StoreDurability | None, setting_option("store-durability", None, "Who answers for acknowledged data on disk.")
    ] = None,
    store_replicas_min: Annotated[
        int | None, setting_option("store-replicas-min", "N", "Replicas of the store that must confirm each change.")
    ] = None,
    scale: Annotated[
        float | None, setting_option("scale", "FACTOR", "How fast fleet time runs; above 1 for simulations only.")
    ] = None,
    log_level: Annotated[LogLevel | None, setting_option("log-level", None, "Least severity that is logged.")] = None,
    log_format: Annotated[LogFormat | None, setting_option("log-format", None, "How log lines look.")] = None,
) -> None:
    """Run the orchestrator on a data folder until SIGTERM or Ctrl-C. Logs go to stderr."""
    data = require_folder(session.data)
    given = {
        "workers": workers,
        "host": host,
        "port_enrollment": port_enrollment,
        "port_vehicles": port_vehicles,
        "port_operators": port_operators,
        "port_web": port_web,
        "port_images": port_images,
        "port_director": port_director,
        "store_url": store_url,
        "store_durability": store_durability,
        "store_replicas_min": store_replicas_min,
        "scale": scale,
        "log_level": log_level,
        "log_format": log_format,
    }
    overrides = {name: str(value) if isinstance(value, StrEnum) else value for name, value in given.items()}
    try:
        serve_installation(data, **{name: value for name, value in overrides.items() if value is not None})
    except SettingsError as exc:
        raise wrong_settings(data, exc) from exc
    except InstallationError as exc:
        raise RefusedError(str(exc), remedy="nothing was started") from exc
    except WebError as exc:
        raise RefusedError(str(exc), remedy="what was started has ended again") from exc
    except StoreError as exc:
        raise CliError(str(exc), remedy="the store is as it was; docs/store.md says what it has to be") from exc
    except LedgerError as exc:
        raise CliError(str(exc), remedy="nothing was started, nothing was changed") from exc
    except ChildError as exc:
        raise CliError(str(exc), remedy="the log above says why") from exc
