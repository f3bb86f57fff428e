"""The doctor: every check is made to find what it is for, on a real folder that was broken for it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.app.doctor import CHECKS, Check, Finding, Level, Patient, examine
from orchestrator.app.doctor.findings import ok
from orchestrator.app.installation import Installation, Ports, write_endpoints
from orchestrator.clock import MachineClock
from orchestrator.ledger import Ledger, LedgerEntry
from orchestrator.store.redis import EmbeddedServer, RedisStore
from signing.ceremony import DataFolder, add_operator, initialise
from signing.image_repo import ImageRepository, NewImage
from signing.pki import Authority
from tests.evidence import without_attesters
from tests.ports import free_port, free_ports
from tests.redis_cluster import a_cluster
from tests.signing.uptane_simulator import NOW

TRUST_DOMAIN = "test.outrider.invalid"
NOBODY = 2**22 + 7
"""A process number beyond what Linux gives by default: nobody has it."""


def today() -> datetime:
    return datetime.fromtimestamp(MachineClock().wall_ms() // 1000, tz=UTC)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation as `outrider keys init` makes it."""
    folder = tmp_path_factory.mktemp("whole") / "data"
    initialise(folder, trust_domain=TRUST_DOMAIN, now=today())
    (folder / "outrider.toml").write_text(f'trust_domain = "{TRUST_DOMAIN}"\n')
    return folder


