"""Every alert, made to fire by causing its fault on real processes that a real Prometheus watches.

The rules are the committed ones, told faster (`watched`). Fleet time runs fast by the installation's own setting.
`make alerts` runs all of this; `make test` the quick ones.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
import redis
import yaml

from tests.dashboards.asked import RULES
from tests.dashboards.watched import FIRES_S, IN_BRACKETS, Watched, faster, watched
from tests.processes import Installation, eventually
from tests.vehicles import AVehicle, enrolled, import_fleet, offered

SCALE = 2_000
"""Of fleet time: a day passes in 43 seconds."""
UNPACED = "limits: {blast_budget: 2000}\n"
"""Of a plan whose gate permits some dozens before it heard of one: else it would wait for vehicles that never speak."""

pytestmark = [pytest.mark.processes, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """One installation for faults that end again; its certificates are short-lived and nobody renews its metadata."""
    folder = tmp_path_factory.mktemp("faults")
    with watched(folder, scale=SCALE, certificate_server_days=5) as one:
        yield one


@pytest.fixture(scope="module")
def vehicle(world: Watched) -> AVehicle:
    """Somebody who calls."""
    return enrolled(world.installation, AVehicle("alert-caller"))[0]


def store_of(installation: Installation) -> redis.Redis:
    """A line to the embedded store."""
    running = json.loads((installation.data / "store" / "store.json").read_text())
    return redis.Redis(unix_socket_path=running["socket"], protocol=3)


def test_rules_are_told_faster_and_are_the_same_otherwise():
    """A test on other rules than the committed ones proves nothing about them."""
    text = RULES.read_text("utf-8")
    before, after = yaml.safe_load(text), yaml.safe_load(faster(text, 2))
    for old, new in zip(before["groups"], after["groups"], strict=True):
        for rule, changed in zip(old["rules"], new["rules"], strict=True):
            assert {**rule, "expr": "", "for": ""} == {**changed, "expr": "", "for": ""}
            assert IN_BRACKETS.sub("", rule["expr"]).count("[") == 0
    assert "[150000ms]" in faster(text, 2)
    assert "for: 15000ms" in faster(text, 2)
    assert faster(text, 1).count("ms]") == len(IN_BRACKETS.findall(text))


def test_certificates_that_end_within_a_week_page(world: Watched):
    """`certificate_server_days = 5`: both are told, by severity."""
    world.told("OutriderCertificateNearExpiry", certificate="server", severity="page")
    world.told("OutriderCertificateNearExpiry", certificate="images", severity="ticket")
    firing = world.prometheus.alerts("OutriderCertificateNearExpiry")
    assert {alert["labels"]["certificate"] for alert in firing} == {"server", "images"}


def test_a_store_that_no_longer_syncs_pages(world: Watched):
    """Somebody turned `appendfsync` down, to make it faster."""
    world.quiet("OutriderStoreNotDurable")
    with store_of(world.installation) as line:
        line.config_set("appendfsync", "everysec")
        try:
            assert world.told("OutriderStoreNotDurable")["labels"]["by"] == "server"
        finally:
            line.config_set("appendfsync", "always")
    world.over("OutriderStoreNotDurable")


def test_a_store_that_hangs_pages_and_vehicles_that_are_not_answered_burn_the_budget(world: Watched, vehicle: AVehicle):
    """SIGSTOP: its socket takes connections, and answers nothing."""
    for _ in range(3):
        vehicle.check_in()
    world.quiet("OutriderStoreDown")
    pid = world.installation.store_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(3):
            with pytest.raises(grpc.RpcError):
                vehicle.check_in()
        assert world.told("OutriderStoreDown")["annotations"]["summary"] == "supervisor cannot reach the store"
        world.told("OutriderCheckInBudgetBurn", severity="page", window="1h")
        world.told("OutriderEvaluatorLate")
    finally:
        os.kill(pid, signal.SIGCONT)
    world.over("OutriderStoreDown")
    world.over("OutriderEvaluatorLate")


def test_a_ledger_that_takes_nothing_is_told_by_its_journal_and_by_the_evaluator(world: Watched):
    """Another program holds the ledger's lock: a backup that does not end."""
    world.over("OutriderEvaluatorLate")
    lock = sqlite3.connect(world.installation.data / "ledger.sqlite3", isolation_level=None)
    try:
        lock.execute("BEGIN IMMEDIATE")
        import_fleet(world.installation, [AVehicle("alert-waits")])
        world.told("OutriderJournalLag")
        world.told("OutriderEvaluatorLate")
    finally:
        lock.close()
    world.over("OutriderJournalLag")
    world.over("OutriderEvaluatorLate")


