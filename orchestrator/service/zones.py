"""Time zones that operators give to vehicles: known ones only, and which name was probably meant."""

from __future__ import annotations

import difflib
import functools
import zoneinfo


@functools.cache
def _known() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def zone_fault(name: str) -> str:
    """Why `name` is no IANA time zone, with what comes close; empty when it is one, or nothing."""
    if not name or name in _known():
        return ""
    by_lower = {each.lower(): each for each in _known()}
    close = [by_lower[each] for each in difflib.get_close_matches(name.lower(), by_lower, n=3)]
    meant = f"; meant is perhaps {' or '.join(f'`{each}`' for each in close)}" if close else ""
    return f"`{name}` is no IANA time zone such as `Europe/Berlin`{meant}"
