"""Talks to the operator API: one channel with mutual TLS, a deadline on every call, repetition where the server asks.

Owns identity files, endpoints and the fleet time that rides on every answer. Leaves wording of refusals to
`rpc_errors`.
"""

from __future__ import annotations

import json
import ssl
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, cast

import grpc
from outrider.v1.case_pb2_grpc import CaseServiceStub
from outrider.v1.fleet_pb2_grpc import FleetServiceStub
from outrider.v1.ledger_pb2_grpc import LedgerServiceStub
from outrider.v1.release_pb2_grpc import ReleaseServiceStub
from outrider.v1.rollout_pb2 import ListRolloutsRequest
from outrider.v1.rollout_pb2_grpc import RolloutServiceStub

from orchestrator.cli.errors import BadInputError, CliError, NotFoundError, UnreachableError
from orchestrator.cli.rpc_errors import details_of, to_error

Request = TypeVar("Request")
Response = TypeVar("Response")

FLEET_TIME_KEY = "outrider-fleet-time-ms"
"""Trailing metadata of every answer: fleet time, milliseconds since the Unix epoch."""
RETRIES_MAX = 3
"""Repetitions of a call that the server asked to repeat."""
RETRY_WAIT_S_MAX = 30.0
"""Longest wait before a repetition that a person at a keyboard is asked to bear."""
AWAY_RETRY_S = 1.0
"""How often a server that went away is looked for."""
RECEIVE_BYTES_MAX = 64 * 1024 * 1024
"""Largest answer: a page of a thousand vehicles, with the keys of many control units each."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the command line is, and whom it believes; all PEM."""

    certificate_chain: bytes
    private_key: bytes
    server_ca: bytes

    @classmethod
    def load(cls, folder: Path) -> Identity:
        """Read `operator.crt`, `operator.key` and `server-ca.pem`.

        Raises:
            NotFoundError: one of them is not there or cannot be read.
            BadInputError: they are not what they should be, or do not belong together.
        """
        contents = []
        for name in ("operator.crt", "operator.key", "server-ca.pem"):
            try:
                contents.append((folder / name).read_bytes())
            except OSError as exc:
                raise NotFoundError(
                    f"identity file {folder / name} cannot be read ({exc.strerror})",
                    remedy="make one with `outrider keys init` or `outrider ca issue-operator NAME`, "
                    "or name another by --as or --identity",
                ) from exc
        check_identity(folder)
        return cls(*contents)


