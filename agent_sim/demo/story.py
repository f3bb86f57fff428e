"""The demonstration's story, in order. It ends with 0 only if everything went as told and every record agrees."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
from rich.text import Text

from agent_sim.clock import machine_ms
from agent_sim.demo.audit import Audit, cases_agree, rollout_agrees, vehicles_agree
from agent_sim.demo.house import Folders, House, program
from agent_sim.demo.screen import Screen, variant_table
from agent_sim.demo.view import View
from agent_sim.errors import DemoError
from agent_sim.evidence import POLICY, write_evidence
from agent_sim.fleet import Fleet, build_fleet
from agent_sim.images import build_image, image_path, release_counter
from agent_sim.scenario import Scenario, load_scenario

OVER = frozenset({"completed", "aborted"})
STOPPED = frozenset({"held", "halted"})
GOOD, BAD = "1.1.0", "1.2.0"
IMAGE_BYTES = 400_000
SETTINGS = """\
# Fast fleet time, so that hours pass in a minute; polls are those of a hurried fleet.
scale = {scale:g}
poll_s = 1050
poll_live_s = 150
evaluator_tick_s = 0.4
"""
PLAN = """\
name: {name}
release: {release}
target:
  installed: "{installed}"
# A part of every cohort: those of it that wait show beside the others what silence is normal.
waves:
  - {{name: canary, share: 10%, soak: 2h}}
  - {{name: early, share: 30%, soak: 15m}}
  - {{name: general, soak: 15m}}
