"""Work in long turns: once chosen it holds for all that is started, and nobody's own choice is overruled."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from orchestrator.app.scheduling import run_in_long_turns

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has policies to choose from: nothing is missing")

CHOOSE = """
import os, subprocess, sys
from orchestrator.app.scheduling import run_in_long_turns

before = os.SCHED_IDLE if sys.argv[1] == "idle" else os.SCHED_OTHER
os.sched_setscheduler(0, before, os.sched_param(0))
if sys.argv[1] == "forbidden":
    def forbidden(*_):
        raise PermissionError
    os.sched_setscheduler = forbidden
chosen = run_in_long_turns()
started = "import os; print(os.sched_getscheduler(0))"
print(chosen, subprocess.run([sys.executable, "-c", started], capture_output=True, text=True, check=True).stdout)
"""


def chosen(before: str) -> tuple[str, int]:
    """Whether it was chosen, and the policy of a program that was started then."""
    command = [sys.executable, "-c", CHOOSE, before]
    answer, policy = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return answer, int(policy)


@LINUX
def test_whatever_is_started_runs_in_long_turns() -> None:
    """The store is another program, and a worker that is replaced a process that is started anew."""
    assert chosen("nothing") == ("True", os.SCHED_BATCH)


@LINUX
def test_policy_that_somebody_chose_stays() -> None:
    """Whoever starts us with a policy has a reason."""
    assert chosen("idle") == ("False", os.SCHED_IDLE)


@LINUX
def test_where_it_is_forbidden_nothing_is_changed() -> None:
    """Some containers let nobody choose."""
    assert chosen("forbidden") == ("False", os.SCHED_OTHER)


def test_system_without_batches_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """As macOS, which has none."""
    monkeypatch.delattr(os, "SCHED_BATCH", raising=False)
    assert not run_in_long_turns()
