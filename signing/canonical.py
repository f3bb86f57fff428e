"""JSON as it is signed: one strict reader and one canonical writer, used for everything outside python-tuf's objects.

The writer gives the same bytes as securesystemslib's canonical form for the values it accepts, about three times
faster. It refuses what the two forms disagree on (control characters) and what canonical JSON cannot carry (floats);
PEM keys in root metadata contain line feeds, so root metadata is left to python-tuf.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

INTEGER_MAX = 2**53 - 1
"""Beyond it, readers of JSON disagree on the value."""

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
_CONTROL = re.compile(r"[\x00-\x1f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


class JsonFormError(ValueError):
    """The value or text is outside the agreed form; the message says how."""


def encode(value: object, *, decoded: bool = False) -> bytes:
    """Encode `value` in OLPC canonical JSON.

    Args:
        value: What.
        decoded: It is what `decode` gave, which has looked at its types already.

    Raises:
        JsonFormError: A float, a control character, half a surrogate pair, text that is not NFC, a key that is not
            text, an odd type.
    """
    if decoded or _is_plain(value):
        text = _ENCODER.encode(value)
        # What has to be escaped, a control character for one, leaves a backslash.
        if text.isascii() and "\\" not in text:
            return text.encode("ascii")
    _check(value)
    return _ENCODER.encode(value).encode()


def decode(data: bytes) -> Any:
    """Decode JSON, refusing everything that two readers could understand differently.

    Raises:
        JsonFormError: Not UTF-8, not JSON, nested too deeply, a name twice in one object, a float, NaN, a huge integer,
            half a surrogate pair, text that is not NFC.
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_float=_refuse,
            parse_constant=_refuse,
            parse_int=_integer,
        )
        if not data.isascii() or b"\\u" in data:
            _check_texts(value)
        return value
    except RecursionError as exc:
        raise JsonFormError("nested too deeply") from exc
    except JsonFormError:
        raise
    except ValueError as exc:
        raise JsonFormError(f"not JSON in UTF-8 ({exc})") from exc


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise JsonFormError("a name stands twice in one object")
    return value


def _refuse(text: str) -> Any:
    raise JsonFormError(f"the number {text[:32]} is not an integer")


def _integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > INTEGER_MAX:
        raise JsonFormError(f"the integer {text[:32]} is beyond 2^53")
    return int(text)


def _check_texts(value: object) -> None:
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _check_texts(key)
            _check_texts(item)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item)


def _is_plain(value: object) -> bool:
    """Whether a value is made of the exact types that have a form, whatever its texts hold; False is no verdict."""
    kind = type(value)
    if kind is dict:
        for key, item in value.items():  # type: ignore[attr-defined]
            if type(key) is not str:
                return False
            if type(item) is not str and not _is_plain(item):
                return False
        return True
    if kind is list or kind is tuple:
        return all(map(_is_plain, value))  # type: ignore[call-overload]
    if kind is int:
        return -INTEGER_MAX <= value <= INTEGER_MAX  # type: ignore[operator]
    return kind is str or kind is bool or value is None


def _check_text(text: str) -> None:
    """UTF-8 carries no surrogate; an escaped pair has become one character by now, half a pair has not."""
    if _SURROGATE.search(text):
        raise JsonFormError(f"half a surrogate pair in {text[:64]!r}")
    if not unicodedata.is_normalized("NFC", text):
        raise JsonFormError(f"{text[:64]!r} is not in Unicode NFC")


def _check(value: object) -> None:
    if isinstance(value, str):
        if _CONTROL.search(value):
            raise JsonFormError(f"control character in {value[:64]!r}")
        if value.isascii():
            return
        _check_text(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise JsonFormError(f"the name {key!r} is not text")
            _check(key)
            _check(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check(item)
    elif isinstance(value, int):
        if abs(value) > INTEGER_MAX:
            raise JsonFormError(f"the integer {value} is beyond 2^53")
    elif value is not None:
        raise JsonFormError(f"{type(value).__name__} has no canonical form")
