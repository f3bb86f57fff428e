"""Writes the vectors anew: `python -m tests.vectors`."""

from __future__ import annotations

from tests.vectors.all import CASES, all_vectors

if __name__ == "__main__":
    for path in CASES.glob("*.json"):
        path.unlink()
    for vector in all_vectors():
        (CASES / f"{vector.name}.json").write_text(vector.text(), encoding="utf-8")
