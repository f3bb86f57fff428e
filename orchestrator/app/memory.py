"""Gives memory back to the machine that a process has no use for any more.

The C library keeps what was freed for the next time, scattered between what is in use: a process that makes much and
keeps little, as the evaluator does at each tick, seems to grow for hours. So it is told to scatter less, and asked now
and then to give back. Where the library is not glibc, nothing is done: others give back by themselves, or cannot be
asked.
"""

from __future__ import annotations

import asyncio
import ctypes
from typing import NoReturn

EVERY_S = 60.0
ARENAS_MAX = 2
"""Heaps, which threads share; by itself there would be eight for each core, each with holes of its own."""
MMAP_FROM_BYTES = 128 * 1024
"""What is as large goes back as soon as it is freed, as each TLS connection's buffer of 256 KiB; by itself the library
would raise this the first time that such a one is freed, and put the next one between all others.
"""
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
"""As malloc.h has them."""


def scatter_less() -> bool:
    """For the rest of the process, and those that it forks; whether the library was told. Before threads are begun."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_ARENA_MAX, ARENAS_MAX)) and bool(mallopt(_M_MMAP_THRESHOLD, MMAP_FROM_BYTES))


def give_back() -> bool:
    """Give back whole pages that nothing lies in; whether there were any. Takes some milliseconds."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and bool(trim(0))


async def give_back_now_and_then() -> NoReturn:
    """Do it for ever."""
    while True:
        await asyncio.sleep(EVERY_S)
        give_back()