regions: {{apac: {{in_flight: 10}}, eu: {{in_flight: 18}}, us: {{in_flight: 18}}}}
# Hours where the defaults are days, because this fleet calls every few minutes. Controls can be heard after an hour.
gate: {{failure_ratio: 2%, sample: 5, stratum_sample: 3, checkpoints: [1h, 90m], silence_reference: [10%, 6%]}}
# No holdout: it would wait for a checkpoint more before the last two vehicles.
holdout: 0%
limits: {{permit_valid: 45m, patience: 10h}}
deadlines: {{permitted: 90m, installing: 90m, rebooting: 90m, verifying: 90m}}
"""
ROLLOUT_TIMEOUT_S = 300.0
SETTLE_TIMEOUT_S = 150.0


class Story:
    """One run of the demonstration.

    Args:
        folders: where.
        scenario_file: the fleet and its faults.
        scale: fleet seconds in a second.
        screen: where it is told.
    """

    def __init__(self, folders: Folders, scenario_file: Path, scale: float, screen: Screen) -> None:
        self._folders = folders
        self._scenario_file = scenario_file
        self._scenario: Scenario = load_scenario(scenario_file)
        self._scale = scale
        self._screen = screen

    async def run(self, *, keep: bool) -> bool:
        """Tell it; whether every record agrees.

        Raises:
            SimulationError: a step failed.
        """
        async with AsyncExitStack() as stack:
            house = House(self._folders, stack)
            fleet = await self._set_up(house)
            await self._publish(house, fleet, GOOD)
            await self._drive(house)
            good = await self._good_release(house)
            bad = await self._bad_release(house, fleet)
            agreed = await self._audit(house, [good, bad])
            await self._close(house, bad, agreed)
            self._next_commands(keep=keep)
            if keep:
                await asyncio.Event().wait()
        return agreed

    async def _set_up(self, house: House) -> Fleet:
        screen, folders = self._screen, self._folders
        screen.heading("1  One data folder: keys, two repositories, store, ledger, orchestrator")
        folders.clear()
        with screen.step("authorities, and the keys of two repositories"):
            await house.command("keys", "init")
        with (folders.data / "outrider.toml").open("a", encoding="utf-8") as settings:
            settings.write(SETTINGS.format(scale=self._scale))
        (folders.data / "ingest.yaml").write_text(POLICY, encoding="utf-8")
        with screen.step("orchestrator: enrolment, vehicle, operator and web ports"):
            await house.serve()
        size = self._scenario.fleet.size
        with screen.step(f"{size} vehicles with keys of their own, imported, with a token each"):
            fleet = await asyncio.to_thread(build_fleet, self._scenario, folders.fleet)
            await house.command("fleet", "import", fleet.csv, "--reason", "demonstration")
            await house.command("fleet", "tokens", "--out", folders.root / "tokens.jsonl", "--reason", "demonstration")
        await self._publish_factory(house, fleet)
        return fleet

    async def _publish_factory(self, house: House, fleet: Fleet) -> None:
        files = {hardware_id: image.file for hardware_id, image in fleet.factory.items()}
        await self._release(house, self._scenario.fleet.release, files, "what the factory installed")

    async def _publish(self, house: House, fleet: Fleet, version: str) -> None:
        hardware = sorted(fleet.factory)
        with self._screen.step(f"release {version}: {len(hardware)} images built and signed by the Image repository"):
            files = {}
            for hardware_id in hardware:
                files[hardware_id] = self._folders.releases / f"{hardware_id}-{version}.img"
                files[hardware_id].write_bytes(build_image(hardware_id, version, IMAGE_BYTES, self._scenario.seed))
            await self._release(house, version, files, f"demonstration release {version}")

    async def _release(self, house: House, version: str, files: Mapping[str, Path], notes: str) -> None:
        images = [
            {
                "file": str(file),
                "hardware_id": hardware_id,
                "path": image_path(hardware_id, version),
                "release_counter": release_counter(version),
                **self._evidence(hardware_id, version, file),
            }
            for hardware_id, file in sorted(files.items())
        ]
        description = self._folders.releases / f"{version}.yaml"
        # JSON is YAML.
        description.write_text(json.dumps({"version": version, "notes": notes, "images": images}, indent=1))
        await house.command("release", "publish", description, "--reason", "demonstration")

    def _evidence(self, hardware_id: str, version: str, file: Path) -> Mapping[str, str]:
        """What a build hands over with its image; the factory's images lie in a folder that stays as it was made."""
        image = self._folders.releases / f"{hardware_id}-{version}.img"
        if image != file:
            shutil.copyfile(file, image)
        return {kind: str(each) for kind, each in write_evidence(image, name=hardware_id, version=version).items()}

    async def _drive(self, house: House) -> None:
        self._screen.heading("2  The fleet drives: enrols, polls over gRPC, loses its links")
        began_ms = machine_ms()
        await house.renew()
        await house.drive(self._scenario_file, self._scale)
        wanted = self._scenario.fleet.size * 9 // 10
        while (attested := await self._attested()) < wanted:
            house.still_drives()
            await asyncio.sleep(0.2)
        self._screen.done(f"{attested} vehicles enrolled and sent their first signed manifest", began_ms)

    async def _attested(self) -> int:
        record = self._record()
        return sum(vehicle["manifest_submitted"] for vehicle in record["vehicles"].values())

    def _record(self) -> dict[str, Any]:
        try:
            record: dict[str, Any] = json.loads(self._folders.report.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {"vehicles": {}}
        return record

    async def _good_release(self, house: House) -> str:
        self._screen.heading(f"3  Release {GOOD} goes out by waves and regions, and nobody touches it")
        name = await self._start(house, "good", GOOD, f"<{GOOD}")
        # Nothing but a person moves a halted rollout: waiting for its end would be for ever.
        view = await self._watch(house, name, OVER | {"halted"})
        if view.status != "completed":
            raise DemoError(f"rollout {name} ended as {view.status}: {view.gate['message']}")
        total = view.total()
        self._screen.say(Text(f"  {total.done} of {total.targeted} vehicles run {GOOD}.", style="green"))
        return name

    async def _bad_release(self, house: House, fleet: Fleet) -> str:
        self._screen.heading(f"4  Release {BAD} bricks one hardware variant without a word")
        await self._publish(house, fleet, BAD)
        name = await self._start(house, "bad", BAD, f">={GOOD}")
        view = await self._watch(house, name, OVER | STOPPED)
        if view.status not in STOPPED:
            raise DemoError(f"rollout {name} is {view.status}, it had to be stopped")
        self._stopped(view)
        await self._settle(house, name)
        return name

    def _stopped(self, view: View) -> None:
        gate, total = view.gate, view.total()
        say = self._screen.say
        says = Text(f"  The gate says {view.status.upper()}", style="bold red")
        say(says.append(f" by rule {gate['rule']} on {gate['scope']}:", "default"))
        self._screen.quote(gate["message"])
        hurt = f"{total.failed} failed, {total.silent} fell silent"
        say(f"    {total.exposed} of {total.targeted} vehicles were exposed; {hurt}.")

    async def _start(self, house: House, name: str, release: str, installed: str) -> str:
        plan = self._folders.root / f"{name}.yaml"
        plan.write_text(PLAN.format(name=name, release=release, installed=installed), encoding="utf-8")
        with self._screen.step(f"started: outrider rollout start {plan.name}"):
            await house.command("rollout", "start", plan, "--yes", "--reason", "demonstration")
        return name

    async def _watch(self, house: House, name: str, until: Collection[str]) -> View:
        began_ms = machine_ms()
        last: View | None = None
        try:
            async with asyncio.timeout(ROLLOUT_TIMEOUT_S):
                with self._screen.rollout() as panel:
                    async for view in house.watch(name, until):
                        house.still_drives()
                        last = view
                        panel.show(view)
        except TimeoutError as error:
            stands = f"{last.status}: {last.gate['message']}" if last else "not to be seen"
            raise DemoError(f"rollout {name} did not end within {ROLLOUT_TIMEOUT_S:g} s, it is {stands}") from error
        if last is None:
            raise DemoError(f"rollout {name} was not to be seen")
        self._screen.done(f"rollout {name} is {last.status}", began_ms)
        return last

    async def _settle(self, house: House, name: str) -> None:
        """Wait until whoever was under way is home, or has been silent for longer than any checkpoint."""
        with self._screen.step("vehicles under way come home, silence is counted, cases are opened"):
            try:
                async with asyncio.timeout(SETTLE_TIMEOUT_S):
                    while not await self._quiet(house, name):  # noqa: ASYNC110 - another process settles
                        await asyncio.sleep(1.0)
            except TimeoutError as error:
                raise DemoError(
                    f"rollout {name} did not come to rest within {SETTLE_TIMEOUT_S:g} s; see {self._folders.root}"
                ) from error

    async def _quiet(self, house: House, name: str) -> bool:
        house.still_drives()
        record = self._record()
        bricked = sum(vehicle["bricked"] for vehicle in record["vehicles"].values())
        if not all(vehicle["settled"] or vehicle["bricked"] for vehicle in record["vehicles"].values()):
            return False
        view = View(await house.command("rollout", "status", name))
        cases = await house.command("case", "list", "--rollout", name)
        return view.live == 0 and len(cases["cases"]) >= bricked

    async def _audit(self, house: House, names: Sequence[str]) -> bool:
        self._screen.heading("5  The audit: four records of the same run")
        audit = Audit()
        record = self._record()
        metrics = await self._scrape()
        # Nobody moves any more, so that these can be asked at once.
        fleet, cases, chain = await asyncio.gather(
            house.command("fleet", "list", "--limit", "0"),
            house.command("case", "list", "--limit", "0"),
            house.command("ledger", "verify"),
        )
        vehicles_agree(audit, record, fleet["vehicles"])
        for name in names:
            status, ledger = await asyncio.gather(
                house.command("rollout", "status", name), house.command("ledger", "outcomes", name)
            )
            rollout_agrees(audit, View(status), record, ledger, metrics)
        cases_agree(audit, record, cases["cases"])
        self._screen.say(audit.table())
        self._screen.say(f"  The ledger's chain of {chain['entries']} entries is whole.")
        for fault in audit.faults:
            self._screen.say(Text(f"  ✗ {fault}", style="bold red"))
        return audit.passed

    async def _scrape(self) -> str:
        endpoints = json.loads((self._folders.data / "endpoints.json").read_text(encoding="utf-8"))
        # The gauges are those of the last tick.
        await asyncio.sleep(1.0)
        async with aiohttp.ClientSession() as session, session.get(f"{endpoints['web']}/metrics") as reply:
            return await reply.text()

    async def _close(self, house: House, name: str, agreed: bool) -> None:
        self._screen.heading(f"6  Where rollout {name} stands")
        view = View(await house.command("rollout", "status", name))
        self._screen.say(variant_table(view))
        verdict = Text("Every record agrees.", "bold green") if agreed else Text("The records DIFFER.", "bold red")
        self._screen.say()
        self._screen.say(verdict.append(f"  {self._screen.elapsed_s:.0f} s", "dim"))

    def _next_commands(self, *, keep: bool) -> None:
        data = shown(self._folders.data)
        if keep:
            self._screen.say("\nThe fleet drives on until Ctrl-C. Try, in another terminal:")
        else:
            self._screen.say("\n`make demo KEEP=1` stays up at this point, for:")
        for command in (
            f"rollout watch bad --data {data}",
            f"case list --data {data}",
            f"vehicle explain {self._scenario.fleet.prefix}-000001 --data {data}",
            f"rollout abort bad --reason 'bricks gen2' --data {data}",
            f"ledger verify --data {data}",
        ):
            self._screen.command(f"{shown(program('outrider'))} {command}")
        if keep:
            self._screen.say("Boards and alerts on this fleet: docs/monitoring.md")


def shown(path: Path) -> Path:
    """A path as a person would type it here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


async def run_demo(folder: Path, scenario: Path, *, scale: float, keep: bool, screen: Screen) -> bool:
    """Run the demonstration.

    Args:
        folder: where it works; made anew.
        scenario: the fleet.
        scale: fleet seconds in a second.
        keep: stay up afterwards until cancelled.
        screen: where it is told.

    Returns:
        Whether every record agrees.

    Raises:
        SimulationError: a step failed.
    """
    return await Story(Folders(folder), scenario, scale, screen).run(keep=keep)
