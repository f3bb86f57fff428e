"""Back up, go on, lose everything, restore: vehicles tell what the backup missed, and nobody begins twice."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from outrider.v1 import fleet_pb2

from signing.files import write_atomically
from tests.processes import CALL_TIMEOUT_S, Installation, an_installation, eventually, run_cli
from tests.vehicles import AVehicle, enrolled, offered

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

PLAN = """\
name: spring
release: 1.2.0
holdout: 0%
waves: [{name: all, soak: 0s}]
"""


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Installation]:
    with an_installation(tmp_path) as running:
        running.publish("1.2.0", release_counter=12)
        yield running


def on_the_road(house: Installation, folder: Path, *names: str) -> list[AVehicle]:
    """Enrolled vehicles that verify for themselves, with their first manifests handed in."""
    vehicles = list(enrolled(house, *(AVehicle(name) for name in names)))
    for vehicle in vehicles:
        vehicle.provision(house, folder / vehicle.vehicle_id)
        vehicle.check_in()
        vehicle.attest()
    return vehicles


def update(vehicle: AVehicle) -> str:
    """Take what is offered, permitted, installed, attested; the release that this proves."""
    directive = offered(vehicle)
    images = vehicle.verify().images
    vehicle.check_in(vehicle.event(directive.attempt_id, "DOWNLOAD_FINISHED"))
    assert vehicle.authorize(directive.attempt_id).WhichOneof("answer") == "permit"
    vehicle.install(images)
    return str(vehicle.attest().installed_release)


def permitted(vehicle: AVehicle) -> str:
    """The attempt of a vehicle that may install, and has not said anything since."""
    directive = offered(vehicle)
    vehicle.verify()
    vehicle.check_in(vehicle.event(directive.attempt_id, "DOWNLOAD_FINISHED"))
    assert vehicle.authorize(directive.attempt_id).WhichOneof("answer") == "permit"
    return str(directive.attempt_id)


def said_of_lost_attempts(house: Installation) -> list[tuple[str, str, str]]:
    """What vehicles said of attempts that are not known, in the rollout's story: attempt, event, failure code."""
    answer = eventually(
        lambda: [
            entry
            for entry in house.must("ledger", "show", "spring", "--all")["entries"]
            if entry["kind"] == "event_ignored"
        ],
        what="the rollout's story has it",
    )
    assert {entry["data"]["why"] for entry in answer} == {"unknown_attempt"}
    return [(entry["data"]["attempt_id"], entry["data"]["event"], entry["data"]["failure_code"]) for entry in answer]


def installed(house: Installation, vehicle: AVehicle) -> str:
    request = fleet_pb2.GetVehicleRequest(name=f"vehicles/{vehicle.vehicle_id}")
    return str(house.api().fleet.GetVehicle(request, timeout=CALL_TIMEOUT_S).installed_release)


def burn(house: Installation) -> None:
    """The machine is gone, and all that was on it."""
    house.kill()
    house.kill_store()
    for channel in house.channels:
        channel.close()
    house.channels.clear()
    shutil.rmtree(house.data)


def status(house: Installation) -> dict[str, object]:
    answer: dict[str, object] = house.must("rollout", "status", "spring")
    return answer


def test_after_a_restore_vehicles_tell_what_the_backup_missed(house: Installation, tmp_path: Path) -> None:
    """The store of yesterday must not grant again what was installed today, nor hand out files that vehicles refuse."""
    before, gone_on, waiting, hurt = vehicles = on_the_road(house, tmp_path, "v-1", "v-2", "v-3", "v-4")
    house.must("rollout", "start", house.write("spring.yaml", PLAN), "--yes")
    assert update(before) == "1.2.0"
    file = tmp_path / "outrider.backup"
    taken = house.must("backup", file, "--keys")
    assert taken["ledger_entries"] > 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert update(gone_on) == "1.2.0"
    lost = permitted(hurt)
    newest = gone_on.verifier.versions()[0].timestamp if gone_on.verifier else 0

    burn(house)
    restored = run_cli("--data", house.data, "--output", "json", "restore", file)
    assert restored.exit_code == 0, restored.stderr
    assert restored.json["paused"] == ["spring"]
    assert house.must("ledger", "verify")["ok"]
    house.must("image-repo", "renew")
    house.start()
    told = status(house)
    assert told["status"] == "ROLLOUT_STATUS_PAUSED"
    assert "restored from the backup of" in str(told["last_reason"])
    assert installed(house, gone_on) == "", "the store of yesterday"

    house.must("rollout", "resume", "spring", "--reason", "looked at")
    for vehicle in vehicles:
        vehicle.connect(house)
    answer = eventually(gone_on.check_in, what="the vehicle reaches the restored installation")
    assert answer.directive.WhichOneof("kind") != "install", "it runs that release already"
    assert answer.manifest_wanted
    assert gone_on.attest().installed_release == "1.2.0"
    answer = gone_on.check_in()
    assert answer.directive.WhichOneof("kind") != "install"
    gone_on.verify()
    assert gone_on.verifier is not None
    assert gone_on.verifier.versions()[0].timestamp > newest, "files that it would refuse as old are of no use"

    hurt.check_in(hurt.event(lost, "INSTALL_STARTED"), hurt.event(lost, "FAILED", "brake_module"))
    assert said_of_lost_attempts(house) == [(lost, "install_started", ""), (lost, "failed", "brake_module")]

    assert update(waiting) == "1.2.0"
    assert before.check_in().directive.WhichOneof("kind") != "install"
    assert [installed(house, vehicle) for vehicle in (before, gone_on, waiting)] == ["1.2.0"] * 3
    kinds = [entry["kind"] for entry in house.must("ledger", "show", "--all")["entries"]]
    assert kinds.count("installation_restored") == 1
    assert house.must("ledger", "verify")["ok"]


