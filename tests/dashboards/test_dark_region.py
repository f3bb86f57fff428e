"""The network of a region is down: all its vehicles fall silent after a day in which they called, on real processes.

The other alerts and their faults stand in `test_faults`. `make alerts` runs this as well.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from tests.dashboards.watched import watched
from tests.e2e.runbook import Runbook
from tests.processes import eventually
from tests.vehicles import AVehicle, enrolled

pytestmark = [pytest.mark.processes, pytest.mark.timeout(900)]

DARK_SCALE = 600
"""Of fleet time: half an hour passes in three seconds, and with it some three writes of last contacts; a day in 144."""
CALLERS = 20
"""Vehicles of each region. The engine asks for 30 calls in the same half hour a day before."""


@pytest.mark.alerts
def test_a_region_whose_network_is_down_is_told_and_stands_still_until_vehicles_call_again(tmp_path: Path):
    """All vehicles of one region fall silent after a day in which they called; its page is followed in the dark."""
    with watched(tmp_path, scale=DARK_SCALE) as one:
        house = one.installation
        europe, america = (
            enrolled(house, *(AVehicle(f"alert-{region}-{number}", region=region) for number in range(CALLERS)))
            for region in ("eu", "us")
        )
        house.publish("1.1.0", release_counter=2)
        plan = "name: spring\nrelease: 1.1.0\nwaves: [{name: few, share: 10%}, {name: all}]\nholdout: 0%\n"
        house.must("rollout", "start", house.write("spring.yaml", plan), "--yes", "--reason", "test")
        with calling(america):
            with calling(europe):
                europe[0].check_in()
                day_later = europe[0].fleet_time + timedelta(hours=26)
                eventually(lambda: europe[0].fleet_time > day_later, timeout_s=400, what="a day is known")
                one.quiet("OutriderRegionDark")
            alert = one.told("OutriderRegionDark")
            assert alert["labels"]["region"] == "eu"
            dark = Runbook("region-dark", house, {})
            # After a day of fleet time the Image repository's timestamp has ended: nobody renews it here.
            looked = dark.follow("First look", may_end_with={"outrider doctor": 1})
            assert "network down for" in looked["outrider rollout status spring"]
            (brake,) = house.must("rollout", "status", "spring")["brakes"]
            assert (brake["scope"], brake["kind"], brake["actor"]) == ("eu", "BRAKE_KIND_PAUSED", "evaluator")
            dark.follow("Decide")
            with calling(europe):
                one.over("OutriderRegionDark")
                # While they call: what takes a few seconds here is an hour there.
                assert not house.must("rollout", "status", "spring")["brakes"], "it goes on by itself"
            one.told("OutriderRegionDark")
            dark.follow("Act")
            assert not house.must("rollout", "status", "spring")["brakes"], "a person knew better than the count"


@contextmanager
def calling(vehicles: Sequence[AVehicle]) -> Iterator[None]:
    """Let vehicles poll, each a few times a second."""
    over = threading.Event()

    def call() -> None:
        while not over.wait(0.1):
            for vehicle in vehicles:
                vehicle.check_in()

    with ThreadPoolExecutor(1) as calls:
        running = calls.submit(call)
        try:
            yield
        finally:
            over.set()
            running.result()