def test_a_worker_that_keeps_ending_pages(world: Watched):
    """Killed as soon as it is there, again and again."""
    world.quiet("OutriderOrchestratorCrashLoop")
    killed: set[int] = set()

    def told() -> bool:
        for pid in set(world.installation.workers()) - killed:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        return bool(world.prometheus.alerts("OutriderOrchestratorCrashLoop"))

    eventually(told, timeout_s=FIRES_S, what="the crash loop is told")
    (alert,) = world.prometheus.alerts("OutriderOrchestratorCrashLoop")
    assert alert["labels"]["child"] == "worker-1"
    # `increase` extrapolates to the edges of its window: three ends may already count as a little more than three.
    assert len(killed) >= 3
    world.over("OutriderOrchestratorCrashLoop")


def test_metadata_that_nobody_renews_pages(world: Watched):
    """`outrider image-repo renew` was never started: a day of fleet time takes 43 seconds here."""
    alert = world.told("OutriderMetadataNearExpiry", severity="page", role="timestamp")
    assert alert["labels"]["repository"] == "image"


@pytest.mark.alerts
def test_a_wave_whose_vehicles_never_call_is_told(tmp_path: Path):
    """The vehicles of the first wave stand in a hall without a network."""
    with watched(tmp_path, scale=SCALE) as one:
        installation = one.installation
        import_fleet(installation, [AVehicle(f"alert-hall-{number}") for number in range(20)])
        installation.publish("1.1.0", release_counter=2)
        plan = "name: stalled\nrelease: 1.1.0\nwaves: [{name: all, soak: 10m}]\ngate: {checkpoints: [15m, 30m]}\n"
        installation.must("rollout", "start", installation.write("stalled.yaml", plan), "--yes", "--reason", "test")
        assert one.told("OutriderWaveStalled")["labels"]["region"] == "eu"
        one.quiet("OutriderRolloutHeld")


@pytest.mark.alerts
def test_a_release_that_fails_is_held_and_then_halted(tmp_path: Path):
    """Eight vehicles have a permit; two fail, which holds, then the others, which halts."""
    with watched(tmp_path, scale=SCALE) as one:
        vehicles = permitted(one.installation, 8, "failing", f"gate: {{failure_ratio: 10%}}\n{UNPACED}")
        for vehicle, attempt in vehicles[:2]:
            vehicle.check_in(vehicle.event(attempt, "INSTALL_STARTED"), vehicle.event(attempt, "FAILED", "flash"))
        one.told("OutriderRolloutHeld", rollout="failing")
        one.quiet("OutriderRolloutHalted")
        for vehicle, attempt in vehicles[2:]:
            vehicle.check_in(vehicle.event(attempt, "INSTALL_STARTED"), vehicle.event(attempt, "FAILED", "flash"))
        one.told("OutriderRolloutHalted", rollout="failing")
        one.over("OutriderRolloutHeld")


