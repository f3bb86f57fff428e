"""Reads the fleet CSV: one row an ECU, rows of a vehicle together or apart. All faults at once, each with its line
and column.

Format: docs/fleet-csv.md.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_der_public_key

from orchestrator.engine import zones
from orchestrator.model.fleet import Ecu, Vehicle
from orchestrator.model.ids import NAME_PATTERN, VEHICLE_ID_PATTERN, EcuSerial, HardwareId, VehicleId
from orchestrator.service.errors import InvalidInputError, Violation

HEADER = (
    "vehicle_id",
    "model",
    "hardware",
    "region",
    "cohort",
    "tags",
    "ecu_serial",
    "hardware_id",
    "primary",
    "public_key",
)
ZONED_HEADER = (*HEADER, "zone")
"""The same with the optional last column."""
FAULTS_MAX = 100
SHARED = (*HEADER[1:6], "zone")
"""Columns that must be the same on every row of a vehicle."""
KINDS_MAX = 4096
"""Kinds of vehicles whose columns are looked at once; a fleet has some hundred."""

_P256_PREFIX = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
"""In front of the two coordinates of an uncompressed point in a SubjectPublicKeyInfo.

Source: RFC 5480, Elliptic Curve Public Key Format.
"""
_P256_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_P256_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
"""The curve y^2 = x^3 - 3x + b over the integers modulo p. Source: NIST SP 800-186, P-256."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the file."""

    line: int
    values: Mapping[str, str]


def read_fleet_csv(content: bytes) -> Sequence[Vehicle]:
    """Vehicles of a file, by id.

    Raises:
        InvalidInputError: one violation a fault, field `line:column-name`, at most FAULTS_MAX.
    """
    rows = read_rows(content)
    faults: list[Violation] = []
    groups: dict[str, list[Row]] = {}
    for row in rows:
        faults += row_faults(row)
        groups.setdefault(row.values["vehicle_id"], []).append(row)
    serials: dict[str, int] = {}
    for row in rows:
        serial = row.values["ecu_serial"]
        if serial in serials:
            faults.append(fault(row, "ecu_serial", f"{serial} stands on line {serials[serial]} already"))
        serials.setdefault(serial, row.line)
    for group in groups.values():
        faults += vehicle_faults(group)
    if faults:
        raise refused(faults)
    return [vehicle_of(group) for _, group in sorted(groups.items())]


