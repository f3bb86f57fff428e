"""Runbooks, followed in the state that each is for: what they tell to type works then, and helps."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from outrider.v1 import rollout_pb2

from orchestrator.clock import MachineClock
from signing.pki import Authority
from tests.e2e.load import BAD
from tests.e2e.rolling import ROLLOUT_TIMEOUT_S, TEST_TIMEOUT_S, Road, a_fleet_on_the_road
from tests.e2e.runbook import Runbook
from tests.processes import CALL_TIMEOUT_S, Installation, an_installation, eventually
from tests.vehicles import AVehicle, enrolled

pytestmark = [pytest.mark.processes, pytest.mark.timeout(TEST_TIMEOUT_S)]

SPRING = "spring"
PLAN = "release: 1.1.0\nholdout: 0%\nwaves: [{name: all}]\n"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Installation]:
    """An installation to break, with a vehicle and a rollout."""
    with an_installation(tmp_path) as running:
        settle_in(running)
        yield running


def settle_in(house: Installation) -> None:
    house.publish("1.1.0", release_counter=2)
    enrolled(house, AVehicle("house-1"))
    request = rollout_pb2.CreateRolloutRequest(plan=PLAN, rollout_id=SPRING, reason="test")
    house.api().rollouts.CreateRollout(request, timeout=CALL_TIMEOUT_S)


def page(name: str, house: Installation, vehicle: str = "v-0007", rollout: str = SPRING) -> Runbook:
    return Runbook(name, house, {SPRING: rollout, "v-0007": vehicle})


def status(house: Installation, name: str = SPRING) -> str:
    """The rollout's status in one word."""
    request = rollout_pb2.GetRolloutRequest(name=f"rollouts/{name}")
    value = house.api().rollouts.GetRollout(request, timeout=CALL_TIMEOUT_S).status
    return rollout_pb2.RolloutStatus.Name(value).removeprefix("ROLLOUT_STATUS_")


def level(house: Installation, check: str) -> str:
    """How the doctor's finding of that name weighs."""
    findings = {finding["check"]: finding["level"] for finding in house.cli("doctor").json["findings"]}
    return str(findings[check])


def test_halted_release_is_understood_aborted_and_taken_back(fleet: Path, tmp_path: Path) -> None:
    """The night that Outrider is made for, with nothing but the page: every vehicle that can drive ends on software
    that works, and every other one stands in a case until a person closes it.
    """
    with a_fleet_on_the_road(fleet, tmp_path) as road, road.driving():
        name = road.start_rollout(BAD)
        eventually(lambda: road.status(name) == "HALTED", timeout_s=ROLLOUT_TIMEOUT_S, what="the gate halts it")
        hurt = sorted(road.open_cases(name))[0]
        runbook = page("rollout-halted", road.installation, vehicle=hurt, rollout=name)
        looked = runbook.follow("First look")
        assert "silence" in looked["outrider rollout status spring"], "the rule is named"
        runbook.follow("Decide")
        runbook.follow("Act", leaving_out=["outrider rollout resume"])
        assert road.status(name) == "ABORTED"
        eventually(lambda: not running_bad(road), timeout_s=ROLLOUT_TIMEOUT_S, what="nobody drives on the bad release")
        for vehicle in sorted(road.open_cases(name)):
            closed = page("rollout-halted", road.installation, vehicle=vehicle, rollout=name)
            closed.follow("Afterwards")
        assert road.open_cases(name) == set()


def running_bad(road: Road) -> set[str]:
    """Vehicles that drive, and run the bad release."""
    return {
        vehicle_id for vehicle_id, each in road.vehicles().items() if each["release"] == BAD and not each["bricked"]
    }


def test_rollout_that_waits_is_looked_at_by_three_pages(house: Installation) -> None:
    """Held, stalled and silent have the same first look, and every sentence of it can be typed."""
    house.must("ca", "issue-operator", "alice", "--role", "approver")
    page("rollout-held", house, "house-1").follow("First look")
    page("rollout-held", house, "house-1").follow("Decide")
    page("wave-stalled", house, "house-1").follow("First look")
    page("wave-stalled", house, "house-1").follow("Decide")
    page("silence-above-holdout", house, "house-1").follow("First look")
    page("silence-above-holdout", house, "house-1").follow("Decide")
    page("silence-above-holdout", house).follow("Act")
    assert status(house) == "PAUSED"
    region = page("vehicles-silent-in-region", house)
    region.follow("First look")
    region.follow("Decide")
    region.follow("Act")
    assert status(house) == "PAUSED", "a region that goes on does not resume the whole"
    page("rollout-held", house).follow("Act", leaving_out=["outrider rollout resume"])
    page("rollout-held", house).follow("Act", leaving_out=["outrider rollout pause"])
    assert status(house) == "RUNNING"
    page("check-in-slo", house).follow("First look")
    stalled = page("wave-stalled", house)
    refused = stalled.type(stalled.commands("Act")[0])
    assert refused.exit_code == 4, "no wave of this plan asks for an approval, and that is what it says"
    stalled.follow("Act", leaving_out=["outrider rollout approve"])
    assert status(house) == "ABORTED"


