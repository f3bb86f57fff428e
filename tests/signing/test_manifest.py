"""Manifests: what each control unit signed is believed, and nothing that anyone else says in its name."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner, Signature

from signing import canonical, manifest
from signing.errors import AttackCode, SigningError, VerificationError
from signing.keys import generate_ecu_key, public_key_base64
from signing.manifest import (
    EcuReport,
    InventoryEcu,
    Manifest,
    SignedReport,
    sign_manifest,
    sign_report,
    verify_manifest,
)
from tests.signing.uptane_simulator import NOW

SERIALS = ("PRIMARY-1", "BRAKE-1", "LIGHT-1")


def a_report(serial: str, **changes: object) -> EcuReport:
    report = EcuReport(serial, f"acme/{serial.lower()}.img", 130, "cd" * 32, "", NOW, 8)
    return replace(report, **changes)


@dataclass
class Car:
    """A Primary and two Secondaries with keys of their own; counter 8 is due."""

    keys: Mapping[str, CryptoSigner] = field(default_factory=lambda: {serial: generate_ecu_key() for serial in SERIALS})

    def reports(self, **changes: object) -> list[SignedReport]:
        return [sign_report(a_report(serial, **changes), self.keys[serial]) for serial in SERIALS]

    def manifest(self, reports: Sequence[SignedReport] | None = None, *, vehicle_id: str = "veh-1") -> bytes:
        chosen = self.reports() if reports is None else reports
        return sign_manifest(vehicle_id, "PRIMARY-1", chosen, self.keys["PRIMARY-1"])

    def inventory(self) -> list[InventoryEcu]:
        return [InventoryEcu(serial, public_key_base64(self.keys[serial]), serial == "PRIMARY-1") for serial in SERIALS]

    def check(self, data: bytes, *, counter_above: int = 7, now: datetime = NOW) -> Manifest:
        return verify_manifest(data, vehicle_id="veh-1", ecus=self.inventory(), counter_above=counter_above, now=now)

    def refusal(self, data: bytes, **arguments: Any) -> AttackCode:
        with pytest.raises(VerificationError) as caught:
            self.check(data, **arguments)
        return caught.value.code


@pytest.fixture
def car() -> Car:
    return Car()


@pytest.mark.uptane("V4", "V5", "D3")
def test_an_honest_manifest_is_accepted(car: Car):
    """Every report comes out as its unit signed it, with the digest that the check-in will name."""
    data = car.manifest()
    manifest = car.check(data)
    assert manifest.reports == tuple(a_report(serial) for serial in sorted(SERIALS))
    assert (manifest.vehicle_id, manifest.counter) == ("veh-1", 8)
    assert manifest.sha256 == hashlib.sha256(data).hexdigest()


def test_a_manifest_with_ed25519_keys_is_accepted():
    """The inventory takes both kinds of keys."""
    car = Car({serial: CryptoSigner.generate_ed25519() for serial in SERIALS})
    assert car.check(car.manifest()).counter == 8


@pytest.mark.uptane("V5")
def test_a_reported_attack_is_data_and_no_reason_to_refuse(car: Car):
    """Pitfall 9: refusing it would lose the very evidence."""
    manifest = car.check(car.manifest(car.reports(attack=AttackCode.ROLLBACK.value)))
    assert {report.attack for report in manifest.reports} == {"rollback"}


@pytest.mark.uptane("V4")
def test_the_signature_is_over_the_hash_as_the_standard_has_it(car: Car):
    """V4: key id, method, hash of the payload, hash function, and a signature of that hash."""
    envelope = json.loads(car.manifest())
    (entry,) = envelope["signatures"]
    digest = hashlib.sha256(canonical.encode(envelope["signed"])).digest()
    assert set(entry) == {"keyid", "method", "hash", "hashFunction", "sig"}
    assert (entry["hash"], entry["hashFunction"]) == (digest.hex(), "sha256")
    key = car.keys["PRIMARY-1"].public_key
    key.verify_signature(Signature(entry["keyid"], entry["sig"]), digest)


@pytest.mark.uptane("D3", "A21")
def test_the_primary_cannot_speak_for_a_secondary(car: Car):
    """A21, pitfall 5: a stolen Primary must not be able to claim success for the units behind it."""
    reports = car.reports()
    reports[1] = sign_report(a_report("BRAKE-1", sha256="ee" * 32), car.keys["PRIMARY-1"])
    assert car.refusal(car.manifest(reports)) is AttackCode.REPORT_FORGED


@pytest.mark.uptane("A21", "A25")
def test_a_secondary_cannot_speak_for_another(car: Car):
    """A21: keys are bound to serials by the inventory, not by what a report says."""
    reports = car.reports()
    reports[1] = sign_report(a_report("BRAKE-1"), car.keys["LIGHT-1"])
    assert car.refusal(car.manifest(reports)) is AttackCode.REPORT_FORGED


@pytest.mark.uptane("D3", "A21")
@pytest.mark.parametrize("key", ["BRAKE-1", None], ids=["a secondary", "a stranger"])
def test_only_the_primary_signs_the_manifest(car: Car, key: str | None):
    """A21: signed reports alone do not make a manifest."""
    signer = car.keys[key] if key else generate_ecu_key()
    data = sign_manifest("veh-1", "PRIMARY-1", car.reports(), signer)
    assert car.refusal(data) is AttackCode.MANIFEST_FORGED


@pytest.mark.uptane("A21", "A23")
def test_a_changed_report_inside_a_resigned_manifest_is_refused(car: Car):
    """A21, A23: the Primary edits what a Secondary signed, then signs the whole."""
    reports = json.loads(json.dumps(car.reports()))
    reports[1]["signed"]["installedImage"]["hashes"]["sha256"] = "ee" * 32
    assert car.refusal(car.manifest(reports)) is AttackCode.REPORT_FORGED


@pytest.mark.uptane("A21")
def test_a_changed_hash_entry_does_not_help(car: Car):
    """A21: the signature has to be of the hash that we compute, not of the one that is written down."""
    reports = json.loads(json.dumps(car.reports()))
    reports[1]["signed"]["counter"] = 8
    reports[1]["signed"]["attacksDetected"] = "none at all"
    payload = canonical.encode(reports[1]["signed"])
    reports[1]["signatures"][0]["hash"] = hashlib.sha256(payload).hexdigest()
    assert car.refusal(car.manifest(reports)) is AttackCode.REPORT_FORGED


@pytest.mark.uptane("D3", "A21")
def test_every_control_unit_reports(car: Car):
    """A21: silence of a unit is not success of the vehicle."""
    assert car.refusal(car.manifest(car.reports()[:2])) is AttackCode.ECU_MISSING


@pytest.mark.uptane("A21")
def test_an_unknown_control_unit_is_refused(car: Car):
    """A21: a foreign unit in the vehicle is a matter for the workshop, not for the record."""
    reports = [*car.reports(), sign_report(a_report("ALIEN-1"), generate_ecu_key())]
    assert car.refusal(car.manifest(reports)) is AttackCode.ECU_UNKNOWN


@pytest.mark.uptane("A21")
def test_two_reports_of_one_control_unit_are_refused(car: Car):
    """A21: which of two truths is meant must not be the reader's choice."""
    reports = [*car.reports(), sign_report(a_report("BRAKE-1", counter=8, length=1), car.keys["BRAKE-1"])]
    assert car.refusal(car.manifest(reports)) is AttackCode.ECU_DUPLICATE