DYING = """\
import os
from orchestrator.app import restore
from orchestrator.cli.main import main
from orchestrator.store.base import StoreUnavailableError

def dies(*told):
    {how}

restore.pause_unproven = dies
main()
"""


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("os.kill(os.getpid(), 9)", id="killed"),
        pytest.param("raise StoreUnavailableError('it went away')", id="cut off"),
    ],
)
def test_a_restore_that_ends_before_rollouts_are_paused_cannot_be_served(
    how: str, house: Installation, tmp_path: Path
) -> None:
    """Yesterday's store would go on granting, and nobody has said that it may."""
    on_the_road(house, tmp_path, "v-1")
    house.must("rollout", "start", house.write("spring.yaml", PLAN), "--yes")
    file, data = tmp_path / "outrider.backup", tmp_path / "new"
    house.must("backup", file)
    dying = [sys.executable, "-c", DYING.format(how=how)]
    ended = subprocess.run([*dying, "--data", data, "restore", file], check=False, timeout=CALL_TIMEOUT_S * 6)
    assert ended.returncode != 0
    refused = run_cli("serve", "--data", data)
    assert refused.exit_code == 4
    assert "did not come to its end" in refused.stderr
    if (data / "store" / "store.json").exists():
        Installation(data).kill_store()
    shutil.rmtree(data)
    restored = run_cli("--data", data, "--output", "json", "restore", file)
    assert restored.json["paused"] == ["spring"]
    assert not (data / ".restore").exists()


def test_a_backup_that_was_changed_or_is_in_the_way_is_refused(house: Installation, tmp_path: Path) -> None:
    """The one moment in which nobody can compare with the original."""
    file = tmp_path / "outrider.backup"
    house.must("backup", file)
    again = house.cli("backup", file)
    assert again.exit_code == 4
    assert "never overwritten" in again.stderr
    with tarfile.open(file) as archive:
        assert not [
            name
            for name in archive.getnames()
            if name.endswith(".key") or (name.startswith("keys/") and not name.endswith(".pub"))
        ]
        place = archive.getmember("store.rdb").offset_data
    content = bytearray(file.read_bytes())
    content[place + 200] ^= 1
    damaged = tmp_path / "damaged.backup"
    damaged.write_bytes(content)
    refused = run_cli("--data", tmp_path / "new", "restore", damaged)
    assert refused.exit_code == 4
    assert "store.rdb is not what was taken" in refused.stderr
    in_the_way = run_cli("--data", house.data, "restore", file)
    assert in_the_way.exit_code == 4
    assert "is not empty" in in_the_way.stderr
    assert run_cli("--data", tmp_path / "other", "restore", file).exit_code == 0


@contextmanager
def ever_new(path: Path) -> Iterator[None]:
    """A file that is replaced all the time, as a running installation replaces the head of its ledger."""
    enough, once = threading.Event(), threading.Event()

    def replace() -> None:
        number = 0
        while not enough.is_set():
            write_atomically(path, b"x" * (number % 1000), durable=False)
            once.set()
            number += 1

    thread = threading.Thread(target=replace)
    thread.start()
    once.wait()
    try:
        yield
    finally:
        enough.set()
        thread.join()


def test_a_backup_of_files_that_change_meanwhile_is_restored(house: Installation, tmp_path: Path) -> None:
    """A backup around midnight, when files are replaced, must not turn out to be none when it is needed."""
    file = tmp_path / "outrider.backup"
    (house.data / "image-repo" / "targets" / "large").write_bytes(bytes(64 << 20))
    with ever_new(house.data / "director" / "ever-new.json"):
        house.must("backup", file)
    restored = run_cli("--data", tmp_path / "new", "restore", file)
    assert restored.exit_code == 0, restored.stderr
    assert (tmp_path / "new" / "director" / "ever-new.json").is_file()
    assert not list((tmp_path / "new" / "director").glob(".ever-new*")), "what was about to replace it is no part"


def test_a_backup_is_taken_after_supervisor_and_store_were_killed(house: Installation, tmp_path: Path) -> None:
    """Whoever looks at a machine after a crash copies first: what a killed server left is no server."""
    file = tmp_path / "outrider.backup"
    house.kill()
    house.kill_store()
    house.must("backup", file, "--keys")
    assert not (house.data / "store" / "store.json").exists(), "the server of the while was stopped"

    restored = Installation(tmp_path / "new")
    laid = run_cli("--data", restored.data, "restore", file)
    assert laid.exit_code == 0, laid.stderr
    restored.must("image-repo", "renew")
    restored.start()
    try:
        # The kill may have come before the ledger took a word of it: the store's journal, in the copy, still has it.
        eventually(
            lambda: any(
                entry["kind"] == "release_created" for entry in restored.must("ledger", "show", "--all")["entries"]
            ),
            what="the restored ledger knows of the release",
        )
        assert restored.must("ledger", "verify")["ok"]
    finally:
        restored.close()
    house.start()
