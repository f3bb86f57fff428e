"""Words for spans of time, as people say them: `3 d 4 h`."""

from __future__ import annotations

UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
"""Name and length in seconds, longest first."""


def in_words(seconds: float) -> str:
    """A span by its two largest units, rounded down; `0 s` for nothing and for what is negative.

    Args:
        seconds: the span.
    """
    rest = max(0, int(seconds))
    for index, (name, length_s) in enumerate(UNITS):
        if rest < length_s:
            continue
        words = f"{rest // length_s} {name}"
        if index + 1 < len(UNITS):
            next_name, next_length_s = UNITS[index + 1]
            smaller = rest % length_s // next_length_s
            words += f" {smaller} {next_name}" if smaller else ""
        return words
    return "0 s"
