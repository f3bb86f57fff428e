"""What was signed of a manifest, byte for byte, without encoding it anew.

Every agent sends its manifest in canonical JSON, and then the signed parts stand in it as they were signed. They are
composed from the values that were read, by the form that a manifest has, and compared with what came: if nothing
differs, it was canonical, and none of its texts has to be escaped. Whatever differs, in a space or in a whole field, is
left to `canonical`, which reads strictly and says what is wrong. Judging values is `manifest`'s.
"""

from __future__ import annotations

import json
from operator import itemgetter
from typing import Any

from signing.canonical import INTEGER_MAX

_ENTRY = '{"hash":"%s","hashFunction":"%s","keyid":"%s","method":"%s","sig":"%s"}'
_ENTRY_FIELDS = itemgetter("hash", "hashFunction", "keyid", "method", "sig")
_ENVELOPE = '{"signatures":[%s],"signed":%s}'
_REPORT = (
    '{"_type":"ecu-version-report","attacksDetected":"%s","counter":%d,"ecuIdentifier":"%s",'
    '"installedImage":{"filename":"%s","hashes":{"sha256":"%s"},"length":%d},"time":"%s"}'
)
_REPORT_FIELDS = itemgetter("attacksDetected", "counter", "ecuIdentifier", "installedImage", "time")
_IMAGE_FIELDS = itemgetter("filename", "hashes", "length")
_MANIFEST = (
    '{"_type":"vehicle-version-manifest","ecuVersionReports":[%s],"primaryIdentifier":"%s","vehicleIdentifier":"%s"}'
)


def read_canonical(data: bytes) -> tuple[Any, list[bytes]] | None:
    """Read a manifest that is canonical JSON in plain ASCII.

    Equality is the whole proof: a name that stands twice, a further field, a float, an escaped character, another order
    or type would be missing from, or other in, what is composed.

    Returns:
        Its value, and its signed parts as they came: the manifest's own, then each report's in order. None when it
        cannot be told: ask `canonical.decode`.
    """
    try:
        text = data.decode("ascii")
        value = json.loads(text)
        payload = value["signed"]
        reports = payload["ecuVersionReports"]
        signed = [_report(report["signed"]) for report in reports]
        listed = ",".join(map(_enveloped, reports, signed))
        signed.insert(0, _MANIFEST % (listed, payload["primaryIdentifier"], payload["vehicleIdentifier"]))
        if _enveloped(value, signed[0]) != text:
            return None
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return value, [part.encode("ascii") for part in signed]


def _enveloped(envelope: Any, signed: str) -> str:
    return _ENVELOPE % (_ENTRY % _ENTRY_FIELDS(envelope["signatures"][0]), signed)


def _report(payload: Any) -> str:
    attack, counter, serial, image, time = _REPORT_FIELDS(payload)
    path, hashes, length = _IMAGE_FIELDS(image)
    if not -INTEGER_MAX <= counter <= INTEGER_MAX or not -INTEGER_MAX <= length <= INTEGER_MAX:
        raise ValueError("an integer that readers of JSON disagree on")
    return _REPORT % (attack, counter, serial, path, hashes["sha256"], length, time)
