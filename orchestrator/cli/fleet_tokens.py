"""`outrider fleet tokens`: single-use enrolment tokens, for some vehicles or all that have not enrolled.

Owns that a fleet of any size goes in calls of bounded size, and that tokens are not lost with the command: each
replaces the vehicle's earlier one at the server, so that every answer is on the disk before the next is asked for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from outrider.v1.fleet_pb2 import CreateEnrollmentTokensRequest, CreateEnrollmentTokensResponse, EnrollmentToken
from rich.progress import Progress

from orchestrator.cli.client import OperatorClient
from orchestrator.cli.errors import BadInputError, CliError
from orchestrator.cli.fleet_selection import PAGE_SIZE, VEHICLES_PER_CALL, pages
from orchestrator.cli.interrupts import Interrupts
from orchestrator.cli.screen import Screen
from orchestrator.cli.session import Session, operator_command
from orchestrator.cli.words import count
from signing.files import sync_folder

CALL_S = 120.0
"""Least deadline of a call: one that ends without its answer has replaced tokens all the same."""

LINE_BEGINS = b'{"vehicle_id": "'

Keep = Callable[[Sequence[EnrollmentToken]], None]


def add_commands(app: typer.Typer) -> None:
    """Put the command into a group."""
    operator_command(app, "tokens")(tokens)


def tokens(
    session: Session,
    vehicles: Annotated[
        list[str] | None,
        typer.Argument(metavar="[VEHICLE]...", help="Vehicle ids. Default: all that have not enrolled."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write to this file (mode 0600), not to stdout.")] = None,
    go_on: Annotated[
        bool, typer.Option("--continue", help="Add to the file, for vehicles that it has no token of.")
    ] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why; lands in the ledger.")] = "",
) -> None:
    """Make single-use enrolment tokens, one JSON line a vehicle. They are shown once: only hashes are kept."""
    why = reason or "enrolment tokens by command line"
    if out is None:
        if go_on:
            raise BadInputError("--continue goes on with a file", remedy="name it by --out")
        show_tokens(session, vehicles or [], why)
        return
    with session.client() as client, token_file(out, go_on=go_on) as file:
        before = len(file.vehicles)
        try:
            make(session.screen, client, vehicles or [], but=file.vehicles, reason=why, keep=file.add)
        except (CliError, KeyboardInterrupt):
            if file.vehicles:
                session.screen.note(
                    f"Tokens of {count(len(file.vehicles))} vehicles are in {out}. "
                    "Go on by the same command with --continue: it makes those of the others."
                )
            raise
        made = len(file.vehicles) - before
    session.screen.answer({"file": str(out), "token_count": made}, f"{count(made)} tokens written to {out}.")


def show_tokens(session: Session, vehicles: Sequence[str], reason: str) -> None:
    """Make tokens and write them to stdout at the end, also at one that is an error: nobody else has them."""
    response = CreateEnrollmentTokensResponse()
    with session.client() as client:
        try:
            make(session.screen, client, vehicles, but=set(), reason=reason, keep=response.tokens.extend)
        except (CliError, KeyboardInterrupt):
            if response.tokens:
                write_out(session.screen, response)
                session.screen.note(f"{count(len(response.tokens))} tokens were made before the end.")
            raise
    write_out(session.screen, response)


def write_out(screen: Screen, response: CreateEnrollmentTokensResponse) -> None:
    """Tokens on stdout: one document, or one line each."""
    if screen.json:
        screen.answer(response)
        return
    for token in response.tokens:
        screen.line(token_line(token))


def make(
    screen: Screen, client: OperatorClient, vehicles: Sequence[str], *, but: set[str], reason: str, keep: Keep
) -> None:
    """Have tokens made, VEHICLES_PER_CALL at a time.

    Args:
        screen: shows how far it is.
        client: asks.
        vehicles: ids; none for every vehicle that has not enrolled.
        but: ids that get none; those that got one are added.
        reason: for the ledger.
        keep: takes the tokens of a call before the next is made.

    Raises:
        CliError: of the call that failed.
        KeyboardInterrupt: from the keyboard.
    """
    named = [each for each in dict.fromkeys(vehicles) if each not in but]
    with (
        Interrupts(client.close) as interrupts,
        screen.progress("Making tokens", len(named) if vehicles else None) as progress,
    ):
        waiting = iter(named) if vehicles else unenrolled(client, progress, but)
        try:
            # Once each: a page and the next may both have a vehicle.
            while step := dict.fromkeys(islice(waiting, VEHICLES_PER_CALL)):
                interrupts.check()
                request = CreateEnrollmentTokensRequest(vehicle_ids=step, reason=reason)
                answer = client.ask(
                    client.fleet.CreateEnrollmentTokens, request, timeout_s=max(CALL_S, client.timeout_s)
                )
                keep(answer.tokens)
                but.update(token.vehicle_id for token in answer.tokens)
                progress.advance(progress.task_ids[0], len(step) if vehicles else 0)
        except CliError:
            # The interrupt closed the channel, and may itself have been lost within the RPC library.
            interrupts.check()
            raise


def unenrolled(client: OperatorClient, progress: Progress, but: set[str]) -> Iterator[str]:
    """Ids of vehicles that have not enrolled, but those in `but`; the bar shows how much of the inventory was read."""
    for page in pages(client, "enrolled=false"):
        progress.update(progress.task_ids[0], total=page.registered_count, advance=PAGE_SIZE)
        yield from (vehicle.vehicle_id for vehicle in page.vehicles if vehicle.vehicle_id not in but)


def token_line(token: EnrollmentToken) -> str:
    """One line of JSON."""
    return json.dumps({"vehicle_id": token.vehicle_id, "token": token.token})


class TokenFile:
    """Lines of tokens in a file; what is added is on the disk before anything else happens.

    Args:
        path: for messages.
        descriptor: of the file, open for reading and writing; the caller's to close.

    Raises:
        BadInputError: it holds something else.
        CliError: it cannot be written.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self.vehicles = set[str]()
        """Those that it has a token of."""
        try:
            self._read()
        except OSError as exc:
            raise unwritable(path, exc, remedy="name another file") from exc

    def add(self, tokens: Iterable[EnrollmentToken]) -> None:
        """Add lines.

        Raises:
            CliError: they cannot be written.
        """
        try:
            self._write("".join(f"{token_line(token)}\n" for token in tokens).encode())
        except OSError as exc:
            raise unwritable(self._path, exc, remedy="make room") from exc

    def _read(self) -> None:
        """Learn who is in it, and take away what a write that was cut short left of a line."""
        whole, line = 0, b"\n"
        with open(self._descriptor, "rb", closefd=False) as stream:
            for number, line in enumerate(stream, start=1):
                try:
                    self.vehicles.add(json.loads(line)["vehicle_id"])
                except (ValueError, LookupError, TypeError) as exc:
                    if torn(line):
                        line = b"\n"
                        break
                    raise BadInputError(
                        f"{self._path}:{number}: not a line of `fleet tokens`", remedy="name another file"
                    ) from exc
                whole += len(line)
        os.ftruncate(self._descriptor, whole)
        os.lseek(self._descriptor, whole, os.SEEK_SET)
        self._write(b"" if line.endswith(b"\n") else b"\n")

    def _write(self, content: bytes) -> None:
        while content:
            content = content[os.write(self._descriptor, content) :]
        os.fsync(self._descriptor)


