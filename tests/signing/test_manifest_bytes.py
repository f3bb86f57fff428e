"""The short way to a manifest's signed bytes: every honest manifest takes it, and it never leads elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner

from signing import canonical
from signing.manifest import EcuReport, sign_manifest, sign_report
from signing.manifest_bytes import read_canonical
from tests.signing.uptane_simulator import NOW

KEYS = {serial: CryptoSigner.generate_ecdsa() for serial in ("GW-1", "BCM-1")}


def a_manifest(attack: str = "", counter: int = 7) -> bytes:
    reports = [
        sign_report(EcuReport(serial, f"acme/{serial}-1.1.0.img", 130, "ab" * 32, attack, NOW, counter), key)
        for serial, key in KEYS.items()
    ]
    return sign_manifest("veh-1", "GW-1", reports, KEYS["GW-1"])


PLAIN = a_manifest()
ENDING = '"primaryIdentifier":"GW-1","vehicleIdentifier":"veh-1"'
Change = Callable[[Any], object]


def long_way(data: bytes) -> tuple[Any, list[bytes]]:
    value = canonical.decode(data)
    signed = value["signed"]
    return value, [canonical.encode(each["signed"]) for each in (value, *signed["ecuVersionReports"])]


@pytest.mark.parametrize("data", [PLAIN, a_manifest("rollback"), a_manifest(":}}],{"), a_manifest("", 1)])
def test_manifest_of_an_agent_is_read_the_short_way(data: bytes):
    """It is what makes a manifest cost little more than its signatures; and both ways see the same."""
    assert read_canonical(data) == long_way(data)


@pytest.mark.parametrize("attack", ['a "quoted" word', "back\\slash", "naïve", "\x7f\u2028", "tab\\t"])
def test_text_that_might_be_escaped_is_left_to_the_strict_reader(attack: str):
    """How it was escaped is not seen from its value."""
    data = a_manifest(attack)
    assert read_canonical(data) in (None, long_way(data))
    assert (read_canonical(data) is None) == (attack != "\x7f")


def swapped(old: str, new: str) -> bytes:
    assert old.encode() in PLAIN
    return PLAIN.replace(old.encode(), new.encode(), 1)


@pytest.mark.uptane("A30")
@pytest.mark.parametrize(
    "data",
    [
        PLAIN + b" ",
        swapped('"counter":7', '"counter": 7'),
        swapped('"counter":7', '"counter":7.0'),
        swapped('"counter":7', '"counter":7e0'),
        swapped('"counter":7', '"counter":true'),
        swapped('"counter":7', '"counter":"7"'),
        swapped('"counter":7', '"counter":-0'),
        swapped('"counter":7', '"counter":9007199254740992'),
        swapped('"counter":7', '"counter":-9007199254740992'),
        swapped('"counter":7', f'"counter":{"7" * 5000}'),
        swapped('"counter":7', '"counter":7,"counter":7'),
        swapped('"counter":7', '"counter":6,"counter":7'),
        swapped('"length":130', '"length":130,"more":1'),
        swapped('"length":130', '"length":9007199254740992'),
        swapped('"length":130', '"length":-9007199254740992'),
        swapped('"length":130', '"length":null'),
        swapped('"vehicleIdentifier":"veh-1"', '"vehicleIdentifier":"veh-2","vehicleIdentifier":"veh-1"'),
        swapped('"vehicleIdentifier":"veh-1"', '"vehicleIdentifier":["veh-1"]'),
        swapped(ENDING, ",".join(reversed(ENDING.split(",")))),
        swapped('"attacksDetected":""', '"attacksDetected":null'),
        swapped('"attacksDetected":""', '"attacksDetected":{"it\'s":1}'),
        swapped('"signatures":[{', '"signatures":[{},{'),
        swapped('"_type":"ecu-version-report"', '"_type":"vehicle-version-manifest"'),
        swapped('"_type":"vehicle-version-manifest"', '"_type":"ecu-version-report"'),
        PLAIN.replace(b"veh-1", b"v\xc3\xa9h-1"),
        PLAIN.replace(b"veh-1", b"v\\u0065h-1"),
        PLAIN[:-1],
        PLAIN + PLAIN,
        b"",
        b"[]",
        b"{}",
        b"7",
        b"[" * 60_000,
        b"\xff",
    ],
    ids=lambda data: str(data[:24]),
)  # fmt: skip
def test_anything_that_is_not_in_the_form_is_left_to_the_strict_reader(data: bytes):
    """A30: one reader must not see what another does not; equality with the whole text leaves no room for it."""
    assert read_canonical(data) is None


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """A manifest with one value somewhere replaced, written tightly or loosely, and perhaps with a byte changed."""
    value = json.loads(PLAIN)
    here: Any = value
    while True:
        where = draw(st.sampled_from(sorted(here) if isinstance(here, dict) else range(len(here))))
        if not isinstance(here[where], dict | list) or not here[where] or draw(st.booleans()):
            break
        here = here[where]
    scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
    here[where] = draw(
        scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.text(max_size=4), scalars, max_size=2)
    )
    data = json.dumps(
        value, separators=draw(st.sampled_from([(",", ":"), (", ", ": ")])), ensure_ascii=draw(st.booleans())
    )
    raw = bytearray(data, "utf-8", "surrogatepass")
    if draw(st.booleans()):
        raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
    return bytes(raw)


@pytest.mark.uptane("A30")
@given(mangled())
def test_short_way_is_taken_only_where_the_long_one_leads_to_the_same(data: bytes):
    """Whatever is changed: either the strict reader decides, or both have read the same value and the same bytes."""
    found = read_canonical(data)
    if found is not None:
        assert found == long_way(data)
