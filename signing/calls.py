"""A vehicle's calls to the orchestrator: with its own identity, one at a time, none before its time, and fleet time.

Enrols and renews by itself before whatever it is asked to call (`identity` says when and keeps what has to be kept).
Owns TLS, deadlines, back-off, RetryInfo, and the fleet clock that answers carry. Leaves to the agent what to call,
and what an answer or a refusal means. Both clocks are handed in. Source: docs/agent-protocol.md, sections Ports and
identities, Enrolment and renewal, Time, Errors; P-POLL-3 to P-POLL-8.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from outrider.v1 import enrollment_pb2, vehicle_pb2
from outrider.v1.enrollment_pb2_grpc import EnrollmentServiceStub
from outrider.v1.vehicle_pb2_grpc import VehicleServiceStub

from signing.errors import CallFailedError, KeyFileError
from signing.identity import Need, VehicleIdentity
from signing.primary import REPOSITORIES

_TIMEOUT_S = 30.0
_RECEIVE_MAX_BYTES = 16 << 20
_BACKOFF_FIRST_S = 5.0
_BACKOFF_MAX_S = 1800.0
_POLL_MIN_S, _POLL_MAX_S = 60.0, 86_400.0
_FIRST_POLL_MAX_S = 600.0
_LATE_MAX_S = 600.0
_DOUBLINGS_MAX = 9
"""After so many the longest back-off is reached."""
_REFUSED = frozenset({grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED})
"""This identity may not: the longest back-off at once."""
_NO_SUCH_FILE = "METADATA_UNKNOWN"


class Calls:
    """The calls of one vehicle.

    Args:
        folder: The provisioning folder: `endpoints.json` and `vehicle.json` are read anew for each call that needs
            them, because a server moves and an operator brings another token.
        state: Where the identity is kept.
        fleet_ms: Fleet time as it was last known, milliseconds since 1970.
        now_s: The vehicle's monotonic clock, seconds; it runs on in sleep.
        today: The vehicle's date, UTC, for certificates.
        rng: Draws the jitter; None: the system's own randomness.

    Raises:
        KeyFileError: What is kept or provisioned cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        state: Path,
        fleet_ms: int,
        *,
        now_s: Callable[[], float],
        today: Callable[[], datetime],
        rng: random.Random | None = None,
    ) -> None:
        self._folder = folder
        self._identity = VehicleIdentity(state)
        self._now_s = now_s
        self._today = today
        self._rng = rng or random.SystemRandom()
        self._clock = (now_s(), fleet_ms)
        self._failures = 0
        self._call_at = 0.0
        self.scale = float(self._read("endpoints.json").get("scale", 1))
        """Fleet seconds in a second of machine time; 1 outside of simulations."""

    def due(self) -> bool:
        """Whether a call may be made now."""
        return self._now_s() >= self._call_at

    def fleet_ms(self) -> int:
        """Fleet time now, going on from the last answer."""
        at_s, then_ms = self._clock
        return int(then_ms + (self._now_s() - at_s) * 1000 * self.scale)

    def backoff_s(self, failures: int) -> float:
        """A wait in machine time after `failures` in a row before this one."""
        most_s = min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2 ** min(failures, _DOUBLINGS_MAX))
        return self._rng.uniform(0, most_s) / self.scale

    def next_poll_at(self, after_s: float) -> float:
        """When to poll again by the monotonic clock, drawn anew each time (P-POLL-1).

        Args:
            after_s: `next_poll_after` of the answer, fleet time.
        """
        bounded_s = min(max(after_s, _POLL_MIN_S), _POLL_MAX_S)
        return self._now_s() + bounded_s * self._rng.uniform(0.5, 1.5) / self.scale

    def first_poll_at(self, *, news: bool) -> float:
        """When to poll first after power on: at once with something to tell, else spread (P-POLL-7)."""
        return self._now_s() + (0.0 if news else self._rng.uniform(0, _FIRST_POLL_MAX_S)) / self.scale

    def again_at(self, retry_after_s: float) -> float:
        """When to ask for a permit again by the monotonic clock: never early, and little late (P-PERMIT-5).

        Args:
            retry_after_s: `retry_after` of the refusal, fleet time.
        """
        late_s = self._rng.uniform(0, min(retry_after_s / 2, _LATE_MAX_S))
        return self._now_s() + (retry_after_s + late_s) / self.scale

    def call(self, method: str, request: Any) -> Any:
        """Make a call of the VehicleService, after enrolling or renewing where that is due.

        Raises:
            CallFailedError: It was refused, or nobody answered; `due` says when the next may be made.
            OSError: The identity could not be kept.
        """
        if need := self._identity.need(self._today()):
            self._identify(need)
        return self._as_vehicle(method, request)

    def hand_in(self, manifest: bytes) -> bool:
        """Hand a manifest in; False when it will never be taken, so that a fresh one is due.

        Raises:
            CallFailedError: Nothing is known of it, and the same is to be handed in again.
        """
        try:
            self.call("SubmitManifest", vehicle_pb2.SubmitManifestRequest(manifest=manifest))
        except CallFailedError as error:
            if error.code != grpc.StatusCode.INVALID_ARGUMENT.name:
                raise
            return False
        return True

    def metadata(self, repository: str, name: str) -> bytes | None:
        """A file of a repository by FetchMetadata; None when there is no such file.

        Raises:
            CallFailedError: Nothing is known of it.
        """
        wire = REPOSITORIES[repository]
        try:
            answer = self.call("FetchMetadata", vehicle_pb2.FetchMetadataRequest(repository=wire, names=[name]))
        except CallFailedError as error:
            if error.reason != _NO_SUCH_FILE:
                raise
            return None
        return next((bytes(file.content) for file in answer.files if file.name == name), None)

    def _identify(self, need: Need) -> None:
        csr = self._identity.request()
        if need is Need.RENEW:
            answer = self._as_vehicle(need.value, vehicle_pb2.RenewCertificateRequest(csr=csr))
        else:
            vehicle = self._read("vehicle.json")
            request = enrollment_pb2.EnrollRequest(vehicle_id=vehicle["vehicle_id"], token=vehicle["token"], csr=csr)
            tls = grpc.ssl_channel_credentials(self._bytes("provisioning/enrolment-ca.pem"))
            answer = self._made("enrollment", tls, EnrollmentServiceStub, need.value, request)
        self._identity.take(answer.certificate_chain, answer.server_ca, self._today())

    def _as_vehicle(self, method: str, request: Any) -> Any:
        shown = self._identity.shown()
        tls = grpc.ssl_channel_credentials(shown.server_ca, shown.key, shown.chain)
        try:
            answer = self._made("vehicles", tls, VehicleServiceStub, method, request)
        except CallFailedError as error:
            if error.code in ("UNAVAILABLE", *(code.name for code in _REFUSED)):
                self._identity.unanswered()
            raise
        self._identity.answered()
        return answer

    def _made(self, port: str, tls: grpc.ChannelCredentials, service: Any, method: str, request: Any) -> Any:
        """One call on a connection of its own: polls lie so far apart that none would be kept open."""
        options = [("grpc.max_receive_message_length", _RECEIVE_MAX_BYTES)]
        try:
            with grpc.secure_channel(self._read("endpoints.json")[port], tls, options) as channel:
                answer, made = getattr(service(channel), method).with_call(request, timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            raise self._failed(method, error) from error
        self._failures = 0
        fleet_ms = dict(made.trailing_metadata() or ()).get("outrider-fleet-time-ms")
        if "fleet_time" in type(answer).DESCRIPTOR.fields_by_name and answer.HasField("fleet_time"):
            fleet_ms = answer.fleet_time.ToMilliseconds()
        if fleet_ms is not None:
            self._clock = (self._now_s(), int(fleet_ms))
        return answer

    def _failed(self, method: str, error: Any) -> CallFailedError:
        """Set when the next call may be made, by back-off and not before RetryInfo."""
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        trailing: Mapping[str, bytes] = dict(error.trailing_metadata() or ())
        for detail in status_pb2.Status.FromString(trailing.get("grpc-status-details-bin", b"")).details:
            _ = detail.Unpack(info) or detail.Unpack(retry)
        if info.reason == _NO_SUCH_FILE:
            self._failures = 0  # an answer: there is no such file
        else:
            failures = _DOUBLINGS_MAX if error.code() in _REFUSED else self._failures
            told_s = retry.retry_delay.ToTimedelta().total_seconds() * self._rng.uniform(1, 1.5)
            self._call_at = self._now_s() + max(told_s, self.backoff_s(failures))
            self._failures += 1
        return CallFailedError(method, error.code().name, info.reason, error.details())

    def _read(self, name: str) -> dict[str, Any]:
        try:
            value: dict[str, Any] = json.loads(self._bytes(name))
        except ValueError as exc:
            raise KeyFileError(f"{self._folder / name} is not JSON: {exc}") from exc
        return value

    def _bytes(self, name: str) -> bytes:
        path = self._folder / name
        try:
            return path.read_bytes()
        except OSError as exc:
            raise KeyFileError(f"cannot read {path}: {exc.strerror}; a factory puts it there") from exc
