"""A Primary read from its provisioning folder, and its control units as files: what the example agent stands on."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from outrider.v1 import vehicle_pb2

from signing import primary
from signing.errors import AttackCode, KeyFileError, VerificationError
from signing.keys import generate_ecu_key, public_key_base64, save_signer
from signing.manifest import InventoryEcu, verify_manifest
from signing.pki import Authority
from signing.primary import Primary, Software
from signing.retrieval import Retrieval
from signing.slots import Slots
from tests.signing.uptane_simulator import BRAKE_PATH, GATEWAY_PATH, IMAGES, NOW, VEHICLE, UptaneSimulator

FACTORY = {"path": "factory.img", "length": 7, "sha256": "ab" * 32, "release_counter": 1}
HARDWARE = {"PRIMARY-1": "acme-gw-1", "BRAKE-1": "acme-brake-1"}
NEW = {"PRIMARY-1": Software("new.img", 3, hashlib.sha256(b"new").hexdigest(), 2)}


class Car:
    """A provisioning folder."""

    def __init__(self, folder: Path, uptane: UptaneSimulator) -> None:
        self.folder, self.uptane = folder, uptane
        (folder / "keys").mkdir()
        (folder / "provisioning").mkdir()
        self.keys = {serial: generate_ecu_key() for serial in HARDWARE}
        for serial, key in self.keys.items():
            save_signer(key, folder / "keys" / f"{serial}.pem")
        roots = {"director-root.json": uptane.director.first_root, "image-root.json": uptane.image.first_root}
        for name, root in roots.items():
            (folder / "provisioning" / name).write_bytes(root)
        authority = Authority.create(
            "servers", datetime(2020, 1, 1, tzinfo=UTC), NOW - datetime(2020, 1, 1, tzinfo=UTC)
        )
        (folder / "provisioning" / "enrolment-ca.pem").write_bytes(authority.certificate_pem)
        ecus = [
            {"serial": serial, "hardware_id": hardware, "primary": serial == "PRIMARY-1", "installed": FACTORY}
            for serial, hardware in HARDWARE.items()
        ]
        self.write("vehicle.json", {"vehicle_id": VEHICLE, "token": "secret", "ecus": ecus})

    def write(self, name: str, value: Any) -> None:
        (self.folder / name).write_text(json.dumps(value))

    def primary(self) -> Primary:
        return Primary(self.folder, self.folder / "state")


@pytest.fixture
def car(uptane: UptaneSimulator, tmp_path: Path) -> Car:
    """A car whose server is `uptane`."""
    return Car(tmp_path, uptane)


def answer(uptane: UptaneSimulator) -> vehicle_pb2.CheckInResponse:
    """A poll's answer with all metadata."""
    made = vehicle_pb2.CheckInResponse()
    made.fleet_time.FromDatetime(NOW)
    for (repository, name), content in uptane.files().items():
        made.metadata.add(repository=primary.REPOSITORIES[repository], name=name, content=content)
    made.metadata.add(repository=99, name="of a repository that is unknown here", content=b"?")
    return made


def test_what_a_poll_brought_says_what_each_unit_shall_run(car: Car):
    """By serial, for an agent to keep, and from then on told as held."""
    made = car.primary()
    assert made.versions()["director_versions"].targets == 0
    wanted = made.verify(answer(car.uptane), fetch=lambda *_: None, running=made.factory)
    assert {serial: each.path for serial, each in wanted.items()} == {
        "PRIMARY-1": GATEWAY_PATH,
        "BRAKE-1": BRAKE_PATH,
    }
    assert wanted["BRAKE-1"].sha256 == hashlib.sha256(IMAGES[BRAKE_PATH]).hexdigest()
    assert primary.from_json(json.loads(json.dumps(primary.to_json(wanted)))) == wanted
    assert car.primary().versions()["director_versions"].targets > 0, "kept across a restart"