@pytest.mark.uptane("A21")
def test_another_vehicle_s_manifest_is_refused(car: Car):
    """A21: whose certificate the connection has decides whose manifest it may bring."""
    assert car.refusal(car.manifest(vehicle_id="veh-2")) is AttackCode.WRONG_VEHICLE


@pytest.mark.uptane("A21")
def test_another_unit_as_primary_is_refused(car: Car):
    """A21: which unit is the Primary is the inventory's word."""
    data = sign_manifest("veh-1", "BRAKE-1", car.reports(), car.keys["PRIMARY-1"])
    assert car.refusal(data) is AttackCode.WRONG_ECU


@pytest.mark.uptane("D4", "A22")
@pytest.mark.parametrize("floor", [8, 9, 1000])
def test_a_replayed_manifest_is_refused(car: Car, floor: int):
    """A22: the same or a lower counter than that of the last accepted manifest."""
    data = car.manifest()
    assert car.refusal(data, counter_above=floor) is AttackCode.REPLAY


@pytest.mark.uptane("D4", "A22")
def test_a_replayed_report_inside_a_fresh_manifest_is_refused(car: Car):
    """A22: an old report of a Secondary would hide that it was rolled back."""
    reports = car.reports()
    reports[1] = sign_report(a_report("BRAKE-1", counter=7), car.keys["BRAKE-1"])
    assert car.refusal(car.manifest(reports)) is AttackCode.REPLAY


