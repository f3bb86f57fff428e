"""Where the command line gets passwords of key files and PINs of tokens: a file, the environment, or the person."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

from orchestrator.cli.errors import BadInputError
from signing.keys import PASSWORD_FILE_VARIABLE, PASSWORD_MIN, PASSWORD_VARIABLE, Secret, environment_secret


def secret_from(password_file: Path | None) -> Secret:
    """What answers when a key asks for its password or PIN.

    Args:
        password_file: As the command line names it; None asks the environment, then the person.
    """

    def secret(what: str) -> str:
        if password_file is not None:
            return read_password(password_file)
        if os.environ.get(PASSWORD_VARIABLE) or os.environ.get(PASSWORD_FILE_VARIABLE):
            return environment_secret(what)
        return ask(f"Password or PIN of {what}")

    return secret


def new_password(password_file: Path | None) -> str:
    """The password for a key that is being made, typed twice where a person types it.

    Raises:
        BadInputError: it is too short, or nobody can be asked.
    """
    if password_file is not None:
        password = read_password(password_file)
    elif os.environ.get(PASSWORD_VARIABLE) or os.environ.get(PASSWORD_FILE_VARIABLE):
        password = environment_secret("the new key")
    else:
        password = ask("Password of the new key", twice=True)
    if len(password) < PASSWORD_MIN:
        raise BadInputError(
            f"the password has {len(password)} characters, at least {PASSWORD_MIN} are needed",
            remedy="take several words; nothing was made",
        )
    return password


def read_password(path: Path) -> str:
    """A password from a file, without the end of its line.

    Raises:
        BadInputError: the file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise BadInputError(
            f"cannot read the password from {path}", remedy="name a text file that you may read"
        ) from exc


def ask(prompt: str, *, twice: bool = False) -> str:
    """Have the person type a secret, unseen.

    Raises:
        BadInputError: nobody can be asked.
    """
    if not sys.stdin.isatty():
        raise BadInputError(
            f"{prompt} is needed, and nobody can be asked",
            remedy=f"give --password-file FILE, or set {PASSWORD_FILE_VARIABLE}",
        )
    return str(typer.prompt(prompt, hide_input=True, confirmation_prompt=twice, err=True))
