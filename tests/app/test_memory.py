"""A process that made much and kept little gives its memory back."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

MUCH = """
from pathlib import Path
from orchestrator.app.memory import give_back

def resident_kib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4

before = resident_kib()
made = [bytearray(3_000) for _ in range(40_000)]
kept = made[::400]  # one in a hundred pages or so stays in use, the last of them behind all others
del made
held = resident_kib()
assert give_back()
print(held - before, resident_kib() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")
def test_what_was_freed_goes_back_to_the_machine() -> None:
    """What is in use lies between: without asking, the library keeps nearly all of it."""
    said = subprocess.run([sys.executable, "-c", MUCH], check=True, capture_output=True, text=True, timeout=60).stdout
    held_kib, left_kib = map(int, said.split())
    assert held_kib > 80_000
    assert left_kib < held_kib / 10
