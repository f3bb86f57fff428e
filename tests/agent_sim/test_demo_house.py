"""The demonstration notices a fleet that ended, instead of waiting for it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from agent_sim.demo import house
from agent_sim.demo.house import Folders, House
from agent_sim.errors import DemoError


@pytest.mark.parametrize(("script", "ended"), [("exit 3", True), ("exec sleep 60", False)])
async def test_fleet_that_ended_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, ended: bool
) -> None:
    """With its code and its log; of one that drives nothing is said."""
    command = tmp_path / "command"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setattr(house, "program", lambda name: command)
    async with AsyncExitStack() as stack:
        lives = House(Folders(tmp_path), stack)
        lives.still_drives()
        await lives.drive(tmp_path / "scenario.toml", 500.0)
        if ended:
            with pytest.raises(DemoError, match=r"the fleet ended with code 3; see .*fleet\.log"):
                await looked_after(lives, looks=2_000)
        else:
            await looked_after(lives, looks=20)


async def looked_after(lives: House, *, looks: int) -> None:
    """Look so often, every hundredth of a second."""
    for _ in range(looks):
        lives.still_drives()
        await asyncio.sleep(0.01)
