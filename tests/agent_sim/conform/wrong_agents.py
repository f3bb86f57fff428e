"""Agents that are wrong on purpose, each in one thing: the simulator's own agent with one part of it broken.

Run as `python -m tests.agent_sim.conform.wrong_agents NAME FOLDER`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent_sim import calls, downloads, single, state_journal
from agent_sim.actions import AuthorizeCall, Call, Input, PermitReplied
from agent_sim.car import CarState
from agent_sim.messages import PermitReply
from signing import verify

HABITS = single.Habits(first_poll_within="30s", install="2m", reboot="30s")


def installs_without_permit() -> None:
    """A refusal of a permit is taken for a permit."""
    honest = calls.VehicleCalls.make

    async def make(self: Any, vehicle_id: str, tls: Any, call: Call, *rest: Any) -> Input:
        answer = await honest(self, vehicle_id, tls, call, *rest)
        if isinstance(call, AuthorizeCall) and isinstance(answer, PermitReplied) and not answer.reply.permitted:
            return PermitReplied(call.token, PermitReply(True, call.attempt_id, valid_for_ms=900_000))
        return answer

    calls.VehicleCalls.make = make  # type: ignore[method-assign, assignment]


def forgets_events() -> None:
    """What was not acknowledged before a crash is gone after it."""
    honest = state_journal.read_states

    def read(path: Path) -> dict[str, CarState]:
        return {
            vehicle_id: replace(state, agent=replace(state.agent, outbox=replace(state.agent.outbox, events=())))
            for vehicle_id, state in honest(path).items()
        }

    state_journal.read_states = read


def trusts_the_director() -> None:
    """What the Director assigns is not compared with what was released."""
    verify.check_match = lambda *_: None  # type: ignore[attr-defined]


def ignores_retry_info() -> None:
    """An overloaded server is asked again whenever it suits."""
    calls.VehicleCalls._retry_after = lambda *_: 0  # type: ignore[method-assign, assignment]


def trusts_every_image() -> None:
    """The bytes of an image are not compared with what was signed."""
    downloads.check_image = lambda *_: None  # type: ignore[attr-defined]


WRONG: dict[str, tuple[Callable[[], None], str, str]] = {
    "installs-without-permit": (installs_without_permit, "P-PERMIT-1", "refused-for-now"),
    "forgets-events": (forgets_events, "P-OUTBOX-4", "killed-while-telling"),
    "trusts-the-director": (trusts_the_director, "P-META-6", "never-released"),
    "ignores-retry-info": (ignores_retry_info, "P-POLL-5", "overloaded"),
    "trusts-every-image": (trusts_every_image, "P-IMAGE-5", "flipped"),
}
"""Name -> what is broken, the clause that it breaks, a scenario that shows it."""


def main(name: str, folder: str) -> None:
    """Be that agent."""
    WRONG[name][0]()
    asyncio.run(single.run_agent(Path(folder), HABITS, asyncio.Event()))


if __name__ == "__main__":
    main(*sys.argv[1:])
