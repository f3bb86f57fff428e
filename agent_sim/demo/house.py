"""The processes of the demonstration: the orchestrator, the renewal of the Image repository, the fleet; and the
`outrider` command.

Everything is a real process that talks over the loopback, as an installation's would.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_sim.demo.view import View
from agent_sim.errors import DemoError

MARKER = ".outrider-demo"
SERVE_TIMEOUT_S = 40.0
STOP_TIMEOUT_S = 15.0
LINE_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Folders:
    """Where the demonstration lives."""

    root: Path

    @property
    def data(self) -> Path:
        """The orchestrator's data folder."""
        return self.root / "orchestrator"

    @property
    def fleet(self) -> Path:
        """The vehicles: keys, slots, certificates."""
        return self.root / "fleet"

    @property
    def releases(self) -> Path:
        """Images and release descriptions."""
        return self.root / "releases"

    @property
    def targets(self) -> Path:
        """What a Prometheus is to scrape."""
        return self.root / "prometheus-targets.json"

    @property
    def report(self) -> Path:
        """The simulator's own record."""
        return self.root / "simulator.json"

    def clear(self) -> None:
        """Make the folder anew.

        Raises:
            DemoError: something stands there that no demonstration made.
        """
        if self.root.exists() and not (self.root / MARKER).exists() and any(self.root.iterdir()):
            raise DemoError(f"{self.root} holds something else: choose another folder with --folder")
        shutil.rmtree(self.root, ignore_errors=True)
        self.releases.mkdir(parents=True)
        (self.root / MARKER).touch()


class House:
    """Starts processes and ends them all.

    Args:
        folders: where they work and log.
        stack: what is ended with it.
    """

    def __init__(self, folders: Folders, stack: AsyncExitStack) -> None:
        self._folders = folders
        self._stack = stack
        self._fleet: asyncio.subprocess.Process | None = None

    async def command(self, *arguments: str | Path) -> dict[str, Any]:
        """Run `outrider ARGUMENTS --output json` and return its answer.

        Raises:
            DemoError: it ended with an error; its own words.
        """
        process = await self._start("outrider", self._with_data(arguments), stdout=PIPE)
        answer, errors = await process.communicate()
        if process.returncode:
            raise DemoError(f"outrider {' '.join(map(str, arguments))}: {errors.decode(errors='replace').strip()}")
        parsed: dict[str, Any] = json.loads(answer) if answer.strip() else {}
        return parsed

    async def show(self, *arguments: str | Path) -> str:
        """Run `outrider ARGUMENTS` and return what a person would read."""
        process = await self._start("outrider", [*map(str, arguments), "--data", str(self._folders.data)], stdout=PIPE)
        answer, _ = await process.communicate()
        return answer.decode(errors="replace")

    async def watch(self, rollout_id: str, until: Collection[str]) -> AsyncIterator[View]:
        """A rollout each time it changed, until its status is one of `until` or it is over.

        Raises:
            DemoError: it could not be watched.
        """
        process = await self._start("outrider", self._with_data(("rollout", "watch", rollout_id)), stdout=PIPE)
        assert process.stdout is not None
        try:
            while line := await process.stdout.readline():
                view = View(json.loads(line))
                yield view
                if view.status in until:
                    return
            if await process.wait():
                raise DemoError(f"outrider rollout watch {rollout_id} ended with code {process.returncode}")
        finally:
            await end(process)

    async def serve(self) -> None:
        """Start the orchestrator and wait until it serves.

        Raises:
            DemoError: it did not; its log says why.
        """
        process = await self._service("orchestrator", "outrider", "serve", "--data", str(self._folders.data))
        endpoints = self._folders.data / "endpoints.json"
        try:
            async with asyncio.timeout(SERVE_TIMEOUT_S):
                while not endpoints.exists():
                    if process.returncode is not None:
                        raise DemoError(f"the orchestrator ended; see {self._log('orchestrator')}")
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise DemoError(f"the orchestrator did not start; see {self._log('orchestrator')}") from error
        self._tell_prometheus(json.loads(endpoints.read_text(encoding="utf-8"))["web"])

    def _tell_prometheus(self, web: str) -> None:
        """Write down where to scrape, as deploy/prometheus/prometheus.yml reads it: the port is another in each run."""
        targets = [{"targets": [web.removeprefix("http://")], "labels": {}}]
        self._folders.targets.write_text(json.dumps(targets) + "\n", encoding="utf-8")

    async def renew(self) -> None:
        """Start the process that renews the Image repository's online signatures."""
        await self._service(
            "image-repo", "outrider", "image-repo", "renew", "--every", "20", "--data", str(self._folders.data)
        )

    async def drive(self, scenario: Path, scale: float) -> None:
        """Start the fleet."""
        folders = self._folders
        self._fleet = await self._service(
            "fleet",
            "outrider-sim",
            *("run", str(scenario), "--endpoints", str(folders.data / "endpoints.json")),
            *("--provisioning", str(folders.data / "provisioning"), "--fleet", str(folders.fleet)),
            *("--tokens", str(folders.root / "tokens.jsonl"), "--report", str(folders.report)),
            *("--scale", f"{scale:g}"),
        )

    def still_drives(self) -> None:
        """Make sure that the fleet's process runs: one that ended would be waited for in vain.

        Raises:
            DemoError: it ended.
        """
        if self._fleet is not None and self._fleet.returncode is not None:
            raise DemoError(f"the fleet ended with code {self._fleet.returncode}; see {self._log('fleet')}")

    async def _service(self, name: str, command: str, *arguments: str) -> asyncio.subprocess.Process:
        log = self._stack.enter_context(self._log(name).open("wb"))
        process = await self._start(command, arguments, stdout=log, stderr=log)
        self._stack.push_async_callback(end, process)
        return process

    async def _start(
        self, name: str, arguments: Sequence[str], *, stdout: Any, stderr: Any = PIPE
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            str(program(name)),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            limit=LINE_BYTES_MAX,
            # Ctrl-C ends the demonstration, which then ends these in order.
            start_new_session=True,
        )

    def _with_data(self, arguments: Sequence[str | Path]) -> list[str]:
        return [*map(str, arguments), "--data", str(self._folders.data), "--output", "json"]

    def _log(self, name: str) -> Path:
        return self._folders.root / f"{name}.log"


def program(name: str) -> Path:
    """One of our commands, installed beside this interpreter."""
    return Path(sys.executable).parent / name


async def end(process: asyncio.subprocess.Process) -> None:
    """End a process in good order, by force if it takes too long."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        # It may have ended just now.
        if process.returncode is None:
            process.kill()
        await process.wait()
