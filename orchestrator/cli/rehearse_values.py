"""What the options of `outrider rehearse` say: ratios, times, shares and outages, each fault with its remedy.

Owns their grammar, which is that of plan files where there is one. Knows nothing of what is rehearsed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from orchestrator.cli.errors import BadInputError
from orchestrator.engine.plan.values import read_duration, read_ratio

HOUR_MS = 3_600_000
START_HOUR = 9
"""Of the day, UTC, when only a date is given."""
SHARES_SUM_WITHIN = 0.001


def ratio(text: str, option: str) -> float:
    """A part of a whole, 0 to 1, as a plan file writes it: `2%` or `0.02`.

    Raises:
        BadInputError: it is none.
    """
    value = read_ratio(text.strip())
    if value is None or value > 1.0 or (value == 1.0 and "%" not in text and "." not in text):
        raise BadInputError(f"{option}: {text!r} is no ratio up to 100 %", remedy="write it as 2% or 0.02")
    return value


def hours(text: str, option: str) -> float:
    """A duration in hours, as a plan file writes it: `90s`, `12h`, `1d12h`.

    Raises:
        BadInputError: it is none.
    """
    value = read_duration(text.strip())
    if value is None:
        raise BadInputError(f"{option}: {text!r} is no duration", remedy="write it as 30m, 12h or 1d12h")
    return value / HOUR_MS


def shares(items: Sequence[str], option: str) -> dict[str, float]:
    """Shares by name, `eu=60%`, that add up to 100 %; empty when none is given.

    Raises:
        BadInputError: one of them is none, stands twice, or they do not add up.
    """
    found: dict[str, float] = {}
    for item in items:
        name, separator, text = item.partition("=")
        if not separator or not name.strip():
            raise BadInputError(f"{option}: {item!r} is no share", remedy="write it as eu=60%")
        if name.strip() in found:
            raise BadInputError(f"{option}: {name.strip()} stands twice", remedy="give each name once")
        found[name.strip()] = ratio(text, option)
    total = sum(found.values())
    if found and abs(total - 1.0) > SHARES_SUM_WITHIN:
        raise BadInputError(
            f"{option}: the shares add up to {total * 100:.4g} %",
            remedy="give every part of the fleet a share, 100 % in all",
        )
    return {name: value / total for name, value in found.items() if value > 0}


def rates(items: Sequence[str], option: str) -> list[tuple[str, str, float]]:
    """Failure rates of parts: region, hardware (either may be `*`) and rate, in the order in which they were given.

    Raises:
        BadInputError: one of them is none.
    """
    found = []
    for item in items:
        part, separator, text = item.partition("=")
        region, _, hardware = part.strip().partition("/")
        if not separator or not region:
            raise BadInputError(f"{option}: {item!r} names no part and rate", remedy="write it as eu/gen2=100%")
        found.append((region, hardware or "*", ratio(text, option)))
    return found


def outages(items: Sequence[str], option: str) -> list[tuple[str, float, float]]:
    """Outages as region, start and end in hours since the start: `eu:3d+12h`.

    Raises:
        BadInputError: one of them is none.
    """
    return [_outage(item, option) for item in items]


def moment(text: str, now_ms: Callable[[], int], option: str) -> int:
    """When a rehearsal starts, milliseconds since 1970: a date, a date with a time of day, or empty for today.

    Args:
        text: UTC.
        now_ms: Today, when nothing is given.
        option: For the message.

    Raises:
        BadInputError: it is none.
    """
    if not text:
        today = datetime.fromtimestamp(now_ms() / 1000, UTC)
        return _ms(today.replace(hour=START_HOUR, minute=0, second=0, microsecond=0))
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise BadInputError(
            f"{option}: {text!r} is no date", remedy="write it as 2027-03-01 or 2027-03-01T09:00"
        ) from error
    if "T" not in text and " " not in text.strip():
        at = at.replace(hour=START_HOUR)
    return _ms(at if at.tzinfo else at.replace(tzinfo=UTC))


def _outage(item: str, option: str) -> tuple[str, float, float]:
    region, separator, rest = item.partition(":")
    since, plus, lasts = rest.partition("+")
    if not (separator and plus and region.strip()):
        raise BadInputError(f"{option}: {item!r} is no outage", remedy="write it as eu:3d+12h: region, start, duration")
    from_h, long_h = hours(since, option), hours(lasts, option)
    if not long_h:
        raise BadInputError(f"{option}: {item!r} lasts no time", remedy="give it a duration, for example +12h")
    return region.strip(), from_h, from_h + long_h


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
