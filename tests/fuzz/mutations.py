"""Mutations: what a number makes of bytes, and of values that JSON can hold. Nothing here knows what they mean."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from random import Random
from typing import Any

ODD_BYTES = (
    *(b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b"\\ud800", b"e\xcc\x81", b"\xe2\x80\xa8", b"\n", b"\t", b'"', b"\\"),
    *(b"NaN", b"1e999", b"-0", b"1.5", b"99999999999999999999", b"true", b"null", b"{}", b"[]", b'{"a":1,"a":2}'),
    *(b"[" * 2000, b"{" * 500, b"- " * 500, b"&a [*a]", b"!!python/object:os", b"<<: *x", b"0x1F", b"2026-02-30"),
    *(b"../../etc/passwd", b"%s%n", b"9" * 400),
)
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31 - 1, 2**31, 2**53 - 1, 2**53, 10**18, 1.5),
    *("", "a" * 3000, "\u0000", "e\u0301", "\u202e", "../x", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "ed25519"),
    *([], {}, [[]], {"": ""}, ["x"] * 300),
)
STEPS_MAX = 4


def bytes_of(random: Random, seeds: tuple[bytes, ...]) -> bytes:
    """A seed with a few changes: bits, slices that go, come twice or change places, and odd tokens."""
    data = bytearray(random.choice(seeds))
    for _ in range(random.randint(1, STEPS_MAX)):
        start = random.randrange(len(data) + 1)
        end = min(len(data), start + random.choice((1, 2, 8, 64)))
        match random.randrange(5):
            case 0 if data:
                data[min(start, len(data) - 1)] ^= 1 << random.randrange(8)
            case 1:
                del data[start:end]
            case 2:
                data[start:start] = data[start:end] * random.choice((1, 2, 40))
            case 3:
                data[start:end] = random.choice(ODD_BYTES)
            case _:
                other = random.choice(seeds)
                at = random.randrange(len(other) + 1)
                data[start:end] = other[at : at + random.choice((4, 32, 256))]
    return bytes(data)


def value_of(random: Random, seed: Any) -> Any:
    """A value with a few changes: entries that go, come twice, change names or become odd."""
    value = copy.deepcopy(seed)
    for _ in range(random.randint(1, STEPS_MAX)):
        places = list(_places(value))
        if not places:
            return random.choice(ODD_VALUES)
        held, key = random.choice(places)
        match random.randrange(4):
            case 0:
                del held[key]
            case 1 if isinstance(held, dict):
                held[random.choice(("", "x", "_type", "version", key.upper(), "e\u0301"))] = held[key]
            case 1:
                held.append(copy.deepcopy(held[key]))
            case 2:
                other_held, other = random.choice(places)
                held[key] = copy.deepcopy(other_held[other])
            case _:
                held[key] = copy.deepcopy(random.choice(ODD_VALUES))
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place within a value, as what holds it and its key there."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(entries):
        yield value, key
        yield from _places(item)
