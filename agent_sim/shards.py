"""A run by several processes, each with its share of the fleet: starts them, ends them together, sums their records.

Holds the fleet's journal meanwhile. A process that fails ends the run; one whose vehicles have all arrived lets them
drive on until the others' have, because a vehicle that falls silent would be missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from agent_sim.clock import machine_ms
from agent_sim.errors import ShardError, SimulationError
from agent_sim.fleet import load_fleet
from agent_sim.report import merged
from agent_sim.scenario import Scenario
from agent_sim.simulation import Outcome, Progress, RunFiles, RunLimits, Share, Show
from agent_sim.state_journal import StateJournal

_EVERY_S = 1.0
_TIME_SHARE = 0.05
"""Summing the records may take this share of the time."""
_END_WITHIN_S = 60.0
"""A process that was told to end writes its record and closes its connections first."""
_LINE_MAX = 1 << 20


class ShardedSimulation:
    """One run of one scenario by several processes.

    Args:
        scenario: what to simulate.
        source: its file.
        files: what the run reads and writes.
        limits: bounds of each process.
        shards: how many.
    """

    def __init__(self, scenario: Scenario, source: Path, files: RunFiles, limits: RunLimits, *, shards: int) -> None:
        self._scenario = scenario
        self._source = source
        self._files = files
        self._limits = limits
        self._shards = shards
        self._processes: list[asyncio.subprocess.Process] = []
        self._standing: dict[int, Progress] = {}
        self._over = ""
        self._ended = asyncio.Event()

    def stop(self, reason: str) -> None:
        """End the run soon; the first reason counts."""
        self._over = self._over or reason
        for process in self._processes:
            _tell(process, self._over)

    async def run(self, show: Show) -> Outcome:
        """Run until it is over.

        Raises:
            SimulationError: an input file or the fleet is unusable, or a process failed.
        """
        fleet = load_fleet(self._scenario, self._files.fleet)
        if self._shards > len(fleet.vehicles):
            raise SimulationError(
                f"--shards {self._shards} is more than the {len(fleet.vehicles)} vehicles of the fleet"
            )
        with closing(StateJournal(fleet.states)) as journal:
            try:
                async with asyncio.TaskGroup() as group:
                    summing = group.create_task(self._sum_up())
                    await self._drive(journal.lock, show)
                    self._ended.set()
                    await summing
            finally:
                await self._end()
        figures = self._sum(self._over) if self._all_written else {}
        for path in self._parts:
            path.unlink(missing_ok=True)
        return Outcome(self._over, figures)

    @property
    def _parts(self) -> Sequence[Path]:
        report = self._files.report
        return [report.with_name(f"{report.name}.{number}") for number in range(self._shards)]

    @property
    def _all_written(self) -> bool:
        return all(path.exists() for path in self._parts)

    async def _drive(self, lock: int, show: Show) -> None:
        for number in range(self._shards):
            self._processes.append(await self._start(number, lock))
            if self._over:
                self.stop(self._over)
        async with asyncio.TaskGroup() as group:
            for number, process in enumerate(self._processes):
                group.create_task(self._follow(number, process, show))

    async def _start(self, number: int, lock: int) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "agent_sim.shard",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # In a session of its own: Ctrl-C reaches this process, which ends the others in order.
            start_new_session=True,
            pass_fds=(lock,),
            limit=_LINE_MAX,
        )
        files = replace(self._files, report=self._parts[number])
        orders = orders_of(self._source, files, self._limits, Share(number, self._shards))
        assert process.stdin is not None, "it is a pipe"
        process.stdin.write(json.dumps(orders).encode() + b"\n")
        return process

    async def _follow(self, number: int, process: asyncio.subprocess.Process, show: Show) -> None:
        """Hear a process out.

        Raises:
            ShardError: it failed.
        """
        assert process.stdout is not None, "it is a pipe"
        async for line in process.stdout:
            said = json.loads(line)
            if "over" in said:
                self.stop(said["over"])
                continue
            said["by_release"] = tuple((release, count) for release, count in said["by_release"])
            self._standing[number] = Progress(**said)
            show(self._together())
        if (code := await process.wait()) != 0:
            raise ShardError(f"process {number + 1} of {self._shards} ended with {code}; what it said stands above")

    def _together(self) -> Progress:
        standing = list(self._standing.values())
        by_release: Counter[str] = Counter()
        for each in standing:
            by_release.update(dict(each.by_release))
        if len(standing) == self._shards and all(each.arrived for each in standing):
            self.stop("settled")
        stages = {each.stage for each in standing}
        return Progress(
            "driving" if stages == {"driving"} else "enrolling",
            done=sum(each.done for each in standing) if stages == {"driving"} else sum(map(_enrolled, standing)),
            total=sum(each.total for each in standing),
            fleet_time_ms=max(each.fleet_time_ms for each in standing),
            by_release=tuple(sorted(by_release.items())),
            bricked=sum(each.bricked for each in standing),
            calls=sum(each.calls for each in standing),
            waiting=sum(each.waiting for each in standing),
        )

    async def _sum_up(self) -> None:
        """Keep the whole record fresh, once every process has written one."""
        while not self._ended.is_set():
            started = machine_ms()
            if self._all_written:
                await asyncio.to_thread(self._sum, "")
            took_s = (machine_ms() - started) / 1000
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(_EVERY_S, took_s / _TIME_SHARE)):
                    await self._ended.wait()

    def _sum(self, over: str) -> dict[str, Any]:
        record, tally, run = merged(self._parts)
        record.write(self._files.report, tally, replace(run, over=over))
        return record.figures(tally)

    async def _end(self) -> None:
        """No process outlives the run."""
        for process in self._processes:
            _tell(process, "the run ended")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_END_WITHIN_S):
                    await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()


def _enrolled(progress: Progress) -> int:
    return progress.total if progress.stage == "driving" else progress.done


def _tell(process: asyncio.subprocess.Process, reason: str) -> None:
    """Have a process end; the end of its input says so as well."""
    if process.stdin is not None and not process.stdin.is_closing():
        process.stdin.write(reason.encode() + b"\n")
        process.stdin.close()


def orders_of(source: Path, files: RunFiles, limits: RunLimits, share: Share) -> Mapping[str, Any]:
    """What `shard` reads: all that a process needs."""
    paths = {name: path and str(path) for name, path in asdict(files).items()}
    return {"scenario": str(source), "files": paths, "limits": asdict(limits), "share": asdict(share)}