def torn(line: bytes) -> bool:
    """Whether this may be the beginning of a line of ours, and never came to its end."""
    return not line.endswith(b"\n") and (line.startswith(LINE_BEGINS) or LINE_BEGINS.startswith(line))


@contextmanager
def token_file(path: Path, *, go_on: bool) -> Iterator[TokenFile]:
    """A file that only this user can read; leaves no empty one behind after an error.

    Args:
        path: a new file.
        go_on: it may be there already, and is added to.

    Raises:
        BadInputError: it is there and is not to be added to, or holds something else.
        CliError: it cannot be written.
    """
    descriptor = opened(path, go_on=go_on)
    try:
        yield TokenFile(path, descriptor)
    except BaseException:
        if os.fstat(descriptor).st_size == 0:
            path.unlink()
        raise
    finally:
        os.close(descriptor)


def opened(path: Path, *, go_on: bool) -> int:
    """The descriptor of such a file.

    Raises:
        BadInputError: it is there and is not to be added to.
        CliError: it cannot be opened.
    """
    if go_on and path.exists() and not path.is_file():
        raise BadInputError(f"{path} is no plain file", remedy="name another file")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | (0 if go_on else os.O_EXCL), 0o600)
        os.fchmod(descriptor, 0o600)
        sync_folder(path.parent)
    except FileExistsError as exc:
        raise BadInputError(
            f"{path} exists already",
            remedy="name another file: its tokens may still be wanted; or --continue, for vehicles not in it",
        ) from exc
    except OSError as exc:
        raise unwritable(path, exc, remedy="name another file") from exc
    return descriptor


def unwritable(path: Path, exc: OSError, *, remedy: str) -> CliError:
    """The error of a file that cannot be written."""
    return CliError(f"{path} cannot be written ({exc.strerror})", remedy=remedy)
