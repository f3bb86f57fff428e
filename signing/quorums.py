"""How many keys each role of a new installation gets, and how many of them must sign.

Owns the defaults and what can be chosen. Later changes are ceremonies (`change_edits`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from signing.errors import SigningError

KEYS_MAX = 16
"""Of one role: more people than that meet for no ceremony."""
_CHOICE = re.compile(r"(director|image)\.([a-z]+)=([0-9]{1,3})/([0-9]{1,3})")


@dataclass(frozen=True, slots=True)
class Quorum:
    """So many of so many keys."""

    threshold: int
    """How many must sign."""
    keys: int
    """How many there are."""

    def __str__(self) -> str:
        return f"{self.threshold} of {self.keys}"


Quorums = Mapping[str, Quorum]
"""By role of one repository."""
ONE = Quorum(1, 1)
DIRECTOR: Quorums = {"root": Quorum(2, 3), "targets": ONE, "snapshot": ONE, "timestamp": ONE}
IMAGE: Quorums = {"root": Quorum(2, 3), "targets": ONE, "attest": ONE, "snapshot": ONE, "timestamp": ONE}


def chosen(choices: Iterable[str]) -> dict[str, Quorums]:
    """The quorums of both repositories.

    Args:
        choices: Such as `director.root=3/5`: three of five; every role that is not named keeps its default.

    Raises:
        SigningError: It names no role, can never be met, or gives the Director's signer more than its one key.
    """
    quorums = {"director": dict(DIRECTOR), "image": dict(IMAGE)}
    for choice in choices:
        found = _CHOICE.fullmatch(choice)
        if found is None:
            raise SigningError(f"{choice!r} is not of the form REPOSITORY.ROLE=M/N, for example image.targets=2/3")
        repository, role, quorum = found[1], found[2], Quorum(int(found[3]), int(found[4]))
        if role not in quorums[repository]:
            raise SigningError(f"{choice}: {repository} has no role {role}, but {', '.join(quorums[repository])}")
        if fault := _fault(repository, role, quorum):
            raise SigningError(f"{choice}: {fault}")
        quorums[repository][role] = quorum
    return dict(quorums)


def key_names(role: str, quorum: Quorum) -> list[str]:
    """The names of a role's keys: `root-1` and so on, and `targets`, `targets-2` and so on for the others."""
    if role == "root":
        return [f"root-{number}" for number in range(1, quorum.keys + 1)]
    return [role, *(f"{role}-{number}" for number in range(2, quorum.keys + 1))]


def _fault(repository: str, role: str, quorum: Quorum) -> str | None:
    if not 1 <= quorum.keys <= KEYS_MAX:
        return f"a role has between 1 and {KEYS_MAX} keys"
    if quorum.threshold < 1:
        return "at least one key must sign"
    if quorum.threshold > quorum.keys:
        return f"{quorum.threshold} signatures of {quorum.keys} keys can never be given"
    if repository == "director" and role != "root" and quorum != ONE:
        return "the Director's online roles have one key each; more of them in one process would add no safety"
    return None
