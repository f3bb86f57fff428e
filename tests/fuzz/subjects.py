"""Subjects: what reads hostile bytes, what they are made from, and by which errors it may refuse them.

Bytes are changed as a network could; of what is signed the content is changed as well and signed again by the right
keys, as a vehicle or a Director in other hands could: else nothing behind the signature would ever be reached.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from securesystemslib.exceptions import FormatError
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner

from orchestrator.engine.plan.file import read_plan
from orchestrator.engine.plan.nodes import PlanError
from signing import canonical
from signing.errors import MissingFileError, VerificationError
from signing.keys import generate_ecu_key, public_key_base64
from signing.manifest import EcuReport, InventoryEcu, sign_manifest, sign_report, verify_manifest
from tests.fuzz.mutations import bytes_of, value_of
from tests.signing.uptane_simulator import NOW, VEHICLE, RepositorySimulator, UptaneSimulator

Case = Callable[[Random], None]
"""Makes one case and lets it be read; refusals are caught, everything else is a find."""

DOCS = Path(__file__).parents[2] / "docs" / "plan-file.md"


@contextmanager
def subjects() -> Iterator[Mapping[str, Case]]:
    """Every subject by name, with the folders that they need."""
    with TemporaryDirectory(prefix="outrider-fuzz-") as folder:
        yield {
            "plan": _plan(),
            "json": _json(),
            "manifest": _manifest(),
            "metadata": _metadata(Path(folder)),
        }


def _plan() -> Case:
    seeds = tuple(part.partition("```")[0].encode() for part in DOCS.read_text().split("```yaml\n")[1:])

    def case(random: Random) -> None:
        with suppress(PlanError):
            read_plan(bytes_of(random, seeds).decode("utf-8", "replace"))

    return case


def _json() -> Case:
    seeds = tuple(UptaneSimulator.create().files().values())

    def case(random: Random) -> None:
        with suppress(canonical.JsonFormError):
            value = canonical.decode(bytes_of(random, seeds))
            written = canonical.encode(value, decoded=True)
            assert written == canonical.encode(value) == canonical.encode(canonical.decode(written))

    return case


def _manifest() -> Case:
    keys = {serial: generate_ecu_key() for serial in ("gw-1", "brake-1")}
    ecus = [InventoryEcu(serial, public_key_base64(key), serial == "gw-1") for serial, key in keys.items()]
    reports = [
        sign_report(EcuReport(serial, "acme/x.img", 27, "ab" * 32, "", NOW, 7), key) for serial, key in keys.items()
    ]
    whole = sign_manifest(VEHICLE, "gw-1", reports, keys["gw-1"])

    def signed_again(random: Random) -> bytes:
        value = json.loads(whole)
        report = random.choice(value["signed"]["ecuVersionReports"])
        serial = report["signed"]["ecuIdentifier"]
        if random.random() < 0.7:
            report["signed"] = value_of(random, report["signed"])
            _sign(report, keys[serial])
        else:
            value["signed"] = value_of(random, value["signed"])
        _sign(value, keys["gw-1"])
        return json.dumps(value).encode()

    def case(random: Random) -> None:
        data = signed_again(random) if random.random() < 0.5 else bytes_of(random, (whole,))
        with suppress(VerificationError):
            verify_manifest(data, vehicle_id=VEHICLE, ecus=ecus, counter_above=0, now=NOW)

    return case


def _sign(envelope: dict[str, Any], key: CryptoSigner) -> None:
    """Sign a changed payload if it can be written at all."""
    with suppress(canonical.JsonFormError, TypeError):
        made = sign_report(EcuReport("gw-1", "a", 1, "ab" * 32, "", NOW, 1), key)
        entry = dict(made["signatures"][0])
        digest = sha256(canonical.encode(envelope["signed"])).digest()
        entry |= {"hash": digest.hex(), "sig": key.sign(digest).signature}
        envelope["signatures"] = [entry]


def _metadata(folder: Path) -> Case:
    uptane = UptaneSimulator.create()
    honest = uptane.files()
    primary = uptane.vehicle(folder / "honest")
    primary.verify(honest)
    number = 0

    def case(random: Random) -> None:
        nonlocal number
        number += 1
        kind, name = random.choice(sorted(honest))
        if random.random() < 0.5:
            content = bytes_of(random, (honest[kind, name],))
        else:
            content = _resigned(random, uptane.director if kind == "director" else uptane.image, honest[kind, name])
        fresh = random.random() < 0.6
        vehicle = uptane.vehicle(folder / f"v{number}") if fresh else primary
        with suppress(VerificationError, MissingFileError):
            vehicle.verify({**honest, (kind, name): content} if fresh else {(kind, name): content})

    return case


def _resigned(random: Random, repository: RepositorySimulator, content: bytes) -> bytes:
    """A file of other content, signed by its own keys."""
    value = json.loads(content)
    role = value["signed"]["_type"]
    value["signed"] = value_of(random, value["signed"])
    try:
        payload = str(encode_canonical(value["signed"])).encode()
    except (FormatError, TypeError, ValueError):
        return json.dumps(value).encode()
    value["signatures"] = [signer.sign(payload).to_dict() for signer in repository.signers[role]]
    return json.dumps(value).encode()
