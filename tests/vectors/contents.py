"""Scenarios about what is said: versions, vehicles, control units, images, suppliers, and odd text."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.vectors.repository import ROLES, Payload, delegate, target
from tests.vectors.vector import GATEWAY, IMAGES, Vector, World

Make = Callable[[World], None]
REPOSITORIES = ("director", "image")


def vectors() -> Iterator[Vector]:
    """All of them."""
    for name, attacks, code, says, make in SINGLE:
        world = World()
        make(world)
        world.step(code)
        yield Vector(name, attacks, says, world)
    yield from _over_time()
    yield from _bindings()
    yield from _texts()


def nothing(world: World) -> None:
    """As it should be."""


def assign(path: str, content: str, *serials: str, hardware: str = "acme-gw-1", counter: int = 2) -> Make:
    return lambda world: world.director.targets.update({path: target(content, [hardware], counter, serials)})


def never_released(world: World) -> None:
    world.director.targets = {}
    assign("acme/evil.img", "evil", "GW-1")(world)


def serves(**images: str) -> Make:
    return lambda world: world.images.update({GATEWAY: images["gateway"]})


def nothing_assigned(world: World) -> None:
    world.director.targets = {}


def newer_installed(world: World) -> None:
    world.installed = {"GW-1": {"path": "acme/gw-3.img", "release_counter": 3}}


def released_for(hardware_id: str) -> Make:
    return lambda world: world.image.targets.update({GATEWAY: target(IMAGES[GATEWAY], [hardware_id], 2)})


def both_for(hardware_id: str) -> Make:
    def make(world: World) -> None:
        released_for(hardware_id)(world)
        assign(GATEWAY, IMAGES[GATEWAY], "GW-1", hardware=hardware_id)(world)

    return make


def released_under(path: str) -> Make:
    def make(world: World) -> None:
        world.image.targets[path] = target("x", ["acme-gw-1"], 2)
        world.director.targets = {path: target("x", ["acme-gw-1"], 2, ["GW-1"])}

    return make


def director_delegates(world: World) -> None:
    world.director.delegations = delegate(("friend", {}))


def twice(world: World) -> None:
    world.image.targets["acme/gw-3.img"] = target("x", ["acme-gw-1"], 3)
    world.director.targets["acme/gw-3.img"] = target("x", ["acme-gw-1"], 3, ["GW-1"])


def no_hash(world: World) -> None:
    world.director.change["timestamp"] = lambda payload: payload["meta"]["snapshot.json"].pop("hashes")


MISMATCH, HARDWARE = "image_mismatch", "wrong_hardware"
SINGLE: tuple[tuple[str, tuple[str, ...], str, str, Make], ...] = (
    ("honest", (), "", "all is as it should be", nothing),
    ("honest-nothing-assigned", (), "", "the Director assigns nothing", nothing_assigned),
    (
        "image-other-bytes",
        ("A1",),
        "arbitrary_software",
        "the mirror serves other bytes",
        serves(gateway="gateway, version X"),
    ),
    (
        "image-oversized",
        ("A13",),
        "endless_data",
        "the mirror serves more bytes",
        serves(gateway=IMAGES[GATEWAY] + "!"),
    ),
    ("image-truncated", ("A1",), "arbitrary_software", "the mirror serves fewer bytes", serves(gateway="gateway")),
    ("image-never-released", ("A2",), MISMATCH, "assigned and not released", never_released),
    (
        "image-other-length",
        ("A2",),
        MISMATCH,
        "assigned with another length",
        assign(GATEWAY, IMAGES[GATEWAY] + "!", "GW-1"),
    ),
    (
        "image-other-hash",
        ("A2",),
        MISMATCH,
        "assigned with another hash",
        assign(GATEWAY, "gateway, version X", "GW-1"),
    ),
    (
        "image-other-counter",
        ("A2", "A7"),
        MISMATCH,
        "assigned with a higher counter",
        assign(GATEWAY, IMAGES[GATEWAY], "GW-1", counter=3),
    ),
    ("image-older-than-installed", ("A7",), "rollback", "a counter below what runs", newer_installed),
    (
        "hardware-director",
        ("A11",),
        HARDWARE,
        "assigned for other hardware",
        assign(GATEWAY, IMAGES[GATEWAY], "GW-1", hardware="acme-radio-1"),
    ),
    ("hardware-image", ("A2",), MISMATCH, "released for other hardware", released_for("acme-radio-1")),
    ("hardware-both", ("A11",), HARDWARE, "both say other hardware", both_for("acme-radio-1")),
    (
        "unit-of-another-vehicle",
        ("A11",),
        "wrong_ecu",
        "assigned to a unit that is not here",
        assign(GATEWAY, IMAGES[GATEWAY], "GW-9"),
    ),
    ("unit-twice", ("A11",), "wrong_ecu", "one unit is assigned two images", twice),
    ("director-delegates", ("A2",), "delegation", "the Director's targets delegate", director_delegates),
    (
        "name-with-dots",
        ("A27",),
        "bad_name",
        "released and assigned, leads elsewhere",
        released_under("acme/../evil.img"),
    ),
    ("name-absolute", ("A27",), "bad_name", "released and assigned, absolute", released_under("/evil.img")),
    ("timestamp-without-hash", ("A16",), "malformed", "the timestamp has no hash of the snapshot", no_hash),
)


def _over_time() -> Iterator[Vector]:
    for repository in REPOSITORIES:
        for role in ROLES[1:]:
            world = World()
            repo = world.repository(repository)
            old = world.files()
            repo.versions |= {"targets": 2, "snapshot": 2, "timestamp": 2}
            world.step()
            later = {"targets": ("snapshot", "timestamp"), "snapshot": ("timestamp",), "timestamp": ()}[role]
            repo.versions |= {"targets": 1, "snapshot": 1, "timestamp": 1} | dict.fromkeys(later, 3)
            world.step("rollback", files=old if role == "timestamp" else None)
            says = f"{role} of the {repository} repository: an older one after a newer"
            yield Vector(f"{repository}-{role}-rollback", ("A6",), says, world)
        world = World()
        other = World()
        other.repository(repository).change["snapshot"] = lambda payload: payload.update(note="another time")
        files = world.files()
        files[repository]["1.snapshot.json"] = other.files()[repository]["1.snapshot.json"]
        world.step("endless_data", files=files)
        yield Vector(f"{repository}-snapshot-longer-than-pinned", ("A13", "A16"), "a snapshot of another time", world)
    world = World()
    world.step()
    world.image.targets["acme/gw-9.img"] = target("x", ["acme-gw-1"], 9)
    world.step()
    yield Vector("image-changed-under-one-version", (), "other files of the same versions: the held ones stay", world)
    world = World()
    world.image.change["snapshot"] = lambda payload: payload["meta"].update({"targets.json": {"version": 2}})
    files = world.files()
    files["image"]["2.targets.json"] = files["image"].pop("1.targets.json")
    world.step("mix_and_match", files=files)
    yield Vector("image-targets-older-than-listed", ("A16",), "version 1 in the place of version 2", world)
    world = World()
    world.step()
    world.step("clock", now="2031-05-01T11:00:00Z")
    yield Vector("clock-set-back", ("A12",), "an hour before a time that was proven", world)
    world = World()
    world.step()
    world.step("freeze", now="2041-05-01T12:00:00Z")
    world.step(now="2031-05-01T12:01:00Z")
    yield Vector("clock-far-ahead", ("A12",), "ten years ahead, and then right again", world)


def _bindings() -> Iterator[Vector]:
    for role in ROLES[1:]:
        for name, whose in (("another-vehicle", "vehicle-2"), ("no-vehicle", None)):
            world = World()

            def bind(payload: Payload, whose: str | None = whose) -> None:
                payload.pop("vehicleId")
                payload.update({"vehicleId": whose} if whose else {})

            world.director.change[role] = bind
            world.step("wrong_vehicle")
            says = f"the Director's {role} is bound to {name.replace('-', ' ')}"
            yield Vector(f"director-{role}-{name}", ("A10", "A11"), says, world)


def _texts() -> Iterator[Vector]:
    for repository in REPOSITORIES:
        for role in ROLES:
            world = World()
            repo = world.repository(repository)
            odd: Callable[[Payload], object] = lambda payload: payload.update(_type="invalidrole")  # noqa: E731
            if role == "root":
                repo.rotations = [(odd, repo.keys("root"))]
            else:
                repo.change[role] = odd
            world.step("malformed")
            says = f"{role} of the {repository} repository says that it is something else"
            yield Vector(f"{repository}-{role}-other-type", ("A5",), says, world)
    for repository, role in (("director", "targets"), ("image", "timestamp")):
        world = World()
        world.repository(repository).change[role] = lambda payload: payload.update(padding="x" * 65536)
        world.step("endless_data")
        yield Vector(f"{repository}-{role}-too-large", ("A13",), f"{role} above 64 KiB, which is our cap", world)
    rewrites: dict[str, tuple[str, Callable[[str], str]]] = {
        "name-twice": ("a name twice in one object", lambda t: t.replace('"version":1', '"version":9,"version":1', 1)),
        "float": ("a version that is no integer", lambda t: t.replace('"version":1}', '"version":1.0}', 1)),
        "cut": ("a file that ends early", lambda t: t[:-9]),
        "not-an-object": ("a list in the file's place", lambda t: "[]"),
        "huge-integer": ("a version of 31 digits", lambda t: t.replace('"version":1}', f'"version":{10**30}}}', 1)),
    }
    for name, (says, rewrite) in rewrites.items():
        world = World()
        world.image.rewrite["timestamp"] = rewrite
        world.step("malformed")
        yield Vector(f"text-{name}", ("A30",), says, world)
    changes: dict[str, tuple[str, Callable[[Payload], object]]] = {
        "not-nfc": ("text that is not in Unicode NFC", lambda p: p.update(note="cafe\u0301")),
        "version-32-bit": ("a version of 2^31", lambda p: p.update(version=2**31)),
    }
    for name, (says, change) in changes.items():
        world = World()
        world.image.change["timestamp"] = change
        world.step("malformed")
        yield Vector(f"text-{name}", ("A30",), says, world)
