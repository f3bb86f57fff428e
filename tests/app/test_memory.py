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


BUFFERS = """
import sys
from pathlib import Path
from orchestrator.app.memory import scatter_less

def resident_kib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4

if sys.argv[1] == "less":
    assert scatter_less()
kept = []
before = resident_kib()
for _ in range(50):
    buffers = [bytearray(256 * 1024) for _ in range(40)]
    kept += [bytearray(2_000) for _ in range(40)]
    del buffers
print(resident_kib() - before)
"""
GLIBC = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")


@GLIBC
def test_large_buffers_leave_nothing_behind() -> None:
    """Connections come and go for months, each with its buffers."""

    def left_kib(how: str) -> int:
        said = subprocess.run(
            [sys.executable, "-c", BUFFERS, how], check=True, capture_output=True, text=True, timeout=60
        )
        return int(said.stdout)

    assert left_kib("less") < 6_000 < left_kib("more")


@GLIBC
def test_what_was_freed_goes_back_to_the_machine() -> None:
    """What is in use lies between: without asking, the library keeps nearly all of it."""
    said = subprocess.run([sys.executable, "-c", MUCH], check=True, capture_output=True, text=True, timeout=60).stdout
    held_kib, left_kib = map(int, said.split())
    assert held_kib > 80_000
    assert left_kib < held_kib / 10
