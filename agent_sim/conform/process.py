"""The agent under test as a process: started, killed, and started again when it ended by itself.

Owns the process group and its log. An agent that exits is taken for a vehicle that restarts, which is one way to
reboot; one that exits again and again is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
from pathlib import Path

from agent_sim.conform.tape import Tape
from agent_sim.errors import InputFileError

EXITS_MAX = 8
_PAUSE_S = 0.2
_GONE_WITHIN_S = 10.0


def agent_command(template: str, folder: Path) -> list[str]:
    """The arguments that start an agent; `{folder}` stands for its folder.

    Raises:
        InputFileError: no command, or one that does not name the folder.
    """
    try:
        words = shlex.split(template)
    except ValueError as error:
        raise InputFileError(f"--agent: {error}") from error
    if not any("{folder}" in word for word in words):
        raise InputFileError("--agent names no {folder}: the agent would not find what it is provisioned with")
    return [word.replace("{folder}", str(folder)) for word in words]


class AgentProcess:
    """One agent.

    Args:
        command: what starts it.
        log: where its output goes.
        tape: told of starts and ends.
    """

    def __init__(self, command: list[str], log: Path, tape: Tape) -> None:
        self._command = command
        self._log = log
        self._tape = tape
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self.exits = 0
        """How often it ended by itself."""

    @property
    def gave_up(self) -> bool:
        """Whether it ended so often by itself that it stays off."""
        return self.exits >= EXITS_MAX

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Power on.

        Raises:
            InputFileError: the command cannot be started.
        """
        await self._spawn()
        self._keeper = tasks.create_task(self._keep())

    async def _spawn(self) -> None:
        with self._log.open("ab") as log:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            except OSError as error:
                raise InputFileError(f"--agent: cannot start {self._command[0]}: {error.strerror}") from error
        self._tape.boot += 1
        self._tape.mark("agent started")

    async def _keep(self) -> None:
        """Start it again when it ended by itself."""
        while True:
            assert self._process is not None, "it was started"
            code = await self._process.wait()
            self.exits += 1
            self._tape.mark(f"agent ended by itself ({code})")
            if self.gave_up:
                return
            await asyncio.sleep(_PAUSE_S * self.exits)
            await self._spawn()

    async def kill(self) -> None:
        """Kill -9, with everything that it started."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        async with asyncio.timeout(_GONE_WITHIN_S):
            await process.wait()
        self._tape.mark("agent killed")
