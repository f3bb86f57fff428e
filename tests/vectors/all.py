"""Every vector, and where they lie."""

from __future__ import annotations

from pathlib import Path

from tests.vectors import contents, signatures
from tests.vectors.vector import Vector

CASES = Path(__file__).parent / "cases"


def all_vectors() -> list[Vector]:
    """By name."""
    return sorted([*signatures.vectors(), *contents.vectors()], key=lambda vector: vector.name)