@pytest.mark.uptane("A14", "V2")
def test_a_slow_mirror_is_reported_once_in_the_next_manifest(car: Car, monkeypatch: pytest.MonkeyPatch):
    """The Director learns which mirror to look at; an attack that was seen besides is not covered up."""
    made = car.primary()
    monkeypatch.setattr(primary, "retrieve", lambda **_: Retrieval(False, 16, slow=True))
    reported = []
    for attack in ("", "", "rollback"):
        if attack or not reported:
            assert not made.retrieve(NEW.values(), ["https://mirror.test"], lambda: True).complete
        content = made.manifest(made.factory, fleet_ms=1_000_000, last_counter=0, attack=attack).content
        reports = json.loads(content)["signed"]["ecuVersionReports"]
        reported.append({report["signed"]["attacksDetected"] for report in reports})
    assert reported == [{"slow_retrieval", ""}, {""}, {"rollback", ""}]


def test_images_are_fetched_one_after_the_other_and_none_twice(car: Car, monkeypatch: pytest.MonkeyPatch):
    """A try ends with the first that is incomplete; the next one goes on there, and hashes nothing that was whole."""
    made = car.primary()
    wanted = [Software(f"{name}.img", 3, name * 64, 2) for name in ("a", "b", "c")]
    asked: list[str] = []
    lacking = {"b.img"}

    def served(*, path: str, file: Path, **_: object) -> Retrieval:
        asked.append(path)
        file.write_bytes(b"new")
        return Retrieval(path not in lacking, 3)

    monkeypatch.setattr(primary, "retrieve", served)
    assert made.retrieve(wanted, ["https://mirror.test"], lambda: True) == Retrieval(False, 6)
    lacking.clear()
    assert made.retrieve(wanted, ["https://mirror.test"], lambda: True) == Retrieval(True, 6)
    assert made.retrieve(wanted, ["https://mirror.test"], lambda: True) == Retrieval(True, 0)
    assert asked == ["a.img", "b.img", "b.img", "c.img"]
    made.discard()
    assert not made.downloaded(wanted[0]).exists()
    assert made.retrieve(wanted[:1], ["https://mirror.test"], lambda: True) == Retrieval(True, 3), "asked for anew"


@pytest.mark.uptane("V7", "P1", "A12", "A17")
def test_a_secondary_has_a_say_of_its_own(car: Car, uptane: UptaneSimulator):
    """It saw a later time and later targets than its Primary says there are: nothing is installed in this vehicle."""
    car.primary().verify(answer(uptane), fetch=lambda *_: None, running={})
    memory = car.folder / "state" / "secondaries" / "BRAKE-1.json"
    held = json.loads(memory.read_text())
    memory.write_text(json.dumps(held | {"time_floor": "2031-05-01T18:00:00Z"}))
    with pytest.raises(VerificationError) as caught:
        car.primary().verify(answer(uptane), fetch=lambda *_: None, running={})
    assert caught.value.code is AttackCode.CLOCK


@pytest.mark.uptane("V7", "V4")
def test_a_manifest_is_one_that_the_server_takes(car: Car):
    """Signed by every unit's own key; the Primary alone reports the attack; the counter rises."""
    signed = car.primary().manifest(
        car.primary().factory, fleet_ms=int(NOW.timestamp() * 1000), last_counter=4, attack="freeze"
    )
    ecus = [InventoryEcu(serial, public_key_base64(key), serial == "PRIMARY-1") for serial, key in car.keys.items()]
    content = signed.content.encode()
    taken = verify_manifest(content, vehicle_id=VEHICLE, ecus=ecus, counter_above=4, now=NOW)
    assert {report.ecu_serial: report.attack for report in taken.reports} == {"PRIMARY-1": "freeze", "BRAKE-1": ""}
    assert (signed.sha256, signed.counter) == (taken.sha256, int(NOW.timestamp()))


def test_the_counter_rises_when_fleet_time_does_not(car: Car):
    """Two manifests in a second, or a fleet time that was set back."""
    made = car.primary()
    assert made.manifest(made.factory, fleet_ms=9000, last_counter=9).counter == 10
    assert made.manifest(made.factory, fleet_ms=9000, last_counter=0).counter == 9


