"""Vehicle version manifests: each control unit signs what it runs, the Primary signs the collection.

Signing is the vehicle's half, `verify_manifest` the server's; the server checks each report under that very unit's
key from the inventory, never the Primary's. A report of an attack is data, not a reason to refuse: storing and
flagging it is the caller's business, and so is the record of refused manifests.
Source: Uptane 2.1.0, Vehicle version manifest; ECU version report; Inventory and manifest checks of the Director.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache, partial
from typing import Any, NewType, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key
from securesystemslib.signer import CryptoSigner

from signing import canonical
from signing.errors import AttackCode, SigningError, VerificationError
from signing.keys import key_value, public_key_from_base64
from signing.manifest_bytes import read_canonical
from signing.names import NAME_PATTERN, SHA256_PATTERN, target_path_fault
from signing.versions import format_time, parse_time, require_utc

MANIFEST_MAX_BYTES = 64 * 1024
REPORTS_MAX = 64
"""Most control units of one vehicle."""
REPORT_AGE_MAX = timedelta(days=30)
"""Fleet time; a vehicle may hand in what it signed before a long absence."""
REPORT_AHEAD_MAX = timedelta(hours=1)
"""Fleet time; a vehicle's clock may be ahead of ours."""

_MANIFEST_TYPE = "vehicle-version-manifest"
_REPORT_TYPE = "ecu-version-report"
_ATTACK_MAX_CHARS = 256
_SIG_PATTERN = re.compile(r"(?:[0-9a-fA-F]{2}){1,72}")
"""Hex of at most the 72 bytes that a signature of P-256 can take in DER; one of Ed25519 takes 64."""
_P256 = ECDSA(SHA256())
_ENVELOPE = {"signatures", "signed"}
_ENTRY = {"keyid", "method", "hash", "hashFunction", "sig"}
_MANIFEST = {"_type", "vehicleIdentifier", "primaryIdentifier", "ecuVersionReports"}
_REPORT = {"_type", "ecuIdentifier", "installedImage", "attacksDetected", "time", "counter"}
_IMAGE = {"filename", "length", "hashes"}

SignedReport = NewType("SignedReport", Mapping[str, Any])
"""A version report with its signature, as it stands in a manifest."""


@dataclass(frozen=True, slots=True)
class EcuReport:
    """What one control unit says about itself."""

    ecu_serial: str
    path: str
    """Target path of the image it runs."""
    length: int
    """Bytes."""
    sha256: str
    """Hex digest."""
    attack: str
    """An attack that it detected, for example an `AttackCode`; empty when none."""
    time: datetime
    """The latest fleet time that it could verify, UTC, whole seconds."""
    counter: int
    """Changes every cycle; a Secondary takes the Primary's, which only rises."""


@dataclass(frozen=True, slots=True)
class InventoryEcu:
    """One control unit as the inventory knows it."""

    serial: str
    public_key: str
    """SubjectPublicKeyInfo, DER in base64."""
    primary: bool


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest that passed every check."""

    vehicle_id: str
    reports: tuple[EcuReport, ...]
    """By serial, exactly one for each control unit of the inventory."""
    counter: int
    """That of the Primary's report; no report has a higher one."""
    sha256: str
    """Of the manifest's bytes, hex."""


def sign_report(report: EcuReport, signer: CryptoSigner) -> SignedReport:
    """Sign a version report with the control unit's own key.

    Raises:
        SigningError: A field cannot be signed as it is.
    """
    payload = {
        "_type": _REPORT_TYPE,
        "ecuIdentifier": report.ecu_serial,
        "installedImage": {
            "filename": report.path,
            "length": report.length,
            "hashes": {"sha256": report.sha256},
        },
        "attacksDetected": report.attack,
        "time": format_time(report.time),
        "counter": report.counter,
    }
    return SignedReport(_sign(payload, signer))


