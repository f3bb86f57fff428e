"""The fleet CSV: every fault at once, each with its line and column; a good file becomes vehicles."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from orchestrator.service.errors import InvalidInputError
from orchestrator.service.fleet_csv import FAULTS_MAX, HEADER, ZONED_HEADER, key_fault, read_fleet_csv


def spki(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey) -> str:
    """A public key as the file has it."""
    return base64.b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


KEY = spki(ec.generate_private_key(ec.SECP256R1()))
ROW = ("v-1", "S", "gen2", "eu", "canary", "beta;night", "v-1-gw", "acme-gw-2", "true", KEY)


def a_row(**changes: str) -> str:
    """A good line, with columns changed."""
    values = dict(zip(HEADER, ROW, strict=True)) | changes
    return ",".join(values[name] for name in HEADER)


def a_file(*rows: str, header: str = ",".join(HEADER)) -> bytes:
    """A file of these lines."""
    return ("\n".join([header, *rows]) + "\n").encode()


def places(content: bytes) -> Sequence[str]:
    """Where a file is faulty."""
    with pytest.raises(InvalidInputError) as error:
        read_fleet_csv(content)
    assert "nothing was imported" in str(error.value)
    return [violation.field for violation in error.value.violations]


SECONDARY = a_row(ecu_serial="v-1-bcm", hardware_id="acme-bcm-2", primary="false")


def test_rows_of_a_vehicle_become_one_vehicle() -> None:
    """Rows may stand apart, tags may repeat, Ed25519 is as good as P-256, a BOM is no fault."""
    other = a_row(vehicle_id="v-2", ecu_serial="v-2-gw", tags="", public_key=spki(ed25519.Ed25519PrivateKey.generate()))
    content = "\ufeff".encode() + a_file(a_row(tags="beta;beta;night"), other, SECONDARY.replace("beta;", "beta;beta;"))
    first, second = read_fleet_csv(content)
    assert (first.vehicle_id, first.tags) == ("v-1", ("beta", "night"))
    assert [(ecu.serial, ecu.primary) for ecu in first.ecus] == [("v-1-bcm", False), ("v-1-gw", True)]
    assert (second.vehicle_id, second.tags) == ("v-2", ())


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"vehicle_id": "no spaces"}, "2:vehicle_id"),
        ({"vehicle_id": "v" * 65}, "2:vehicle_id"),
        ({"model": ""}, "2:model"),
        ({"hardware": "gen 2"}, "2:hardware"),
        ({"region": "e" * 33}, "2:region"),
        ({"cohort": "ünder"}, "2:cohort"),
        ({"tags": "good;not good"}, "2:tags"),
        ({"ecu_serial": ""}, "2:ecu_serial"),
        ({"hardware_id": "../x"}, "2:hardware_id"),
        ({"primary": "yes"}, "2:primary"),
        ({"public_key": ""}, "2:public_key"),
        ({"public_key": "not base64!"}, "2:public_key"),
        ({"public_key": spki(ec.generate_private_key(ec.SECP384R1()))}, "2:public_key"),
        ({"public_key": spki(rsa.generate_private_key(public_exponent=65537, key_size=2048))}, "2:public_key"),
    ],
)
def test_bad_value_is_named_by_line_and_column(changes: dict[str, str], place: str) -> None:
    """Whoever made the export must find the cell without counting."""
    assert place in places(a_file(a_row(**changes), SECONDARY))


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"", "1:header"),
        (a_file(), "2:row"),
        (a_file(a_row(), header="vehicle_id,model"), "1:header"),
        (a_file(a_row() + ",more"), "2:row"),
        (a_file(a_row(), 'v-1,"open quote'), "3:row"),
        (a_file(a_row()) + b"\xff\xfe", "byte"),
    ],
    ids=["empty", "header only", "other header", "too many columns", "not CSV", "not UTF-8"],
)
def test_file_of_another_shape_is_refused(content: bytes, place: str) -> None:
    """A wrong file must not be read as if it were the right one."""
    assert places(content)[0].startswith(place)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([a_row(), a_row(ecu_serial="v-1-b")], ["2:primary"]),
        ([a_row(primary="false")], ["2:primary"]),
        ([a_row(), SECONDARY.replace(",eu,", ",us,").replace(",S,", ",X,")], ["3:model", "3:region"]),
        ([a_row(), a_row(vehicle_id="v-2")], ["3:ecu_serial"]),
    ],
    ids=["two Primaries", "no Primary", "rows that disagree", "one serial in two vehicles"],
)
def test_rows_that_do_not_fit_together_are_named(rows: list[str], expected: list[str]) -> None:
    """Each row may be right by itself and the vehicle still impossible."""
    assert places(a_file(*rows)) == expected


def test_many_faults_are_told_up_to_a_limit_with_the_rest_counted() -> None:
    """An answer must stay small enough to be sent."""
    found = places(a_file(*(a_row(vehicle_id=f"v {n}", ecu_serial=f"s-{n}") for n in range(FAULTS_MAX + 7))))
    assert len(found) == FAULTS_MAX + 1
    assert found[-1] == "file"


def zoned(*rows: tuple[str, str]) -> bytes:
    """A file with the optional column."""
    return a_file(*(f"{row},{zone}" for row, zone in rows), header=",".join(ZONED_HEADER))


def test_zone_is_an_optional_last_column() -> None:
    """A fleet in one zone needs no column; a row of a fleet in many may still leave it empty."""
    (plain,) = read_fleet_csv(a_file(a_row()))
    other = a_row(vehicle_id="v-2", ecu_serial="v-2-gw")
    first, second = read_fleet_csv(zoned((a_row(), "Europe/Berlin"), (other, "")))
    assert (plain.zone, first.zone, second.zone) == ("", "Europe/Berlin", "")


def test_unknown_zone_is_refused_with_what_was_meant() -> None:
    """A window in a zone that does not exist would never open."""
    with pytest.raises(InvalidInputError) as error:
        read_fleet_csv(zoned((a_row(), "europe/berlin")))
    (violation,) = error.value.violations
    assert violation.field == "2:zone"
    assert "`Europe/Berlin`" in violation.description


def test_zone_is_one_for_all_rows_of_a_vehicle() -> None:
    """A car stands in one place."""
    assert places(zoned((a_row(), "Europe/Berlin"), (SECONDARY, "Europe/Paris"))) == ["3:zone"]


def test_quick_look_at_a_key_says_what_the_library_says() -> None:
    """Most keys are told without the library: a wrong answer would let a vehicle in that can never prove anything."""
    good = base64.b64decode(KEY)
    assert key_fault(base64.b64encode(good).decode()) == ""
    x, p = int.from_bytes(good[-64:-32], "big"), 2**256 - 2**224 + 2**192 + 2**96 - 1
    changed = [
        good[:-1] + bytes([good[-1] ^ 1]),
        good[:-64] + good[-32:] + good[-64:-32],
        good[:-64] + bytes(64),
        good[:-64] + ((x + p) % 2**256).to_bytes(32, "big") + good[-32:],
        good[:-65] + b"\x05" + good[-64:],
        good[:-1],
        good + b"\x00",
        b"\x31" + good[1:],
    ]
    for der in changed:
        with pytest.raises((ValueError, UnsupportedAlgorithm)):
            load_der_public_key(der)
        assert key_fault(base64.b64encode(der).decode()) != ""
