"""Our verifier gives every vector its verdict, and the vectors are what their generator says."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from signing.errors import AttackCode, VerificationError
from signing.verify import InstalledImage, PrimaryVerifier, check_image
from tests.uptane.attack_list import ATTACKS
from tests.vectors.all import CASES, all_vectors

VECTORS = all_vectors()


def verdict(verifier: PrimaryVerifier, step: dict[str, Any]) -> dict[str, Any]:
    """What the verifier says to one step, images included."""
    files = {(of, name): text.encode() for of, named in step["files"].items() for name, text in named.items()}
    installed = {serial: InstalledImage(**image) for serial, image in step["installed"].items()}
    try:
        bundle = verifier.verify(files, now=datetime.fromisoformat(step["now"]), installed=installed)
        for image in bundle.images:
            check_image(image, step["images"][image.path].encode())
    except VerificationError as error:
        return {"verdict": "rejected", "code": error.code.value}
    return {"verdict": "accepted", "images": sorted(image.path for image in bundle.images)}


@pytest.mark.uptane(
    "A1", "A2", "A3", "A4", "A5", "A6", "A7", "A9", "A11", "A12", "A13", "A16", "A26", "A27", "A30", "F13"
)
@pytest.mark.parametrize("path", sorted(CASES.glob("*.json")), ids=lambda path: path.stem)
def test_our_verifier_agrees_with_the_vector(path: Path, tmp_path: Path) -> None:
    """Read from the file alone, as any other implementation would."""
    vector = json.loads(path.read_text(encoding="utf-8"))
    vehicle = vector["vehicle"]
    verifier = PrimaryVerifier(
        tmp_path / "held",
        vehicle_id=vehicle["vehicle_id"],
        ecus=vehicle["ecus"],
        director_root=vehicle["director_root"].encode(),
        image_root=vehicle["image_root"].encode(),
    )
    for step in vector["steps"]:
        assert verdict(verifier, step) == step["expect"], vector["says"]


def test_the_files_are_what_the_generator_says() -> None:
    """A vector by hand could not be made again: run `python -m tests.vectors`."""
    committed = {path.name: path.read_text(encoding="utf-8") for path in CASES.glob("*.json")}
    assert committed == {f"{vector.name}.json": vector.text() for vector in VECTORS}


def test_vectors_name_attacks_codes_and_themselves() -> None:
    """An implementer looks them up."""
    attacks, codes = {entry.key for entry in ATTACKS}, {code.value for code in AttackCode}
    assert len({vector.name for vector in VECTORS}) == len(VECTORS)
    for vector in VECTORS:
        assert set(vector.attacks) <= attacks
        expected = [step["expect"] for step in vector.world.steps]
        assert {each["code"] for each in expected if each["verdict"] == "rejected"} <= codes
        assert bool(vector.attacks) or all(each["verdict"] == "accepted" for each in expected)


def test_an_honest_vector_stands_beside_those_that_are_refused() -> None:
    """A verifier that refuses everything must not pass."""
    accepted = [vector for vector in VECTORS if vector.world.steps[-1]["expect"]["verdict"] == "accepted"]
    assert len(accepted) >= 8
