"""Scenarios about signatures: seven faults of each role of both repositories, and what roots do to keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.vectors.repository import EXPIRED, GOOD_UNTIL, ROLES, Payload, Repository, key, public
from tests.vectors.vector import Vector, World

REPOSITORIES = ("director", "image")


def vectors() -> Iterator[Vector]:
    """All of them."""
    for repository in REPOSITORIES:
        for role in ROLES:
            for fault, (code, attack, says, make) in FAULTS.items():
                world = World()
                make(world.repository(repository), role)
                world.step(code)
                name = f"{repository}-{role}-{fault}"
                yield Vector(name, (attack,), f"{role} of the {repository} repository: {says}", world)
        yield from _roots(repository)


def expired(repo: Repository, role: str) -> None:
    if role == "root":
        repo.rotations = [(lambda root: root.update(expires=EXPIRED), repo.keys("root"))]
    else:
        repo.change[role] = lambda payload: payload.update(expires=EXPIRED)


def unmet(repo: Repository, role: str) -> None:
    """The role needs two keys, and one signs."""
    second = key(f"{repo.name} {role} second")

    def ask_for_two(root: Payload) -> None:
        if role != "root":
            root["keys"][second.public_key.keyid] = public(second)
            root["roles"][role]["keyids"].append(second.public_key.keyid)
            root["roles"][role]["threshold"] = 2

    signers = repo.keys("root")
    repo.rotations = [(ask_for_two, signers[:1] if role == "root" else signers)]


def repeated(repo: Repository, role: str) -> None:
    """As before, with the one signature twice."""
    unmet(repo, role)
    repo.repeat[role] = 2


def threshold(value: int) -> Callable[[Repository, str], None]:
    def make(repo: Repository, role: str) -> None:
        repo.rotations = [(lambda root: root["roles"][role].update(threshold=value), repo.keys("root"))]

    return make


def unknown_key(repo: Repository, role: str) -> None:
    """Signed well, by keys that the role does not have."""
    thieves = [key(f"thief {number}") for number in range(2)]
    if role == "root":
        repo.rotations = [(lambda root: None, thieves)]
    else:
        repo.signers[role] = thieves


def unsigned(repo: Repository, role: str) -> None:
    if role == "root":
        repo.rotations = [(lambda root: None, [])]
    else:
        repo.signers[role] = []


FAULTS = {
    "expired": ("freeze", "A9", "it has expired", expired),
    "unmet-threshold": ("arbitrary_software", "A5", "one of two signatures is there", unmet),
    "repeated-signature": ("malformed", "A4", "one signature stands there twice", repeated),
    "zero-threshold": ("malformed", "A5", "its threshold is 0", threshold(0)),
    "negative-threshold": ("malformed", "A5", "its threshold is -1", threshold(-1)),
    "unknown-key": ("arbitrary_software", "A1", "other keys have signed it", unknown_key),
    "unsigned": ("arbitrary_software", "A5", "nobody has signed it", unsigned),
}


def _roots(repository: str) -> Iterator[Vector]:
    """Rotations, and keys that would count twice."""
    fresh = [key(f"{repository} root fresh {number}") for number in range(2)]

    def replace(root: Payload) -> None:
        for keyid in root["roles"]["root"]["keyids"]:
            del root["keys"][keyid]
        root["keys"] |= {signer.public_key.keyid: public(signer) for signer in fresh}
        root["roles"]["root"]["keyids"] = [signer.public_key.keyid for signer in fresh]

    def twin(root: Payload) -> None:
        keyid = root["roles"]["root"]["keyids"][0]
        root["keys"]["f" * 64] = root["keys"][keyid]
        root["roles"]["root"]["keyids"].append("f" * 64)

    def two_roles(root: Payload) -> None:
        root["roles"]["targets"]["keyids"] += root["roles"]["timestamp"]["keyids"]

    def skip(root: Payload) -> None:
        root["version"] = 3

    def same(root: Payload) -> None:
        root["version"] = 1

    def soon(root: Payload) -> None:
        root["expires"] = EXPIRED

    def later(root: Payload) -> None:
        root["expires"] = GOOD_UNTIL

    old = World().repository(repository).keys("root")
    both = [*old, *fresh]
    cases = (
        ("valid-rotation", (), "", "new root keys, signed by the old and the new", [(replace, both)]),
        (
            "no-cross-signature",
            ("A1",),
            "arbitrary_software",
            "new root keys, signed by themselves only",
            [(replace, fresh)],
        ),
        ("old-keys-only", ("A1",), "arbitrary_software", "new root keys that have not signed", [(replace, old)]),
        ("key-under-two-ids", ("A4",), "duplicate_key", "a root key stands under two ids", [(twin, old)]),
        ("key-in-two-roles", ("A4",), "duplicate_key", "the timestamp key may sign targets too", [(two_roles, old)]),
        ("version-skipped", ("A6",), "rollback", "version 3 in the place of version 2", [(skip, old)]),
        ("version-unchanged", ("A6",), "rollback", "version 1 in the place of version 2", [(same, old)]),
        ("expired-between", ("A26",), "", "an expired root, and one after it that is not", [(soon, old), (later, old)]),
    )
    for fault, attacks, code, says, rotations in cases:
        world = World()
        world.repository(repository).rotations = list(rotations)
        world.step(code)
        yield Vector(f"{repository}-root-{fault}", attacks, f"root of the {repository} repository: {says}", world)