@pytest.mark.alerts
def test_a_hold_that_nothing_will_clear_is_told(tmp_path: Path):
    """A signal from outside holds a rollout for longer than its plan allows, until somebody decides."""
    with watched(tmp_path, scale=SCALE) as one:
        installation = one.installation
        import_fleet(installation, [AVehicle("alert-final-1")])
        installation.publish("1.1.0", release_counter=2)
        plan = "name: final\nrelease: 1.1.0\nwaves: [{name: all}]\ngate: {checkpoints: [15m, 30m], hold_final: 1h}\n"
        installation.must("rollout", "start", installation.write("final.yaml", plan), "--yes", "--reason", "test")
        one.quiet("OutriderHoldFinal")
        numbers = ("--value", "3", "--limit", "1", "--reason", "test")
        installation.must("rollout", "signal", "post", "final", "tow_rate", *numbers)
        one.told("OutriderHoldFinal", rollout="final")
        installation.must("rollout", "abort", "final", "--yes", "--reason", "test")
        one.over("OutriderHoldFinal")


@pytest.mark.alerts
def test_a_signal_that_nobody_posts_any_more_is_told(tmp_path: Path):
    """The feed posts once and dies: six hours later its rollout is held, until somebody takes the signal back."""
    with watched(tmp_path, scale=SCALE) as one:
        installation = one.installation
        import_fleet(installation, [AVehicle("alert-feed-1")])
        installation.publish("1.1.0", release_counter=2)
        plan = "name: fed\nrelease: 1.1.0\nwaves: [{name: all}]\n"
        installation.must("rollout", "start", installation.write("fed.yaml", plan), "--yes", "--reason", "test")
        numbers = ("--value", "0", "--limit", "1", "--good-for", "6h", "--reason", "test")
        installation.must("rollout", "signal", "post", "fed", "tow_rate", *numbers)
        one.quiet("OutriderSignalOverdue")
        one.told("OutriderSignalOverdue", rollout="fed", signal="tow_rate", scope="all")
        assert installation.must("rollout", "status", "fed")["status"] == "ROLLOUT_STATUS_HELD"
        installation.must("rollout", "signal", "clear", "fed", "tow_rate", "--scope", "all", "--reason", "no more desk")
        one.over("OutriderSignalOverdue")


@pytest.mark.alerts
def test_a_variant_that_fails_pages_while_the_rest_goes_on(tmp_path: Path):
    """Eight of eight of one variant fail, and none of forty of the other: that part is halted, the whole is not."""
    with watched(tmp_path, scale=SCALE) as one:
        # Nobody reports well here, and 24 h are 43 s: no checkpoint may pass before the failures are told.
        rules = f"gate: {{failure_ratio: 30%, checkpoints: [20d, 30d]}}\n{UNPACED}"
        vehicles = permitted(one.installation, 48, "variant", rules, odd=8)
        one.quiet("OutriderPartHalted")
        for vehicle, attempt in vehicles[:8]:
            vehicle.check_in(vehicle.event(attempt, "INSTALL_STARTED"), vehicle.event(attempt, "FAILED", "flash"))
        one.told("OutriderPartHalted", rollout="variant")
        assert not one.prometheus.alerts("OutriderRolloutHalted")
        status = one.installation.must("rollout", "status", "variant")
        assert [(brake["scope"], brake["kind"]) for brake in status["brakes"]] == [("eu/gen1", "BRAKE_KIND_HALTED")]


@pytest.mark.alerts
def test_vehicles_that_fall_silent_after_an_update_are_told(tmp_path: Path):
    """Thirty got a permit, and not one was heard of again."""
    with watched(tmp_path, scale=SCALE) as one:
        permitted(one.installation, 30, "silent", UNPACED)
        alert = one.told("OutriderSilenceAboveHoldout", rollout="silent", checkpoint="24h")
        assert (alert["labels"]["region"], alert["labels"]["hardware"]) == ("eu", "gen2")