@pytest.mark.uptane("A22")
def test_a_report_that_is_ahead_of_the_primary_is_refused(car: Car):
    """A22: else it could be replayed later, above the floor that the Primary's counter sets."""
    reports = car.reports()
    reports[1] = sign_report(a_report("BRAKE-1", counter=9), car.keys["BRAKE-1"])
    assert car.refusal(car.manifest(reports)) is AttackCode.REPLAY


@pytest.mark.uptane("D3", "A22")
@pytest.mark.parametrize("offset", [timedelta(days=-31), timedelta(hours=2)], ids=["stale", "ahead"])
def test_an_implausible_time_is_refused(car: Car, offset: timedelta):
    """A22: a report from long ago or from the future proves nothing about now."""
    reports = car.reports()
    reports[2] = sign_report(a_report("LIGHT-1", time=NOW + offset), car.keys["LIGHT-1"])
    assert car.refusal(car.manifest(reports)) is AttackCode.STALE


def test_a_manifest_signed_before_a_long_absence_is_accepted(car: Car):
    """A vehicle that comes out of a garage after three weeks hands in what it signed before."""
    assert car.check(car.manifest(), now=NOW + timedelta(days=21)).counter == 8


@pytest.mark.uptane("A28")
def test_a_huge_manifest_is_refused_unread(car: Car):
    """A28: size first, before a byte is parsed."""
    assert car.refusal(b"{" * (64 * 1024 + 1)) is AttackCode.ENDLESS_DATA


def edited(edit: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def apply(data: bytes) -> bytes:
        value = json.loads(data)
        edit(value)
        return json.dumps(value).encode()

    return apply


def first_report(value: dict[str, Any]) -> dict[str, Any]:
    return value["signed"]["ecuVersionReports"][0]


@pytest.mark.uptane("A28", "A30")
@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"",
        lambda data: b"\xff\xfe",
        lambda data: b"[" * 60000,
        lambda data: b"[]",
        lambda data: b"null",
        lambda data: data[:-1],
        lambda data: data.replace(b'"counter":8', b'"counter":8.0'),
        lambda data: data.replace(b'"counter":8', b'"counter":8,"counter":9'),
        edited(lambda v: v.update(extra=1)),
        edited(lambda v: v["signed"].update(extra=1)),
        edited(lambda v: v["signed"].pop("vehicleIdentifier")),
        edited(lambda v: v["signed"].update(_type="ecu-version-report")),
        edited(lambda v: v["signed"].update(ecuVersionReports={})),
        edited(lambda v: v["signed"].update(ecuVersionReports=[1])),
        edited(lambda v: v["signed"].update(ecuVersionReports=[{}] * 65)),
        edited(lambda v: v.update(signatures=[])),
        edited(lambda v: v.update(signatures=v["signatures"] * 2)),
        edited(lambda v: v["signatures"][0].update(sig=1)),
        edited(lambda v: v["signatures"][0].update(extra="x")),
        edited(lambda v: first_report(v)["signed"].update(_type="vehicle-version-manifest")),
        edited(lambda v: first_report(v)["signed"].update(counter="8")),
        edited(lambda v: first_report(v)["signed"].update(counter=True)),
        edited(lambda v: first_report(v)["signed"].update(time="yesterday")),
        edited(lambda v: first_report(v)["signed"].update(time=5)),
        edited(lambda v: first_report(v)["signed"].update(attacksDetected=[])),
        edited(lambda v: first_report(v)["signed"].update(attacksDetected="x" * 300)),
        edited(lambda v: first_report(v)["signed"].update(attacksDetected="a line\nbreak")),
        edited(lambda v: first_report(v)["signed"]["installedImage"].update(filename="../x")),
        edited(lambda v: first_report(v)["signed"]["installedImage"].update(length=-1)),
        edited(lambda v: first_report(v)["signed"]["installedImage"].update(length=True)),
        edited(lambda v: first_report(v)["signed"]["installedImage"].update(hashes={"md5": "0"})),
        edited(lambda v: first_report(v)["signed"]["installedImage"].update(hashes={"sha256": 1})),
        edited(lambda v: first_report(v)["signed"].update(installedImage="x")),
    ],
)
def test_a_malformed_manifest_is_refused_as_such(car: Car, change: Callable[[bytes], bytes]):
    """A28, A30: whatever comes in over the wire gets a code and never an exception of another kind."""
    data = car.manifest()
    assert change(data) != data
    assert car.refusal(change(data)) is AttackCode.MALFORMED