def read_rows(content: bytes) -> Sequence[Row]:
    """The lines of a file as mappings; shape is checked, values are not."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refused([Violation(f"byte {error.start}", "not UTF-8: save the file as UTF-8")]) from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, None)
        if header is None or tuple(header) not in (HEADER, ZONED_HEADER):
            raise refused([Violation("1:header", f"must be exactly `{','.join(HEADER)}`, and may end in `,zone`")])
        rows: list[Row] = []
        faults: list[Violation] = []
        for values in reader:
            if len(values) != len(header):
                faults.append(
                    Violation(f"{reader.line_num}:row", f"has {len(values)} columns, {len(header)} are needed")
                )
                continue
            rows.append(Row(reader.line_num, {"zone": "", **dict(zip(header, values, strict=True))}))
    except csv.Error as error:
        raise refused([Violation(f"{reader.line_num}:row", f"not CSV: {error}")]) from error
    if faults:
        raise refused(faults)
    if not rows:
        raise refused([Violation("2:row", "the file has no vehicles")])
    return rows


def row_faults(row: Row) -> list[Violation]:
    """What is wrong with one line by itself."""
    faults = []
    if not VEHICLE_ID_PATTERN.fullmatch(row.values["vehicle_id"]):
        faults.append(fault(row, "vehicle_id", "needs 1 to 64 of A-Z a-z 0-9 _ -, starting with a letter or digit"))
    faults += [fault(row, *each) for each in shared_faults(*map(row.values.__getitem__, SHARED))]
    for name in ("ecu_serial", "hardware_id"):
        if not VEHICLE_ID_PATTERN.fullmatch(row.values[name]):
            faults.append(fault(row, name, "needs 1 to 64 of A-Z a-z 0-9 _ -, starting with a letter or digit"))
    if row.values["primary"] not in ("true", "false"):
        faults.append(fault(row, "primary", "must be `true` or `false`"))
    problem = key_fault(row.values["public_key"])
    if problem:
        faults.append(fault(row, "public_key", problem))
    return faults


@lru_cache(maxsize=KINDS_MAX)
def shared_faults(
    model: str, hardware: str, region: str, cohort: str, tags: str, zone: str
) -> Sequence[tuple[str, str]]:
    """What is wrong with the columns that all vehicles of a kind have alike: column and description."""
    names = {"model": model, "hardware": hardware, "region": region, "cohort": cohort}
    faults = [
        (name, "needs 1 to 32 of A-Z a-z 0-9 _ -, starting with a letter or digit")
        for name, value in names.items()
        if not NAME_PATTERN.fullmatch(value)
    ]
    faults += [
        ("tags", f"tag `{tag}` needs 1 to 32 of A-Z a-z 0-9 _ -; separate tags by `;`")
        for tag in tags_of(tags)
        if not NAME_PATTERN.fullmatch(tag)
    ]
    if problem := zone_fault(zone):
        faults.append(("zone", problem))
    return faults


def zone_fault(name: str) -> str:
    """Why `name` is no time zone, with what comes close; empty when it is one, or nothing."""
    if not name or zones.known(name):
        return ""
    close = " or ".join(f"`{each}`" for each in zones.close_to(name))
    meant = f"; meant is perhaps {close}" if close else ""
    return f"`{name[:64]}` is no IANA time zone such as `Europe/Berlin`{meant}"


def key_fault(text: str) -> str:
    """Why `text` is no usable public key; empty when it is one."""
    try:
        der = base64.b64decode(text, validate=True)
        if _is_p256(der):
            return ""  # Nearly all are: a million of them are told by this in seconds.
        key = load_der_public_key(der)
    except (binascii.Error, ValueError, UnsupportedAlgorithm):
        return "must be a SubjectPublicKeyInfo, DER in base64"
    if isinstance(key, ed25519.Ed25519PublicKey):
        return ""
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return ""
    return "must be a P-256 or an Ed25519 key"


def _is_p256(der: bytes) -> bool:
    """Whether bytes are a P-256 key in its usual form: an uncompressed point that is on the curve."""
    if len(der) != len(_P256_PREFIX) + 64 or not der.startswith(_P256_PREFIX):
        return False
    x, y = int.from_bytes(der[-64:-32], "big"), int.from_bytes(der[-32:], "big")
    return x < _P256_P and y < _P256_P and (y * y - (x * x - 3) * x - _P256_B) % _P256_P == 0


def vehicle_faults(group: Sequence[Row]) -> list[Violation]:
    """What is wrong with the lines of one vehicle taken together."""
    first = group[0]
    faults = [
        fault(
            row, name, f"is `{row.values[name]}`, but `{first.values[name]}` on line {first.line} of the same vehicle"
        )
        for row in group[1:]
        for name in SHARED
        if row.values[name] != first.values[name]
    ]
    primaries = sum(row.values["primary"] == "true" for row in group)
    if primaries != 1:
        faults.append(
            fault(first, "primary", f"vehicle {first.values['vehicle_id']} has {primaries} Primaries, it needs 1")
        )
    return faults


def vehicle_of(group: Sequence[Row]) -> Vehicle:
    """The vehicle of checked rows."""
    values = group[0].values
    ecus = [
        Ecu(
            serial=EcuSerial(row.values["ecu_serial"]),
            hardware_id=HardwareId(row.values["hardware_id"]),
            public_key=row.values["public_key"],
            primary=row.values["primary"] == "true",
        )
        for row in group
    ]
    return Vehicle(
        vehicle_id=VehicleId(values["vehicle_id"]),
        model=values["model"],
        hardware=values["hardware"],
        region=values["region"],
        cohort=values["cohort"],
        tags=tags_of(values["tags"]),
        ecus=tuple(sorted(ecus, key=lambda ecu: ecu.serial)),
        zone=values["zone"],
    )


@lru_cache(maxsize=KINDS_MAX)
def tags_of(text: str) -> tuple[str, ...]:
    """The tags of a column, each once, in order."""
    return tuple(sorted({tag for tag in text.split(";") if tag}))


def fault(row: Row, column: str, description: str) -> Violation:
    """One fault at a place."""
    return Violation(f"{row.line}:{column}", description)


def refused(faults: Sequence[Violation]) -> InvalidInputError:
    """The error that names every fault."""
    shown = list(faults[:FAULTS_MAX])
    if len(faults) > FAULTS_MAX:
        shown.append(Violation("file", f"{len(faults) - FAULTS_MAX} more faults are not shown"))
    return InvalidInputError(
        f"the fleet file has {len(faults)} faults; nothing was imported",
        reason="FLEET_FILE_INVALID",
        remedy="mend the lines named and import the file again",
        violations=shown,
    )
