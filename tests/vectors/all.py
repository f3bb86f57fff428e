"""Every vector, and where they lie."""

from __future__ import annotations

from pathlib import Path

from tests.vectors import contents, signatures, suppliers
from tests.vectors.vector import Vector

CASES = Path(__file__).parent / "cases"


def all_vectors() -> list[Vector]:
    """By name."""
    return sorted([*signatures.vectors(), *contents.vectors(), *suppliers.vectors()], key=lambda vector: vector.name)