def test_parts_that_stand_still_and_holds_that_wait_for_a_person(house: Installation) -> None:
    """A region goes on by its page, a variant by its own, and a signal that held everything is taken back."""
    dark = page("region-dark", house)
    for section in ("First look", "Decide", "Act"):
        dark.follow(section)
    house.must("rollout", "pause", SPRING, "--scope", "eu/gen2", "--reason", "as if the gate had halted it")
    part = Runbook("part-halted", house, {"gen1": "gen2"})
    assert "eu/gen2" in part.follow("First look")["outrider rollout status spring"]
    part.follow("Act", leaving_out=[f"outrider rollout {verb}" for verb in ("pause", "abort", "revert")])
    assert not house.must("rollout", "status", SPRING)["brakes"]
    numbers = ("--value", "3", "--limit", "1", "--reason", "test")
    house.must("rollout", "signal", "post", SPRING, "tow_rate", *numbers)
    eventually(lambda: status(house) == "HELD", what="the signal holds it")
    final = page("hold-final", house)
    assert "tow_rate" in final.follow("First look")["outrider rollout status spring"]
    final.follow("Act", leaving_out=[f"outrider rollout {verb}" for verb in ("resume", "abort", "revert")])
    eventually(lambda: status(house) == "RUNNING", what="nothing holds it any more")


def test_store_that_does_not_come_up_is_repaired(house: Installation) -> None:
    """A torn tail: the page leads from the alert to rollouts that a person resumes."""
    files = house.data / "store" / "appendonlydir"
    pid = house.store_pid
    assert house.process is not None
    # It must not start the store again before the tail is torn.
    os.kill(house.process.pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    [newest] = files.glob("*.incr.aof")
    newest.write_bytes(newest.read_bytes() + b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$500\r\ntorn")
    os.kill(house.process.pid, signal.SIGCONT)
    eventually(lambda: house.log_events("store_failed"), what="the supervisor says that it does not come up")
    runbook = page("store-down", house)
    looked = runbook.follow("First look", may_end_with={"outrider doctor": 1})
    assert "does not answer" in looked["outrider doctor"]
    house.kill()
    assert level(house, "store file") == "error"
    runbook.follow("Act", leaving_out=["outrider serve"], may_end_with={"outrider store repair --check": 4})
    house.start()
    house.must("rollout", "pause", SPRING, "--reason", "as recovery would")
    runbook.follow("Afterwards")
    assert status(house) == "RUNNING"


def test_store_that_forgets_is_paused_upon_and_set_back(house: Installation) -> None:
    """Somebody changed a setting under us; the page finds which, and the doctor agrees when it is set back."""
    with redis.Redis(unix_socket_path=str(house_socket(house))) as store:
        store.config_set("appendfsync", "everysec")
        runbook = page("store-not-durable", house)
        looked = runbook.follow("First look", may_end_with={"outrider doctor": 1})
        assert "appendfsync everysec" in looked["outrider doctor"]
        runbook.follow("Act")
        assert status(house) == "PAUSED"
        store.config_set("appendfsync", "always")
    runbook.follow("Afterwards")
    assert status(house) == "RUNNING"


def house_socket(house: Installation) -> str:
    """Where the private store listens."""
    return str(json.loads((house.data / "store" / "store.json").read_text())["socket"])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 48 MiB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(mount)], check=False)
    if done.returncode:
        pytest.skip("mounting a small disk needs root and the right to mount")
    yield mount
    subprocess.run(["umount", "--lazy", str(mount)], check=True)


