"""Gives memory back to the machine that a process has no use for any more.

The C library keeps what was freed for the next time, scattered between what is in use: a process that makes much and
keeps little, as the evaluator does at each tick, seems to grow for hours. Where the library is not glibc, nothing is
done: others give back by themselves, or cannot be asked.
"""

from __future__ import annotations

import asyncio
import ctypes
from typing import NoReturn

EVERY_S = 60.0


def give_back() -> bool:
    """Give back whole pages that nothing lies in; whether there were any. Takes some milliseconds."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and bool(trim(0))


async def give_back_now_and_then() -> NoReturn:
    """Do it for ever."""
    while True:
        await asyncio.sleep(EVERY_S)
        give_back()