@pytest.mark.uptane("A30")
def test_a_serial_that_is_no_text_is_unknown(car: Car):
    """A30: types are checked before anything is looked up."""
    data = edited(lambda v: first_report(v)["signed"].update(ecuIdentifier=["PRIMARY-1"]))(car.manifest())
    assert car.refusal(data) is AttackCode.ECU_UNKNOWN


@pytest.mark.uptane("V4")
@pytest.mark.parametrize("entry", ["hash", "hashFunction", "keyid", "method", "sig"])
def test_every_field_of_a_signature_counts(car: Car, entry: str):
    """V4: an entry that says something else than what was done is no signature."""
    data = edited(lambda v: v["signatures"][0].update({entry: "00" * 32}))(car.manifest())
    assert car.refusal(data) is AttackCode.MANIFEST_FORGED


@pytest.mark.uptane("A28")
@pytest.mark.parametrize("of", [lambda v: v, first_report], ids=["the manifest", "a report"])
@pytest.mark.parametrize(
    ("entry", "padded", "told"),
    [
        ("keyid", lambda text: "a" * 50_000, "keyid is 64 characters of hex"),
        ("keyid", str.upper, "keyid is 64 characters of hex"),
        ("sig", lambda text: text + "00" * 20_000, "sig is 2 to 144 characters of hex"),
        ("sig", lambda text: text + " " * 50_000, "sig is 2 to 144 characters of hex"),
        ("sig", lambda text: "", "sig is 2 to 144 characters of hex"),
    ],
)
def test_what_nobody_signs_has_a_length_of_its_own(
    car: Car, of: Callable[[Any], Any], entry: str, padded: Callable[[str], str], told: str
):
    """A28: a manifest is kept for good, and must not be a way to have us keep whatever a vehicle likes."""
    data = edited(lambda v: of(v)["signatures"][0].update({entry: padded(of(v)["signatures"][0][entry])}))(
        car.manifest()
    )
    with pytest.raises(VerificationError, match=told) as caught:
        car.check(data)
    assert caught.value.code is AttackCode.MALFORMED
    assert len(str(caught.value)) < 200


@pytest.mark.uptane("A28")
def test_cheap_checks_come_before_signatures(car: Car, monkeypatch: pytest.MonkeyPatch):
    """A28: a flood of replays must not buy a signature check each."""

    def never(*arguments: object) -> None:
        raise AssertionError("a signature was checked")

    monkeypatch.setattr(manifest, "_check_signature", never)
    data = car.manifest()
    with pytest.raises(AssertionError, match="a signature was checked"):
        car.check(data)
    assert car.refusal(data, counter_above=8) is AttackCode.REPLAY
    assert car.refusal(car.manifest(car.reports()[:1])) is AttackCode.ECU_MISSING


@pytest.mark.parametrize(
    "key", ["", "x", base64.b64encode(b"no key").decode(), "é"], ids=["empty", "short", "no key", "not ascii"]
)
def test_an_unusable_inventory_is_our_fault_and_not_the_vehicle_s(car: Car, key: str):
    """It must not be counted as an attack by the vehicle."""
    ecus = [replace(ecu, public_key=key) if ecu.primary else ecu for ecu in car.inventory()]
    with pytest.raises(SigningError) as caught:
        verify_manifest(car.manifest(), vehicle_id="veh-1", ecus=ecus, counter_above=7, now=NOW)
    assert not isinstance(caught.value, VerificationError)


def test_an_inventory_without_a_primary_is_our_fault(car: Car):
    """Exactly one unit is the Primary."""
    with pytest.raises(SigningError, match="0 Primaries"):
        verify_manifest(car.manifest(), vehicle_id="veh-1", ecus=car.inventory()[1:], counter_above=7, now=NOW)


@pytest.mark.uptane("A30")
@pytest.mark.parametrize("change", [{"path": "a\nb"}, {"attack": "e\u0301"}, {"counter": 2**60}], ids=str)
def test_what_cannot_be_signed_alike_everywhere_is_not_signed(change: dict[str, object]):
    """A30: refused in the vehicle, before the server would."""
    with pytest.raises(SigningError):
        sign_report(a_report("PRIMARY-1", **change), generate_ecu_key())