def sign_manifest(vehicle_id: str, primary_serial: str, reports: Sequence[SignedReport], signer: CryptoSigner) -> bytes:
    """Collect reports into a manifest, signed with the Primary's key.

    Args:
        vehicle_id: This vehicle.
        primary_serial: The control unit that signs.
        reports: One for each control unit, the Primary's included.
        signer: The Primary's key.

    Returns:
        The manifest; keep and send these very bytes.

    Raises:
        SigningError: A field cannot be signed as it is.
    """
    payload = {
        "_type": _MANIFEST_TYPE,
        "vehicleIdentifier": vehicle_id,
        "primaryIdentifier": primary_serial,
        "ecuVersionReports": list(reports),
    }
    return canonical.encode(_sign(payload, signer))


def verify_manifest(
    data: bytes,
    *,
    vehicle_id: str,
    ecus: Sequence[InventoryEcu],
    counter_above: int,
    now: datetime,
) -> Manifest:
    """Check a manifest against the inventory: what is cheap first, then the Primary's signature, then each report's.

    Args:
        data: The manifest as it came.
        vehicle_id: Whom the certificate of the connection names.
        ecus: The vehicle's control units by inventory; exactly one is the Primary.
        counter_above: Counter of the last accepted manifest; every report's has to be above it.
        now: Fleet time, UTC.

    Raises:
        VerificationError: A check failed; each has its own code.
        SigningError: The inventory itself is unusable (no Primary, a key that cannot be read).
    """
    now = require_utc(now)
    primary = _primary(ecus)
    envelope, signed = _read(data)
    payload = _payload(envelope, _MANIFEST_TYPE, _MANIFEST)
    if payload["vehicleIdentifier"] != vehicle_id:
        raise VerificationError(
            AttackCode.WRONG_VEHICLE,
            f"the manifest is of {_brief(payload['vehicleIdentifier'])}, not of {vehicle_id!r}",
        )
    if payload["primaryIdentifier"] != primary.serial:
        raise VerificationError(
            AttackCode.WRONG_ECU,
            f"the manifest names {_brief(payload['primaryIdentifier'])} as Primary, the inventory {primary.serial!r}",
        )
    envelopes = _report_envelopes(payload["ecuVersionReports"])
    reports = {serial: _report(inner) for serial, inner in _by_serial(envelopes, ecus).items()}
    counter = _check_counters(reports, primary, counter_above)
    _check_times(reports, now)
    own, *inner_parts = signed or _signed_parts(envelope, envelopes)
    _check_signature(envelope, own, primary, AttackCode.MANIFEST_FORGED, "the manifest")
    unit = {ecu.serial: ecu for ecu in ecus}
    for serial, inner, content in zip(reports, envelopes, inner_parts, strict=True):
        what = f"the report of control unit {serial!r}"
        _check_signature(inner, content, unit[serial], AttackCode.REPORT_FORGED, what)
    return Manifest(
        vehicle_id=vehicle_id,
        reports=tuple(reports[serial] for serial in sorted(reports)),
        counter=counter,
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _sign(payload: Mapping[str, Any], signer: CryptoSigner) -> dict[str, Any]:
    """Sign the hash of the payload, in the form of the Standard's signature entries."""
    try:
        digest = hashlib.sha256(canonical.encode(payload)).digest()
    except canonical.JsonFormError as exc:
        raise SigningError(f"the {payload['_type']} cannot be signed: {exc}") from exc
    signature = signer.sign(digest)
    entry = {
        "keyid": signature.keyid,
        "method": signer.public_key.scheme,
        "hash": digest.hex(),
        "hashFunction": "sha256",
        "sig": signature.signature,
    }
    return {"signatures": [entry], "signed": payload}


def _primary(ecus: Sequence[InventoryEcu]) -> InventoryEcu:
    primaries = [ecu for ecu in ecus if ecu.primary]
    if len(primaries) != 1:
        raise SigningError(f"the inventory names {len(primaries)} Primaries for this vehicle, there has to be one")
    return primaries[0]


def _read(data: bytes) -> tuple[dict[str, Any], Sequence[bytes]]:
    """A manifest, and its signed parts where they are plain to see."""
    if len(data) > MANIFEST_MAX_BYTES:
        raise VerificationError(
            AttackCode.ENDLESS_DATA, f"the manifest has {len(data)} bytes, at most {MANIFEST_MAX_BYTES}"
        )
    exact = read_canonical(data)
    if exact is not None:
        return _envelope(exact[0], "the manifest"), exact[1]
    try:
        value = canonical.decode(data)
    except canonical.JsonFormError as exc:
        raise VerificationError(AttackCode.MALFORMED, f"the manifest is malformed: {exc}") from exc
    return _envelope(value, "the manifest"), ()


def _envelope(value: object, what: str) -> dict[str, Any]:
    """A value in the form {signatures: [one entry], signed: {...}}."""
    if not isinstance(value, dict) or value.keys() != _ENVELOPE or not isinstance(value["signed"], dict):
        raise VerificationError(AttackCode.MALFORMED, f"{what} is not made of signatures and a signed part")
    signatures = value["signatures"]
    if not isinstance(signatures, list) or len(signatures) != 1 or not isinstance(signatures[0], dict):
        raise VerificationError(AttackCode.MALFORMED, f"{what} does not have exactly one signature")
    if signatures[0].keys() != _ENTRY or {*map(type, signatures[0].values())} != {str}:
        raise VerificationError(AttackCode.MALFORMED, f"{what}: a signature has the fields {', '.join(sorted(_ENTRY))}")
    # Nothing signs these two: what is not bounded here may be of any length, and is kept for good with the rest.
    if not SHA256_PATTERN.fullmatch(keyid := signatures[0]["keyid"]):
        raise VerificationError(AttackCode.MALFORMED, f"{what}: keyid is 64 characters of hex, not {_brief(keyid)}")
    if not _SIG_PATTERN.fullmatch(sig := signatures[0]["sig"]):
        raise VerificationError(AttackCode.MALFORMED, f"{what}: sig is 2 to 144 characters of hex, not {_brief(sig)}")
    return value


def _payload(envelope: Mapping[str, Any], kind: str, fields: Set[str]) -> dict[str, Any]:
    payload: dict[str, Any] = envelope["signed"]
    if payload.keys() != fields or payload["_type"] != kind:
        raise VerificationError(AttackCode.MALFORMED, f"a {kind} has the fields {', '.join(sorted(fields))}")
    return payload


def _report_envelopes(value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list) or len(value) > REPORTS_MAX:
        raise VerificationError(AttackCode.MALFORMED, f"a manifest has a list of at most {REPORTS_MAX} reports")
    return [_envelope(item, "a report") for item in value]


def _by_serial(envelopes: Sequence[dict[str, Any]], ecus: Sequence[InventoryEcu]) -> dict[str, dict[str, Any]]:
    known = {ecu.serial for ecu in ecus}
    found: dict[str, dict[str, Any]] = {}
    for envelope in envelopes:
        serial = envelope["signed"].get("ecuIdentifier")
        if not isinstance(serial, str) or serial not in known:
            raise VerificationError(AttackCode.ECU_UNKNOWN, f"a report is about {_brief(serial)}, unknown here")
        if serial in found:
            raise VerificationError(AttackCode.ECU_DUPLICATE, f"two reports are about control unit {serial!r}")
        found[serial] = envelope
    missing = sorted(known - set(found))
    if missing:
        raise VerificationError(AttackCode.ECU_MISSING, f"no report of control unit {', '.join(missing)}")
    return found


def _report(envelope: Mapping[str, Any]) -> EcuReport:
    payload = _payload(envelope, _REPORT_TYPE, _REPORT)
    serial, image, attack = payload["ecuIdentifier"], payload["installedImage"], payload["attacksDetected"]
    if not NAME_PATTERN.fullmatch(serial) or not _is_image(image):
        raise VerificationError(AttackCode.MALFORMED, f"the report of {_brief(serial)} does not say what it runs")
    if not isinstance(attack, str) or len(attack) > _ATTACK_MAX_CHARS:
        raise VerificationError(AttackCode.MALFORMED, f"the report of {serial!r} has an odd attack indicator")
    if type(payload["counter"]) is not int:
        raise VerificationError(AttackCode.MALFORMED, f"the report of {serial!r} has no counter")
    try:
        time = parse_time(payload["time"])
    except (ValueError, TypeError) as exc:
        raise VerificationError(AttackCode.MALFORMED, f"the report of {serial!r} has no time") from exc
    return EcuReport(
        ecu_serial=serial,
        path=image["filename"],
        length=image["length"],
        sha256=image["hashes"]["sha256"],
        attack=attack,
        time=time,
        counter=payload["counter"],
    )


def _is_image(value: object) -> bool:
    if not isinstance(value, dict) or value.keys() != _IMAGE:
        return False
    path, length, hashes = value["filename"], value["length"], value["hashes"]
    if not isinstance(path, str) or target_path_fault(path) or type(length) is not int or length < 0:
        return False
    if not isinstance(hashes, dict) or hashes.keys() != {"sha256"}:
        return False
    return isinstance(hashes["sha256"], str) and bool(SHA256_PATTERN.fullmatch(hashes["sha256"]))


def _check_counters(reports: Mapping[str, EcuReport], primary: InventoryEcu, counter_above: int) -> int:
    """Every counter lies above the floor and none above the Primary's, so the Primary's is the next floor for all."""
    highest = reports[primary.serial].counter
    for serial, report in reports.items():
        if report.counter <= counter_above:
            raise VerificationError(
                AttackCode.REPLAY,
                f"the report of control unit {serial!r} has counter {report.counter}, not above {counter_above}",
            )
        if report.counter > highest:
            raise VerificationError(
                AttackCode.REPLAY,
                f"the report of control unit {serial!r} has counter {report.counter}, above the Primary's {highest}",
            )
    return highest


def _check_times(reports: Mapping[str, EcuReport], now: datetime) -> None:
    for serial, report in reports.items():
        if not now - REPORT_AGE_MAX <= report.time <= now + REPORT_AHEAD_MAX:
            raise VerificationError(
                AttackCode.STALE,
                f"the report of control unit {serial!r} is of {format_time(report.time)}, it is {format_time(now)}",
            )


def _signed_parts(envelope: Mapping[str, Any], reports: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """What was signed by the Primary, then in each report."""
    try:
        return [canonical.encode(each["signed"], decoded=True) for each in (envelope, *reports)]
    except canonical.JsonFormError as exc:
        raise VerificationError(AttackCode.MALFORMED, f"the manifest: {exc}") from exc


def _check_signature(
    envelope: Mapping[str, Any], signed: bytes, ecu: InventoryEcu, code: AttackCode, what: str
) -> None:
    keyid, scheme, is_signed = _verifier(ecu.public_key)
    entry = envelope["signatures"][0]
    digest = hashlib.sha256(signed).digest()
    if entry["hashFunction"] != "sha256" or entry["hash"] != digest.hex() or entry["method"] != scheme:
        raise VerificationError(code, f"{what} has other content than what was signed")
    if entry["keyid"] != keyid or not is_signed(entry["sig"], digest):
        raise VerificationError(code, f"{what} is not signed by the key of control unit {ecu.serial!r}")


@lru_cache(maxsize=8192)
def _verifier(text: str) -> tuple[str, str, Callable[[str, bytes], bool]]:
    """A key's id and scheme, and whether a signature in hex is its own over some bytes.

    Parsing a key costs more than one check with it, and securesystemslib parses it for each: so the most recently used
    are kept as cryptography has them.
    """
    key = public_key_from_base64(text)
    public = load_der_public_key(key_value(key))

    def is_signed(signature: str, data: bytes) -> bool:
        try:
            check(bytes.fromhex(signature), data)
        except (ValueError, InvalidSignature):
            return False
        return True

    if isinstance(public, EllipticCurvePublicKey):
        check: Callable[[bytes, bytes], None] = partial(_verify_p256, public)
    else:
        check = cast("Ed25519PublicKey", public).verify
    return key.keyid, key.scheme, is_signed


def _verify_p256(key: EllipticCurvePublicKey, signature: bytes, data: bytes) -> None:
    key.verify(signature, data, _P256)


def _brief(value: object) -> str:
    return repr(value)[:80]