@pytest.fixture
def data(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to break."""
    return Path(shutil.copytree(whole, tmp_path / "data"))


def found(data: Path, check: str) -> dict[str, Finding]:
    """What one of the checks says, by the name of the finding."""
    [wanted] = [each for each in CHECKS if each.name == check]
    return {item.check: item for item in examine(Patient(data, machine=MachineClock()), checks=[wanted])}


def replace_authority(data: Path, name: str, *, now: datetime, life: timedelta) -> None:
    """Put a new authority in the place of one."""
    for ending in ("crt", "key"):
        (data / "authorities" / f"{name}.{ending}").unlink()
    Authority.create(f"Another {name} authority", now, life).save(data / "authorities", name)


def levels(data: Path) -> dict[str, Level]:
    """The level of every finding."""
    return {item.check: item.level for item in examine(Patient(data, machine=MachineClock()))}


def test_whole_installation_has_nothing_wrong(data: Path) -> None:
    """A doctor who finds illness in the healthy is not asked again. Keys from `keys init` lie here: the one warning."""
    told = levels(data)
    assert {name for name, level in told.items() if level is Level.ERROR} == set()
    assert {name for name, level in told.items() if level is Level.WARNING} == {"offline keys"}


def test_folder_that_is_not_there_is_the_only_finding(tmp_path: Path) -> None:
    """Twenty findings that follow from one wrong path would hide it."""
    [finding] = examine(Patient(tmp_path / "gone", machine=MachineClock()))
    assert finding.level is Level.ERROR
    assert "outrider keys init" in finding.remedy


def test_examination_changes_nothing(data: Path) -> None:
    """It is run on installations that are ill already."""

    def state() -> dict[str, tuple[int, bytes]]:
        return {
            str(path): (path.stat().st_mode, path.read_bytes() if path.is_file() else b"") for path in data.rglob("*")
        }

    before = state()
    list(examine(Patient(data, machine=MachineClock())))
    assert state() == before


def test_cut_short_ceremony_is_found(data: Path) -> None:
    """It left private keys behind."""
    (data / ".ceremony-abc").mkdir()
    assert found(data, "folder")["folder"].level is not Level.ERROR
    [first, _] = examine(Patient(data, machine=MachineClock()), checks=[CHECKS[0]])
    assert first.level is Level.WARNING
    assert ".ceremony-abc" in first.remedy


def test_missing_part_of_the_folder_is_found(data: Path) -> None:
    """What `serve` would refuse is said without starting it."""
    shutil.rmtree(data / "image-repo")
    assert found(data, "folder")["folder"].level is Level.ERROR
    assert found(data, "image repository")["image repository"].level is Level.ERROR


def test_key_that_others_can_read_is_found(data: Path) -> None:
    """A copy by hand loses the mode of a file easily."""
    (data / "authorities" / "vehicle.key").chmod(0o640)
    finding = found(data, "permissions")["permissions"]
    assert finding.level is Level.ERROR
    assert "mode 0640" in finding.cause
    assert finding.remedy == f"close it: `chmod 600 {data / 'authorities' / 'vehicle.key'}`"


def test_every_wrong_setting_is_found(data: Path) -> None:
    """One round of corrections, not one a setting."""
    (data / "outrider.toml").write_text("poll_s = 1\nworkerz = 3\n")
    [wanted] = [each for each in CHECKS if each.name == "settings"]
    findings = list(examine(Patient(data, machine=MachineClock()), checks=[wanted]))
    assert [item.level for item in findings] == [Level.ERROR, Level.ERROR]
    assert all(item.remedy for item in findings)


def test_scaled_fleet_time_is_a_warning_and_metadata_is_not_judged_by_the_wrong_clock(data: Path) -> None:
    """In a simulation a day passes in minutes: by machine time everything would look fresh, or long expired."""
    (data / "outrider.toml").write_text("scale = 200\n")
    assert found(data, "settings")["settings"].level is Level.WARNING
    assert found(data, "image repository")["image repository"].level is Level.SKIPPED


@pytest.fixture
def tiny_disk(whole: Path, tmp_path: Path) -> Iterator[Path]:
    """An installation on a disk of two MiB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(mount)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("mounting a small disk needs root and the right to mount: run as root outside a container")
    yield Path(shutil.copytree(whole, mount / "data"))
    subprocess.run(["umount", "--lazy", str(mount)], check=True)


def test_full_disk_is_found(tiny_disk: Path) -> None:
    """Nothing can be acknowledged on a full disk; it is found by writing, not by believing a number."""
    finding = found(tiny_disk, "disk")["disk"]
    assert finding.level is Level.ERROR
    assert "MiB are free" in finding.cause
    with contextlib.suppress(OSError), (tiny_disk / "ballast").open("wb", buffering=0) as file:
        while file.write(b"\0" * 65536):
            pass
    finding = found(tiny_disk, "disk")["disk"]
    assert finding.level is Level.ERROR
    assert "cannot be written and synced" in finding.cause
    assert "disk-full.md" in finding.remedy


def test_authority_near_its_end_and_one_past_it_are_found(data: Path) -> None:
    """Vehicles carry the authority: a year is what it takes to bring a fleet a new one."""
    replace_authority(data, "vehicle", now=today(), life=timedelta(days=100))
    replace_authority(data, "server", now=today() - timedelta(days=9), life=timedelta(days=8))
    (data / "authorities" / "operator.key").unlink()
    told = found(data, "authorities")
    assert told["vehicle authority"].level is Level.WARNING
    assert "ends in 99 d" in told["vehicle authority"].cause
    assert told["server authority"].level is Level.ERROR
    assert "ended" in told["server authority"].cause
    assert told["operator authority"].level is Level.ERROR


def test_operators_certificate_that_ends_or_is_foreign_is_found(data: Path) -> None:
    """The person at 3 a.m. must not learn it then."""
    folder = DataFolder(data)
    add_operator(folder, trust_domain=TRUST_DOMAIN, name="eve", role="operator", now=today(), life=timedelta(days=3))
    assert found(data, "operators")["operator eve"].level is Level.WARNING
    assert found(data, "operators")["operator admin"].level is Level.OK
    replace_authority(data, "operator", now=today(), life=timedelta(days=900))
    told = found(data, "operators")
    assert {item.level for item in told.values()} == {Level.ERROR}
    assert "not from this installation's authority" in told["operator admin"].cause


def test_metadata_that_nobody_renewed_is_found(whole: Path, tmp_path: Path) -> None:
    """An expired timestamp freezes every vehicle: the renewal has stopped long before."""
    for hours, level in ((19, Level.WARNING), (25, Level.ERROR)):
        data = tmp_path / f"old-{hours}"
        initialise(data, trust_domain=TRUST_DOMAIN, now=today(), fleet_now=today() - timedelta(hours=hours))
        told = found(data, "image repository")
        assert told["image timestamp"].level is level
        assert "image-repo renew" in told["image timestamp"].remedy
        assert told["image targets"].level is Level.OK


def test_damaged_image_repository_is_found(data: Path) -> None:
    """Half a file is what a copy over a bad link leaves."""
    path = data / "image-repo" / "metadata" / "timestamp.json"
    path.write_bytes(path.read_bytes()[:40])
    assert found(data, "image repository")["image repository"].level is Level.ERROR


def test_images_that_nobody_vouches_for_are_found(data: Path, tmp_path: Path) -> None:
    """A rollout that reaches nobody has a reason; an installation from before the gate is told, too."""
    assert found(data, "vouching")["vouching"].level is Level.OK
    (tmp_path / "a.img").write_bytes(b"image")
    folder = DataFolder(data)
    image = NewImage("a.img", tmp_path / "a.img", "acme-gw-2", 2, "1.1.0")
    ImageRepository(folder.image_repo).publish([image], folder.image_keys, NOW)
    told = found(data, "vouching")["vouching"]
    assert told.level is Level.WARNING
    assert "release 1.1.0 is assigned to no vehicle: no verification summary" in told.cause
    assert "release attest" in told.remedy
    without_attesters(folder)
    assert "no key of attest is named" in found(data, "vouching")["vouching"].cause


def test_missing_director_key_and_broken_root_are_found(data: Path) -> None:
    """Without the online keys the signer cannot start; without a root no vehicle verifies."""
    (data / "keys" / "director" / "snapshot.pem").unlink()
    assert "snapshot" in found(data, "director")["director"].cause
    (data / "director" / "metadata" / "1.root.json").write_text("{}")
    assert found(data, "director")["director"].level is Level.ERROR


def test_offline_keys_that_were_taken_away_are_praised(data: Path) -> None:
    """The warning ends when it was obeyed."""
    for key in Installation(data).offline_keys():
        key.unlink()
    assert found(data, "offline keys")["offline keys"].level is Level.OK


@pytest.mark.processes
async def test_private_store_is_examined_running_at_rest_and_torn(data: Path) -> None:
    """The three states in which a person finds it."""
    server = EmbeddedServer(data / "store")
    server.start()
    try:
        told = found(data, "store")
        assert told["store"].level is Level.OK
        assert told["store durability"].level is Level.OK
        assert told["store data"].cause.startswith("empty")
    finally:
        server.stop()
    told = found(data, "store")
    assert (told["store"].level, told["store file"].level) == (Level.SKIPPED, Level.OK)
    [newest] = (data / "store" / "appendonlydir").glob("*.incr.aof")
    newest.write_bytes(newest.read_bytes() + b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$500\r\ntorn")
    finding = found(data, "store")["store file"]
    assert finding.level is Level.ERROR
    assert "outrider store repair" in finding.remedy


@pytest.mark.processes
@pytest.mark.parametrize(
    ("settings", "check", "words"),
    [
        ({"appendfsync": "everysec"}, "store durability", "appendfsync everysec"),
        ({"maxmemory-policy": "allkeys-lru"}, "store memory", "throws state away"),
    ],
)
def test_store_that_would_break_a_promise_is_found(
    data: Path, tmp_path: Path, settings: dict[str, str], check: str, words: str
) -> None:
    """What `serve` refuses at its start may be changed under it later."""
    server = EmbeddedServer(tmp_path / "elsewhere", settings=settings)
    server.start()
    try:
        (data / "outrider.toml").write_text(f'store_url = "{server.url}"\n')
        finding = found(data, "store")[check]
    finally:
        server.stop()
    assert finding.level is Level.ERROR
    assert words in finding.cause


@pytest.mark.processes
async def test_what_ails_a_cluster_is_told_by_node(data: Path, tmp_path: Path) -> None:
    """One of six is ill: the doctor says which, and with what."""
    with a_cluster(tmp_path, replicas=3) as cluster:
        (data / "outrider.toml").write_text(f'store_url = "{cluster.url}"\nstore_replicas_min = 1\n')
        store = await RedisStore.connect(cluster.url, replicas_min=1)
        dataset_id = await store.dataset_id()
        await store.close()
        await a_ledger(data / "ledger.sqlite3", dataset_id=dataset_id)
        for check in ("store", "ledger"):
            assert {each.level for each in found(data, check).values()} == {Level.OK}, found(data, check)
        ill = cluster.primary_of("{s:00}")
        cluster.replica_of(ill).kill()
        ill.ask("CONFIG", "SET", "appendfsync", "no")
        told = found(data, "store")
    assert told["store durability"].cause.startswith(f"{ill.node}: acknowledged events can be lost: appendfsync no")
    assert told["store replicas"].cause.startswith(f"{ill.node}: replicas in step (0) < store_replicas_min (1)")
    assert told["store data"].level is Level.OK


def test_store_that_does_not_answer_is_found_without_its_password(data: Path) -> None:
    """What the doctor says is pasted into tickets."""
    (data / "outrider.toml").write_text(f'store_url = "redis://user:secret@127.0.0.1:{free_port()}"\n')
    finding = found(data, "store")["store"]
    assert finding.level is Level.ERROR
    assert "secret" not in finding.cause + finding.remedy


async def a_ledger(path: Path, *, dataset_id: str = "data-set-1") -> None:
    """A ledger with three entries."""
    ledger = Ledger(path)
    await ledger.set_dataset_id(dataset_id)
    await ledger.append(
        [LedgerEntry(stream="fleet", entry_id=f"{n}-0", kind="tokens_created", at=n, data={}) for n in (1, 2, 3)]
    )
    await ledger.close()


async def test_ledger_that_lost_its_end_is_found(data: Path) -> None:
    """Its last rows are what somebody would rather not have written."""
    path = data / "ledger.sqlite3"
    await a_ledger(path)
    assert found(data, "ledger")["ledger"].cause.startswith("3 entries")
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TRIGGER entries_are_not_removed")
        connection.execute("DELETE FROM entries WHERE seq = 3")
    connection.close()
    finding = found(data, "ledger")["ledger"]
    assert finding.level is Level.ERROR
    assert "ends at entry 2, but 3" in finding.cause


async def test_ledger_of_another_data_set_or_program_is_found(data: Path) -> None:
    """A restored store beside the ledger of today: rollouts come up paused, and this says why."""
    await a_ledger(data / "ledger.sqlite3")
    (data / "store").mkdir()
    (data / "store" / "store.json").write_text('{"dataset_id": "data-set-2", "socket": ""}')
    finding = found(data, "ledger")["ledger"]
    assert finding.level is Level.ERROR
    assert "belongs to data set" in finding.cause
    (data / "ledger.sqlite3").write_text("not a database at all, but long enough to be looked at as one" * 20)
    assert found(data, "ledger")["ledger"].level is Level.ERROR


def test_address_of_a_dead_service_is_told_apart_from_a_strangers(data: Path) -> None:
    """Vehicles that know the port call whoever listens there."""
    ports = Ports(*free_ports(len(Ports.__slots__)))
    write_endpoints(Installation(data), "127.0.0.1", ports, TRUST_DOMAIN)
    text = (data / "endpoints.json").read_text().replace(f'"pid": {os.getpid()}', f'"pid": {NOBODY}')
    (data / "endpoints.json").write_text(text)
    assert found(data, "service")["service"].level is Level.SKIPPED
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", ports.vehicles))
        stranger.listen()
        finding = found(data, "service")["service"]
    assert finding.level is Level.ERROR
    assert "vehicles" in finding.cause
    (data / "endpoints.json").write_text("{")
    assert found(data, "service")["service"].level is Level.ERROR


def test_process_that_serves_nothing_is_found_by_every_look_at_it(data: Path) -> None:
    """It lives, and nothing of it answers: the worst night of all."""
    ports = Ports(*free_ports(len(Ports.__slots__)))
    write_endpoints(Installation(data), "127.0.0.1", ports, TRUST_DOMAIN)
    assert found(data, "readiness")["readiness"].level is Level.ERROR
    assert {item.level for item in found(data, "ports").values()} == {Level.ERROR}
    assert found(data, "evaluator")["evaluator"].level is Level.ERROR


def test_check_that_hangs_or_fails_is_a_finding_and_stops_no_other(data: Path) -> None:
    """One dead disk must not keep the doctor from saying the rest."""
    stuck = threading.Event()

    def hang(_: Patient) -> Iterator[Finding]:
        stuck.wait()
        yield ok("hang", "")

    def fail(_: Patient) -> Iterator[Finding]:
        yield ok("fail", "so far")
        raise ZeroDivisionError("a defect")

    checks = [Check("hang", "nothing", hang), Check("fail", "nothing", fail), Check("last", "all", _well)]
    told = list(examine(Patient(data, machine=MachineClock()), checks=checks, deadline_s=0.05))
    stuck.set()
    assert [f"{item.check} {item.level.name}" for item in told] == ["hang ERROR", "fail OK", "fail ERROR", "last OK"]


def _well(_: Patient) -> Iterator[Finding]:
    yield ok("last", "well")
