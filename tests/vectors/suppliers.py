"""Scenarios about suppliers: delegated roles that are signed, listed and asked as they should be, and otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.vectors.repository import EXPIRED, Payload, delegate, key, public
from tests.vectors.vector import BRAKE, GATEWAY, Vector, World

Make = Callable[[World], None]
ALL = (GATEWAY, BRAKE)
MISMATCH = "image_mismatch"


def vectors() -> Iterator[Vector]:
    """All of them."""
    for name, attacks, code, says, make in CASES:
        world = World()
        make(world)
        world.step(code)
        yield Vector(f"supplier-{name}", attacks, f"both images are listed by suppliers: {says}", world)
    world = World()
    one(world)
    files = world.files()
    del files["image"]["1.one.json"]
    world.step("missing", files=files)
    yield Vector("supplier-missing", ("A15",), "the supplier's file is held back", world)
    world = World()
    one(world)
    world.image.change["snapshot"] = lambda payload: payload["meta"].update({"one.json": {"version": 2}})
    files = world.files()
    files["image"]["2.one.json"] = files["image"].pop("1.one.json")
    world.step("mix_and_match", files=files)
    yield Vector("supplier-older-than-listed", ("A16",), "version 1 in the place of version 2", world)


def suppliers(*roles: tuple[str, Payload], lists: dict[str, tuple[str, ...]]) -> Make:
    """The images are listed by suppliers only."""

    def make(world: World) -> None:
        entries, world.image.targets = world.image.targets, {}
        world.image.delegations = delegate(*roles)
        world.image.delegated = {name: {path: entries[path] for path in paths} for name, paths in lists.items()}

    return make


one = suppliers(("one", {}), lists={"one": ALL})
"""One supplier for all."""


def delegating(change: Callable[[Payload], object]) -> Make:
    """One supplier, and a change of the delegations."""

    def make(world: World) -> None:
        one(world)
        assert world.image.delegations is not None
        change(world.image.delegations)

    return make


def supplied(change: Callable[[Payload], object]) -> Make:
    """One supplier, and a change of its file."""

    def make(world: World) -> None:
        one(world)
        world.image.change["one"] = change

    return make


def signed_by(*seeds: str, repeat: int = 1, two_needed: bool = False) -> Make:
    """One supplier, and who signs for it."""

    def make(world: World) -> None:
        one(world)
        world.image.signers["one"] = [key(seed) for seed in seeds]
        world.image.repeat["one"] = repeat
        if two_needed and world.image.delegations is not None:
            need_two(world.image.delegations)

    return make


def need_two(delegations: Payload) -> None:
    second = key("supplier second")
    delegations["keys"][second.public_key.keyid] = public(second)
    delegations["roles"][0]["keyids"].append(second.public_key.keyid)
    delegations["roles"][0]["threshold"] = 2


def other_id(delegations: Payload) -> None:
    (keyid,) = delegations["keys"]
    delegations["keys"] = {"e" * 64: delegations["keys"][keyid]}


def unlisted(world: World) -> None:
    one(world)
    world.image.change["snapshot"] = lambda payload: payload["meta"].pop("one.json")


def redundant(world: World) -> None:
    entries = dict(world.image.targets)
    signed_by()(world)
    world.image.targets = entries


def other_hash(payload: Payload) -> None:
    payload["targets"][GATEWAY]["hashes"]["sha256"] = "e" * 64


TERMINATING: Payload = {"terminating": True}
PATHS: Payload = {"paths": ["acme/brake-*"]}
HARDWARE: Payload = {"hardwareIds": ["acme-brake-1"]}
CASES: tuple[tuple[str, tuple[str, ...], str, str, Make], ...] = (
    ("simple", (), "", "one lists both", one),
    ("second", (), "", "the second does", suppliers(("one", {}), ("two", {}), lists={"one": (), "two": ALL})),
    (
        "two-signatures",
        (),
        "",
        "two are needed, two are there",
        signed_by("supplier one", "supplier second", two_needed=True),
    ),
    ("redundant", (), "", "and by the top level, so that an unsigned supplier is not asked", redundant),
    ("empty", ("A2",), MISMATCH, "and by none", suppliers(("one", {}), lists={"one": ()})),
    ("other-hash", ("A2",), MISMATCH, "with another hash", supplied(other_hash)),
    ("expired", ("A9",), "freeze", "whose file has expired", supplied(lambda payload: payload.update(expires=EXPIRED))),
    ("unsigned", ("A3",), "arbitrary_software", "whose file nobody has signed", signed_by()),
    ("unknown-key", ("A3",), "arbitrary_software", "whose file a thief has signed", signed_by("thief")),
    ("unmet-threshold", ("A3",), "arbitrary_software", "one of two has signed", delegating(need_two)),
    ("repeated-signature", ("A4",), "malformed", "one has signed twice", signed_by("supplier one", repeat=2)),
    ("zero-threshold", ("A5",), "malformed", "none is needed", delegating(lambda d: d["roles"][0].update(threshold=0))),
    ("key-not-listed", ("A5",), "arbitrary_software", "whose key is nowhere", delegating(lambda d: d["keys"].clear())),
    ("key-under-another-id", ("A5",), "arbitrary_software", "whose key has another id", delegating(other_id)),
    ("not-in-snapshot", ("A16",), "rollback", "that the snapshot does not list", unlisted),
    ("outside-its-paths", ("A3",), MISMATCH, "for brakes only", suppliers(("one", PATHS), lists={"one": ALL})),
    ("outside-its-hardware", ("A3",), MISMATCH, "of brakes only", suppliers(("one", HARDWARE), lists={"one": ALL})),
    (
        "after-terminating",
        ("A3",),
        MISMATCH,
        "after a terminating one that lists none",
        suppliers(("one", TERMINATING), ("two", {}), lists={"one": (), "two": ALL}),
    ),
)
