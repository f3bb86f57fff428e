"""Reads the ingest policy: the YAML file that says whose evidence is believed when a release is published.

Owns its fields, defaults and faults. Leaves YAML and its places to the engine's reader of plan files, and what evidence
has to say to `signing.evidence`.
"""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

from securesystemslib.signer import Key

from orchestrator.cli.errors import BadInputError
from orchestrator.cli.inputs import faulty, read_file, read_text
from orchestrator.engine.plan import readers as read
from orchestrator.engine.plan.nodes import Place, PlanError, PlanFault, compose
from signing.errors import KeyFileError
from signing.evidence import Builder, Policy
from signing.keys import public_key_from_pem

FILE_NAME = "ingest.yaml"
FIELDS = ("builders", "waivers")
BUILDER_FIELDS = ("id", "keys", "build_types")
BUILDER_EXAMPLE = "a builder such as {id: https://ci.example/outrider, keys: [ci.pub]}"
URI = read.matching(re.compile(r"[!-~]{1,1024}"), "a URI")
EMPTY = Policy(builders={}, waivers=True, sha256=sha256(b"").hexdigest())
"""Without a file: no builder is believed, and a person may vouch."""


def read_policy(path: Path) -> Policy:
    """Read and check the policy of an installation.

    Raises:
        BadInputError: names every fault with line and column.
    """
    if not path.exists():
        return EMPTY
    text = read_text(path)
    faults: list[PlanFault] = []
    try:
        if not text.strip():
            raise PlanError([PlanFault(1, 1, "", "the file is empty", f"write `builders:` with {BUILDER_EXAMPLE}")])
        fields = Place(node=compose(text), path="", faults=faults).fields(FIELDS, "a mapping with `builders:`")
        items = fields["builders"].items("a list of builders") if "builders" in fields else None
        builders = [builder_of(item, path.parent) for item in items or ()]
        waivers = read.take(fields, "waivers", read.truth, True)
    except PlanError as exc:
        raise faulty(path, exc.faults) from exc
    if faults:
        raise faulty(path, sorted(faults))
    policy = Policy({each.builder_id: each for each in builders}, waivers, sha256(text.encode()).hexdigest())
    if len(policy.builders) != len(builders):
        raise BadInputError(f"{path} names a builder twice", remedy="name each once, with all of its keys")
    return policy


def keys_named(path: Path) -> list[Path]:
    """Files of keys that a policy names, for whoever copies it: of a faulty policy those that can be made out."""
    try:
        builders = Place(node=compose(path.read_text(encoding="utf-8")), path="", faults=[]).fields(FIELDS, "")[
            "builders"
        ]
        fields = [item.fields(BUILDER_FIELDS, "") for item in builders.items("") or ()]
    except (OSError, UnicodeDecodeError, PlanError, KeyError):
        return []
    keys = [key.word for each in fields if "keys" in each for key in each["keys"].items("") or ()]
    return [path.parent / name for name in keys if name]


def builder_of(place: Place, folder: Path) -> Builder:
    """One item of `builders`."""
    fields = place.fields(BUILDER_FIELDS, BUILDER_EXAMPLE)
    if place.mapping and "id" not in fields:
        place.fault("`id` is missing", f"write {BUILDER_EXAMPLE}")
    uris = read.several(URI, "a list of build types")
    keys = fields["keys"].items("a list of public key files") if "keys" in fields else None
    if keys is not None and not keys:
        fields["keys"].fault("no key stands here", "name one, or leave `keys` out to believe unsigned provenance")
    return Builder(
        builder_id=read.take(fields, "id", URI, ""),
        keys=tuple(key for each in keys or () if (key := key_of(each, folder)) is not None),
        build_types=read.take(fields, "build_types", uris, ()),
    )


def key_of(place: Place, folder: Path) -> Key | None:
    """A public key by its file's name."""
    name = place.scalar("the name of a public key file")
    if name is None:
        return None
    try:
        return public_key_from_pem(read_file(folder / name), name=name)
    except (KeyFileError, BadInputError) as exc:
        place.fault(str(exc), "name a PEM file with a P-256 or Ed25519 public key; paths count from this file's folder")
        return None
