"""Canonical JSON: the fast writer equals the reference, and what two parties could read differently is refused."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.formats import encode_canonical

from signing.canonical import INTEGER_MAX, JsonFormError, decode, encode

TEXT = st.text(st.characters(min_codepoint=0x20, exclude_categories=("Cs",)), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-INTEGER_MAX, INTEGER_MAX) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_the_bytes_are_those_of_the_reference_encoder(value: object):
    """Vehicles canonicalise with securesystemslib: one differing byte and every signature fails."""
    try:
        encoded = encode(value)
    except JsonFormError:
        return  # text that is not NFC; checked below
    assert encoded == encode_canonical(value).encode()
    assert decode(encoded) == value


@pytest.mark.uptane("A30", "M3")
@pytest.mark.parametrize(
    "value",
    ["a\nb", "\x00", "e\u0301", 1.5, math.nan, {1: "x"}, {"a": b"x"}, 2**53, -(2**53), {"e\u0301": 1}, {"x": {1}}],
)
def test_what_has_no_agreed_form_is_not_written(value: object):
    """A30, M3: control characters, text outside NFC, floats and huge integers read differently elsewhere."""
    with pytest.raises(JsonFormError):
        encode(value)


@pytest.mark.uptane("A30")
@pytest.mark.parametrize("value", ["\ud800", "a\udfff", {"\udc00": 1}, [{"a": "\ud83d"}]])
def test_half_a_surrogate_pair_is_not_written(value: object):
    """A30: it has no bytes in UTF-8; a sender must get a refusal for it, not break the reader."""
    with pytest.raises(JsonFormError, match="half a surrogate pair"):
        encode(value)


@pytest.mark.uptane("A30", "M3")
@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}',
        "1.0",
        "1e3",
        "NaN",
        "-Infinity",
        "9007199254740992",
        "1" * 5000,
        "[" * 100000,
        '{"a":' * 50000,
        "",
        "{",
        "[1] 2",
        '"\ud800"',
        r'"\ud800"',
        r'{"a":[{"b":"x\uDFFFy"}]}',
        r'{"\udc00":1}',
        r'"\ude00\ud83d"',
        '{"e\u0301":1}',
        r'["caf\u0065\u0301"]',
    ],
    ids=lambda text: text[:10],
)
def test_what_could_be_read_differently_is_not_read(text: str):
    """A30: one reading or none."""
    with pytest.raises(JsonFormError):
        decode(text.encode("utf-8", "surrogatepass"))


def test_escaped_pair_of_surrogates_is_the_character_it_stands_for():
    """It has one reading, and survives being written again."""
    assert decode(rb'{"a":"\ud83d\ude00"}') == {"a": "\U0001f600"}
    assert decode(encode("\U0001f600")) == "\U0001f600"


def test_plain_json_is_read_as_json_is():
    """Strictness must not change the meaning of what is accepted."""
    text = '{"b": [1, -2, true, null, "\\u00e9\\n"], "a": {}}'
    assert decode(text.encode()) == json.loads(text)
