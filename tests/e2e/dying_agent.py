"""Runs the minimal agent and kills it, as `kill -9` does, at a chosen point: `dying_agent.py AGENT FOLDER POINT N`.

Points: `save`, after the Nth durable save; `torn`, in the middle of the Nth (written beside, not yet renamed); `chunk`,
after the Nth piece of an image was read; `slot`, after the Nth slot was written. The agent knows nothing of it.
"""

from __future__ import annotations

import http.client
import os
import runpy
import signal
import sys
from collections.abc import Callable
from typing import Any

import signing.files

POINTS: dict[str, tuple[Any, str, bool]] = {
    "save": (signing.files, "write_atomically", False),
    "torn": (os, "replace", True),
    "chunk": (http.client.HTTPResponse, "read1", False),
    "slot": (signing.files, "copy_atomically", False),
}
"""What is called at a point: where, its name, and whether death comes before it."""


def deadly(call: Callable[..., Any], *, times: int, before: bool) -> Callable[..., Any]:
    """`call`, but the process dies at the given one."""
    calls = 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == times and before:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = call(*args, **kwargs)
        if calls == times:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    return wrapped


if __name__ == "__main__":
    agent, folder, point, number = sys.argv[1:]
    holder, name, dies_before = POINTS[point]
    setattr(holder, name, deadly(getattr(holder, name), times=int(number), before=dies_before))
    sys.argv = [agent, folder]
    runpy.run_path(agent, run_name="__main__")
