"""What the command line can end with: exit codes, and errors that say cause and remedy in one line.

Owns the meaning of every exit code. Leaves to `rpc_errors` how an answer of the server becomes one of these, and to
`main` how they are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """What a script can rely on. Documented in docs/cli.md."""

    OK = 0
    """Done."""
    FAILED = 1
    """Something went wrong that no other code names."""
    BAD_INPUT = 2
    """The command line or a file is wrong; nothing was changed."""
    NOT_FOUND = 3
    """There is no such vehicle, release, rollout or folder."""
    REFUSED = 4
    """Not in this state: something else must happen first."""
    UNREACHABLE = 5
    """The orchestrator did not answer in time; a change may or may not have happened."""
    FORBIDDEN = 6
    """This identity may not do that."""
    INTERRUPTED = 130
    """Ended from the keyboard."""


class CliError(Exception):
    """An end that is not a success, in words for the person at the keyboard.

    Attributes:
        cause: what is wrong, one line.
        remedy: what to do about it, one line; empty when there is nothing to say.
        details: further lines shown before the error, for example one a fault of a file.
        exit_code: how the process ends.
    """

    exit_code = ExitCode.FAILED

    def __init__(self, cause: str, *, remedy: str = "", details: Sequence[str] = ()) -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy
        self.details = tuple(details)


class BadInputError(CliError):
    """The command line or a file is wrong."""

    exit_code = ExitCode.BAD_INPUT


class NotFoundError(CliError):
    """There is no such thing."""

    exit_code = ExitCode.NOT_FOUND


class RefusedError(CliError):
    """Not in this state."""

    exit_code = ExitCode.REFUSED


class UnreachableError(CliError):
    """The orchestrator did not answer."""

    exit_code = ExitCode.UNREACHABLE


class ForbiddenError(CliError):
    """This identity may not do that."""

    exit_code = ExitCode.FORBIDDEN