def test_sensors_and_owner_are_files(car: Car):
    """Favourable where nothing is said, and read again each time."""
    made = car.primary()
    assert (made.conditions().parked, made.conditions().battery_percent, made.conditions().metered) == (True, 80, False)
    car.write("conditions.json", {"link_type": "cellular", "metered": True, "battery_percent": 15})
    now = made.conditions()
    assert (now.link_type, now.metered, now.battery_percent) == (vehicle_pb2.LINK_TYPE_CELLULAR, True, 15)
    assert made.consent("attempt-1") == ""
    (car.folder / "consent").mkdir()
    (car.folder / "consent" / "attempt-1").write_text("agreed\n")
    assert (made.consent("attempt-1"), made.consent("attempt-2")) == ("agreed", "")


@pytest.mark.uptane("V3")
@pytest.mark.parametrize("lost", ["vehicle.json", "provisioning/image-root.json", "keys/BRAKE-1.pem"])
def test_what_the_factory_forgot_is_named(car: Car, lost: str):
    """Whoever provisions sees which file is missing, not a stack of errors."""
    (car.folder / lost).unlink()
    with pytest.raises(KeyFileError, match=lost.rpartition("/")[2]):
        car.primary()


def test_a_vehicle_file_of_another_form_is_named(car: Car):
    """It was written by hand, most likely."""
    car.write("vehicle.json", {"vehicle_id": "veh-1", "ecus": [{"serial": "PRIMARY-1"}]})
    with pytest.raises(KeyFileError, match=r"vehicle\.json is not what"):
        car.primary()


@pytest.mark.parametrize("primaries", [0, 2])
def test_a_vehicle_has_one_primary(car: Car, primaries: int):
    """Whose key signs the manifest must not depend on the order of a file."""
    vehicle = json.loads((car.folder / "vehicle.json").read_text())
    for number, ecu in enumerate(vehicle["ecus"]):
        ecu["primary"] = number < primaries
    car.write("vehicle.json", vehicle)
    with pytest.raises(KeyFileError, match="does not name exactly one control unit as primary"):
        car.primary()


def test_slots_switch_together_and_back(tmp_path: Path):
    """What runs changes with `switch` alone, is checked from what is on disk, and can be undone."""
    memory: dict[str, Any] = {}
    factory = {serial: Software(**FACTORY) for serial in HARDWARE}
    slots = Slots(tmp_path / "ecus", memory, factory)
    (tmp_path / "image").write_bytes(b"new")
    slots.write(NEW, lambda _: tmp_path / "image")
    assert slots.running() == factory
    slots.switch(NEW)
    assert slots.run(NEW)
    assert slots.hold(NEW)
    assert slots.running()["BRAKE-1"] == factory["BRAKE-1"]
    again = Slots(tmp_path / "ecus", json.loads(json.dumps(memory)), {})
    assert again.running() == slots.running()
    (tmp_path / "ecus" / "PRIMARY-1.b").write_bytes(b"nex")
    assert not slots.hold(NEW)
    slots.switch_back(NEW)
    assert slots.running() == factory


def test_slots_are_written_in_turn(tmp_path: Path):
    """The active one is never written: a loss of power must leave something to start from."""
    slots = Slots(tmp_path / "ecus", {}, {"PRIMARY-1": Software(**FACTORY)})
    image = tmp_path / "image"
    for content in (b"one", b"two", b"six"):
        before = {path.name: path.read_bytes() for path in (tmp_path / "ecus").iterdir()}
        image.write_bytes(content)
        wanted = {"PRIMARY-1": Software("x.img", 3, hashlib.sha256(content).hexdigest(), 2)}
        slots.write(wanted, lambda _: image)
        slots.switch(wanted)
        assert slots.hold(wanted)
        changed = [name for name, old in before.items() if (tmp_path / "ecus" / name).read_bytes() != old]
        assert len(before) < 2 or len(changed) == 1
    with pytest.raises(FileNotFoundError):
        slots.write(wanted, lambda _: tmp_path / "absent")
    assert slots.hold(wanted)
