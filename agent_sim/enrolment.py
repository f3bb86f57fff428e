"""Enrolment: each vehicle exchanges its single-use token and a certificate request for its certificate, once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import grpc.aio
from outrider.v1.enrollment_pb2 import EnrollRequest
from outrider.v1.enrollment_pb2_grpc import EnrollmentServiceStub

from agent_sim.errors import EnrollmentError, InputFileError
from agent_sim.vehicle_folder import VehicleFolder

if TYPE_CHECKING:
    from outrider.v1.enrollment_pb2_grpc import EnrollmentServiceAsyncStub

_AT_ONCE = 16
_TRIES = 5
_PAUSE_S = 0.5
_TIMEOUT_S = 10.0
_TRANSIENT = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}
)


def read_tokens(path: Path) -> dict[str, str]:
    """Tokens by vehicle id, from JSON lines with `vehicle_id` and `token`.

    Raises:
        InputFileError: the file cannot be read or a line is something else.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputFileError(f"cannot read tokens: {error}; write them with `outrider fleet tokens`") from error
    tokens: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            vehicle_id, token = _token(line, f"{path}:{number}")
            tokens[vehicle_id] = token
    return tokens


def _token(line: str, place: str) -> tuple[str, str]:
    try:
        row = json.loads(line)
        return str(row["vehicle_id"]), str(row["token"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputFileError(f"{place}: not a JSON line with vehicle_id and token: {error!r}") from error


async def enrol(
    homes: Mapping[str, VehicleFolder],
    tokens: Mapping[str, str],
    *,
    target: str,
    server_ca: bytes,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Enrol every vehicle that has no certificate yet; returns how many.

    Args:
        homes: vehicles' folders by id.
        tokens: by id; vehicles that have enrolled need none.
        target: `host:port` of the enrolment port.
        server_ca: authorities for its certificate, PEM.
        progress: told (vehicles done, of how many).

    Raises:
        EnrollmentError: a vehicle has no token, or was refused.
    """
    waiting = [vehicle_id for vehicle_id, home in homes.items() if not home.enrolled]
    if missing := [vehicle_id for vehicle_id in waiting if vehicle_id not in tokens]:
        raise EnrollmentError(
            f"{len(missing)} vehicles have neither certificate nor token, first {missing[0]}: "
            "import the fleet and write tokens with `outrider fleet tokens`"
        )
    if not waiting:
        return 0
    async with grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(server_ca)) as channel:
        stub: EnrollmentServiceAsyncStub = EnrollmentServiceStub(channel)
        for done in range(0, len(waiting), _AT_ONCE):
            await _enrol_some(stub, waiting[done : done + _AT_ONCE], homes, tokens)
            if progress is not None:
                progress(min(done + _AT_ONCE, len(waiting)), len(waiting))
    return len(waiting)


async def _enrol_some(
    stub: EnrollmentServiceAsyncStub,
    vehicle_ids: Sequence[str],
    homes: Mapping[str, VehicleFolder],
    tokens: Mapping[str, str],
) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for vehicle_id in vehicle_ids:
                group.create_task(_enrol_one(stub, vehicle_id, homes[vehicle_id], tokens[vehicle_id]))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors


async def _enrol_one(stub: EnrollmentServiceAsyncStub, vehicle_id: str, home: VehicleFolder, token: str) -> None:
    key, csr = home.enrolment_request()
    request = EnrollRequest(vehicle_id=vehicle_id, token=token, csr=csr)
    for attempt in range(1, _TRIES + 1):
        try:
            response = await stub.Enroll(request, timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() not in _TRANSIENT or attempt == _TRIES:
                raise EnrollmentError(
                    f"vehicle {vehicle_id} cannot enrol: {error.code().name}: {error.details()}"
                ) from error
            await asyncio.sleep(_PAUSE_S * attempt)
        else:
            home.save_enrolment(key, response.certificate_chain, response.server_ca)
            return
