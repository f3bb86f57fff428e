"""What requests of operators share: pages, names of resources, reasons."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeAlias, TypeVar

import grpc

from orchestrator.model.ids import VEHICLE_ID_PATTERN, VehicleId
from orchestrator.rpc import convert
from orchestrator.service.errors import InvalidInputError, Violation
from orchestrator.service.fleet import PAGE_DEFAULT, PAGE_MAX

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

Item = TypeVar("Item")

PAGE_TOKEN_PATTERN = re.compile(r"[0-9]{0,15}")


def page(items: Sequence[Item], page_size: int, page_token: str) -> tuple[Sequence[Item], str]:
    """A page of a short list and the token of the next.

    Raises:
        InvalidInputError: size or token is none.
    """
    begin, count = page_bounds(page_size, page_token)
    end = begin + count
    return items[begin:end], str(end) if end < len(items) else ""


def page_bounds(page_size: int, page_token: str) -> tuple[int, int]:
    """Where a page begins, 0 for the first, and how many it holds at most.

    Raises:
        InvalidInputError: size or token is none.
    """
    if not 0 <= page_size <= PAGE_MAX or not PAGE_TOKEN_PATTERN.fullmatch(page_token):
        raise InvalidInputError("page_size or page_token is not one that this server gave", reason="PAGE_MALFORMED")
    return int(page_token or "0"), page_size or PAGE_DEFAULT


def checked_vehicle_id(value: str) -> VehicleId:
    """A vehicle id, or a refusal.

    Raises:
        InvalidInputError: it is none.
    """
    if not VEHICLE_ID_PATTERN.fullmatch(value):
        raise convert.malformed([Violation("vehicle_id", f"`{value[:80]}` is no vehicle id")])
    return VehicleId(value)


def vehicle_id_of(name: str) -> VehicleId:
    """The id in a resource name `vehicles/{vehicle_id}`.

    Raises:
        InvalidInputError: it is no such name.
    """
    prefix, _, value = name.partition("/")
    if prefix != "vehicles":
        raise InvalidInputError(f"name must be vehicles/ID, not `{name[:80]}`", reason="NAME_MALFORMED")
    return checked_vehicle_id(value)


def required(reason: str) -> str:
    """A reason, or a refusal.

    Raises:
        InvalidInputError: it is empty.
    """
    if not reason.strip():
        raise InvalidInputError(
            "a reason is required", reason="REASON_MISSING", remedy="say why with --reason; it lands in the ledger"
        )
    return reason
