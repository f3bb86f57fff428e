"""How the system's scheduler takes our processes: as work that is done in long turns.

A thread that wakes may interrupt whoever runs on its core. In a worker that is mostly gRPC's own threads that wake for
a few microseconds and interrupt Python, several times a call, and each time its caches go cold. Of work that the
scheduler knows as a batch nothing that wakes interrupts; its share of the machine is the same.
"""

from __future__ import annotations

import os


def run_in_long_turns() -> bool:
    """For this thread and all that it starts, other programs too; whether it is so. A policy that somebody chose stays,
    and a system that has none of this, or does not let us, is left as it is.
    """
    try:
        if not hasattr(os, "SCHED_BATCH") or os.sched_getscheduler(0) != os.SCHED_OTHER:
            return False
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except OSError:
        return False
    return True