def test_full_disk_is_found_and_the_service_recovers_when_there_is_room(small_disk: Path) -> None:
    """Nothing is acknowledged that is not on disk; when there is room again, nobody has to do anything."""
    with an_installation(small_disk) as house:
        (vehicle,) = enrolled(house, AVehicle("disk-1"))
        fill(small_disk / "ballast")
        runbook = page("disk-full", house)
        looked = runbook.follow("First look", may_end_with={"outrider doctor": 1})
        assert "cannot be written and synced" in looked["outrider doctor"]
        (small_disk / "ballast").unlink()
        eventually(lambda: house.get("/readyz")[0] == 200, what="it is ready again")
        # A disk of this size stays too small for the doctor's taste.
        runbook.follow("Act", may_end_with={"outrider doctor": 1})
        assert vehicle.check_in().HasField("fleet_time")


def fill(path: Path) -> None:
    """Write until the disk takes nothing more."""
    try:
        with path.open("wb", buffering=0) as file:
            while file.write(b"\0" * 4096):
                pass
    except OSError:
        return


def test_authority_near_its_end_is_renewed_and_no_vehicle_notices(tmp_path: Path) -> None:
    """The alert comes 30 days before; vehicles of before go on calling, without enrolling again."""
    with an_installation(tmp_path) as house:
        (vehicle,) = enrolled(house, AVehicle("ca-1"))
        house.terminate()
        shorten(house.data / "authorities", "vehicle", days=20)
        house.start()
        assert level(house, "vehicle authority") == "warning"
        runbook = page("certificate-authority-near-expiry", house)
        looked = runbook.follow("First look")
        assert "outrider ca renew vehicle" in looked["outrider doctor"]
        runbook.follow("Act")
        assert level(house, "vehicle authority") == "ok"
        eventually(lambda: house.log_events("certificates_renewed"), what="the worker shows what was renewed")
        vehicle.connect(house)
        assert vehicle.check_in().HasField("fleet_time")


def shorten(folder: Path, name: str, *, days: int) -> None:
    """Let an authority end soon, as time would."""
    now = datetime.fromtimestamp(MachineClock().wall_ms() // 1000, tz=UTC)
    (folder / f"{name}.crt").write_bytes(
        Authority.load(folder, name).renewed(now, timedelta(days=days)).certificate_pem
    )


def test_hanging_supervisor_is_found_and_killed_and_the_rollout_goes_on(house: Installation) -> None:
    """The evaluator hangs with its process: the page's kill -9 loses nothing."""
    assert house.process is not None
    os.kill(house.process.pid, signal.SIGSTOP)
    runbook = page("evaluator-late", house)
    looked = runbook.follow("First look", may_end_with={"outrider doctor": 1})
    assert "evaluator" in looked["outrider doctor"]
    runbook.follow("Act", leaving_out=["outrider serve"])
    house.process.wait(CALL_TIMEOUT_S)
    house.start()
    assert status(house) == "RUNNING"
    page("journal-lag", house).follow("First look")
    page("journal-lag", house).follow("Afterwards")


def test_worker_that_keeps_ending_is_seen_and_told(house: Installation) -> None:
    """A loop shows in the metric that the alert is made of, and the page's first look works in the middle of it."""
    for round_number in range(1, 4):
        eventually(house.workers, timeout_s=60.0, what="a worker runs")
        house.kill_worker()
        eventually(
            lambda wanted=round_number: house.metric("outrider_child_restarts_total", child="worker-1") >= wanted,
            timeout_s=60.0,
            what="the restart is counted",
        )
    runbook = page("orchestrator-crash-loop", house)
    # Whether the doctor meets a worker or the gap between two is chance; the service itself stands either way.
    assert (
        f"process {house.endpoints['pid']} serves this folder" in runbook.type(runbook.commands("First look")[0]).stdout
    )
    eventually(lambda: level(house, "operators port") == "ok", timeout_s=60.0, what="a worker serves again")
    runbook.follow("Afterwards")


def test_metadata_that_ends_soon_is_renewed_by_hand(house: Installation) -> None:
    """Whoever is called runs the renewal once, then mends the service that should have."""
    release = house.data.parent / "release-1.1.0"
    for file in release.iterdir():
        shutil.copy(file, house.data.parent / file.name)
    shutil.copy(release / "release.yaml", house.data.parent / "release-1.1.0.yaml")
    # Anna and Bob are the keys that `keys init` made, and each confirms what is shown.
    people = {
        f"{name}.pem": f"outrider-data/keys/director/root-{key}.pem --yes" for name, key in (("anna", 1), ("bob", 3))
    }
    runbook = Runbook("metadata-near-expiry", house, people)
    runbook.follow("First look")
    runbook.follow("Decide and act")
    runbook.follow("Afterwards")