def check_identity(folder: Path) -> None:
    """See that the files of an identity are certificates and a key that fit: gRPC would end the process otherwise.

    Raises:
        BadInputError: they are not.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_cert_chain(folder / "operator.crt", folder / "operator.key", password=lambda: "")
        context.load_verify_locations(folder / "server-ca.pem")
    except (ssl.SSLError, ValueError) as exc:
        raise BadInputError(
            f"the identity in {folder} cannot be used: its certificates or its key are damaged or do not fit",
            remedy="have it issued again: `outrider ca issue-operator NAME`",
        ) from exc


def operators_address(data: Path) -> str:
    """Where the orchestrator of a data folder serves operators, as it wrote it down itself.

    Raises:
        NotFoundError: the folder does not exist.
        UnreachableError: no orchestrator has written its addresses there.
    """
    if not data.is_dir():
        raise NotFoundError(
            f"there is no data folder {data}",
            remedy="name it by --data or OUTRIDER_DATA, or make it: `outrider keys init`",
        )
    path = data / "endpoints.json"
    try:
        address = json.loads(path.read_text("utf-8"))["operators"]
    except FileNotFoundError as exc:
        raise UnreachableError(
            f"no orchestrator runs on {data} (no {path.name})", remedy=f"start it: `outrider serve --data {data}`"
        ) from exc
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise CliError(
            f"{path} cannot be used: {exc}", remedy="restart `outrider serve`, which writes it anew, or use --server"
        ) from exc
    return str(address)


class OperatorClient:
    """The five operator services over one channel. A context manager: closes the channel at the end.

    Args:
        address: `host:port` of the operator port.
        identity: certificate and trust.
        timeout_s: deadline of a call, machine time.
        wait: waits that many seconds; called between repetitions.
        note: tells the person why it takes longer.
    """

    def __init__(
        self,
        *,
        address: str,
        identity: Identity,
        timeout_s: float,
        wait: Callable[[float], None],
        note: Callable[[str], None],
    ) -> None:
        self.address = address
        self.timeout_s = timeout_s
        self.fleet_time: datetime | None = None
        self._wait = wait
        self._note = note
        credentials = grpc.ssl_channel_credentials(
            root_certificates=identity.server_ca,
            private_key=identity.private_key,
            certificate_chain=identity.certificate_chain,
        )
        options = (("grpc.max_receive_message_length", RECEIVE_BYTES_MAX), ("grpc.enable_retries", 0))
        self._channel = grpc.secure_channel(address, credentials, options)
        self.fleet = FleetServiceStub(self._channel)
        self.releases = ReleaseServiceStub(self._channel)
        self.rollouts = RolloutServiceStub(self._channel)
        self.cases = CaseServiceStub(self._channel)
        self.ledger = LedgerServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel; whatever is waited for on it ends with an error. May be called twice, from any thread."""
        self._channel.close()

    def ask(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        file_name: str = "",
        timeout_s: float | None = None,
        away_s: float = 0.0,
    ) -> Response:
        """Call once, and again as often and as late as the server asks for.

        Args:
            method: of one of the stubs.
            request: its message; changes carry a request id, so that a repetition is safe.
            file_name: of the file that is sent, to name the places of its faults.
            timeout_s: deadline of each try; None for the usual one.
            away_s: for how long to try again where the server does not answer at all.

        Raises:
            CliError: the leaf that fits the refusal.
        """
        for look in range(int(away_s / AWAY_RETRY_S) + 1):
            try:
                return self._ask(method, request, file_name=file_name, timeout_s=timeout_s or self.timeout_s)
            except UnreachableError:
                if (look + 1) * AWAY_RETRY_S > away_s:
                    raise
            if look == 0:
                self._note("the server does not answer; waiting for it to come back ...")
            self._wait(AWAY_RETRY_S)
        raise AssertionError("the last look either returns or raises")

    def _ask(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        file_name: str,
        timeout_s: float,
    ) -> Response:
        for attempt in range(RETRIES_MAX + 1):
            try:
                response, call = method.with_call(request, timeout=timeout_s)
            except grpc.RpcError as error:
                failed = cast(grpc.Call, error)
                delay_s = details_of(failed).retry_after_s
                if delay_s is None or delay_s > RETRY_WAIT_S_MAX or attempt == RETRIES_MAX:
                    raise to_error(failed, address=self.address, file_name=file_name) from error
                self._note(f"the server asks to wait {delay_s:g} s ...")
                self._wait(delay_s)
                continue
            self._remember_fleet_time(call)
            return response
        raise AssertionError("the last try either returns or raises")

    def stream(
        self, method: grpc.UnaryStreamMultiCallable[Request, Response], request: Request, *, timeout_s: float
    ) -> Iterator[Response]:
        """Call once and hand on every answer; ends when the server ends it or `timeout_s` is over.

        Raises:
            CliError: the leaf that fits the refusal.
        """
        call = method(request, timeout=timeout_s)
        try:
            yield from call
        except grpc.RpcError as error:
            failed = cast(grpc.Call, error)
            if failed.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return
            raise to_error(failed, address=self.address) from error
        finally:
            call.cancel()

    def _remember_fleet_time(self, call: grpc.Call) -> None:
        trailing: Mapping[str, str | bytes] = dict(call.trailing_metadata() or ())
        value = trailing.get(FLEET_TIME_KEY)
        if isinstance(value, str) and value.isascii() and value.isdigit():
            self.fleet_time = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=int(value))


def fleet_time(client: OperatorClient) -> datetime:
    """Fleet time now by the server, in whole seconds, as signatures want it.

    Raises:
        CliError: the server did not answer, or does not say the time.
    """
    client.ask(client.rollouts.ListRollouts, ListRolloutsRequest(page_size=1))
    if client.fleet_time is None:
        raise CliError(
            f"the server at {client.address} does not say the fleet time",
            remedy="the server is older than this command line; use the same version",
        )
    return client.fleet_time.replace(microsecond=0)


def request_id() -> str:
    """A fresh id for one change, so that repeating the call cannot repeat the change."""
    return str(uuid.uuid4())