def permitted(
    installation: Installation, count: int, name: str, rules: str, *, odd: int = 0
) -> list[tuple[AVehicle, str]]:
    """Vehicles that were granted a release and may install it now, with their attempts; the first `odd` of them are of
    another hardware variant than the rest.
    """
    variants = ["gen1" if number < odd else "gen2" for number in range(count)]
    vehicles = enrolled(
        installation,
        *(AVehicle(f"alert-{name}-{number}", hardware=variant) for number, variant in enumerate(variants)),
    )
    installation.publish("1.1.0", release_counter=2)
    plan = f"name: {name}\nrelease: 1.1.0\nwaves: [{{name: all, soak: 1h}}]\nholdout: 0%\n{rules}"
    installation.must("rollout", "start", installation.write(f"{name}.yaml", plan), "--yes", "--reason", "test")

    def asks(vehicle: AVehicle) -> tuple[AVehicle, str]:
        attempt = offered(vehicle).attempt_id
        vehicle.check_in(vehicle.event(attempt, "DOWNLOAD_STARTED"), vehicle.event(attempt, "DOWNLOAD_FINISHED"))

        def permit() -> bool:
            answer = vehicle.authorize(attempt)
            assert answer.permit.attempt_id == attempt, answer.refusal.message
            return True

        eventually(permit, what=f"{attempt} has a permit")
        return vehicle, attempt

    with ThreadPoolExecutor(8) as several:
        return list(several.map(asks, vehicles))


@pytest.mark.alerts
def test_an_orchestrator_that_is_gone_pages(tmp_path: Path):
    """Nothing is left that could tell."""
    with watched(tmp_path) as one:
        one.quiet("OutriderAbsent")
        one.installation.close()
        one.told("OutriderAbsent")


@pytest.mark.alerts
@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a small disk; sudo make alerts does")
def test_a_disk_that_fills_is_told(tmp_path: Path):
    """A disk of its own, small enough to be filled."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", disk], check=True)
    try:
        with watched(disk) as one:
            one.quiet("OutriderDiskAlmostFull")
            ballast = disk / "ballast"
            fill(disk, ballast, free_share=0.10)
            one.told("OutriderDiskAlmostFull", severity="ticket")
            fill(disk, ballast, free_share=0.03)
            one.told("OutriderDiskAlmostFull", severity="page")
            ballast.unlink()
            one.over("OutriderDiskAlmostFull")
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk: Path, ballast: Path, *, free_share: float) -> None:
    """Let a file grow until this share of the disk is free."""
    about = os.statvfs(disk)
    held = ballast.stat().st_size if ballast.exists() else 0
    size = held + (about.f_bavail - int(about.f_blocks * free_share)) * about.f_frsize
    with ballast.open("ab") as file:
        os.posix_fallocate(file.fileno(), 0, size)


REGION_FACTOR = 240
"""A day in six minutes: the day's mean has to be known before a region can fall below it."""
REGION_POLLS = 4_000
"""Of each region before the cut. The alert asks for 30 polls in 15 min as usual, that is 2880 a day."""


@pytest.mark.alerts
def test_a_region_that_falls_silent_pages(tmp_path: Path):
    """The network of one region is cut; vehicles of the other call on."""
    # Fleet time runs fast so that one vehicle may call as often as a region's do.
    with watched(tmp_path, factor=REGION_FACTOR, interval="500ms", scale=SCALE) as one:
        europe, america = enrolled(
            one.installation, AVehicle("alert-eu", region="eu"), AVehicle("alert-us", region="us")
        )
        over = threading.Event()
        with ThreadPoolExecutor(2) as calls:
            try:
                calls.submit(polls, america, over)
                one.quiet("OutriderVehiclesSilentInRegion")
                assert calls.submit(polls, europe, over, REGION_POLLS).result() == REGION_POLLS
                alert = one.told("OutriderVehiclesSilentInRegion")
            finally:
                over.set()
        assert alert["labels"]["region"] == "eu"


def polls(vehicle: AVehicle, until: threading.Event, count: int = 1_000_000) -> int:
    """Let a vehicle poll; how often it was answered.

    Args:
        vehicle: who polls.
        until: ends it.
        count: so many polls end it as well.
    """
    answered = 0
    while answered < count and not until.is_set():
        vehicle.check_in()
        answered += 1
    return answered
