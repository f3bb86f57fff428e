"""Structured logs, in one form for every process and library.

Owns log set-up, and the promise that no line carries a VIN.
"""

from __future__ import annotations

import logging
import re
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

import structlog

_VIN = re.compile(r"\b(?=[A-HJ-NPR-Z]*[0-9])(?=[0-9]*[A-HJ-NPR-Z])[A-HJ-NPR-Z0-9]{17}\b")


def configure_logging(*, level: str, log_format: Literal["auto", "json", "console"], stream: TextIO) -> None:
    """Send every log line of this process, those of libraries too, to `stream` in one form.

    Args:
        level: Least severity: `debug`, `info`, `warning` or `error`.
        log_format: `json` is one object a line, `console` is for people, `auto` asks whether `stream` is a terminal.
        stream: Usually standard error.
    """
    console = log_format == "console" or (log_format == "auto" and stream.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _without_vin,
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty()) if console else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _without_vin(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A VIN is personal data: drop fields of that name and blot out whatever looks like one."""
    return {key: _blotted(value) for key, value in event.items() if key.lower() != "vin"}


def _blotted(value: Any) -> Any:
    match value:
        case str():
            return _VIN.sub("[vin]", value)
        case dict():
            return {key: _blotted(item) for key, item in value.items() if str(key).lower() != "vin"}
        case list() | tuple():
            return [_blotted(item) for item in value]
        case _:
            return value
