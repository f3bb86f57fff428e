"""Windows and freeze days in a plan file: read, and written back.

Owns their grammar and what contradicts itself in one of them. What they mean at a moment is the matter of `windows`.
"""

from __future__ import annotations

from datetime import date
from typing import Any

from orchestrator.engine.plan import readers as read
from orchestrator.engine.plan import words
from orchestrator.engine.plan.fields import Field, Group
from orchestrator.engine.plan.nodes import Place
from orchestrator.model.plan import Freeze, Window

ALWAYS = "always"
"""What `windows` says where installations may begin at any time."""
NONE = "none"
"""What `freeze` says where no day is frozen."""
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_MOST = 100
_WINDOW_WANTED = 'a window such as {days: [mon, tue], from: "22:00", to: "05:00"}'
_FREEZE_WANTED = "a day such as 2026-12-24, or {from: 2026-12-24, to: 2026-12-26}"

_day_names = read.different(
    read.several(read.one_of(DAYS), f"a list of days such as [{DAYS[0]}, {DAYS[1]}]", most=_MOST)
)
_DAYS = Field("days", _day_names, DAYS, "Days on which it begins.")
_FROM = Field("from", words.clock_time(0, 1439), 0, "When it begins, by the vehicle's clock.")
_TO = Field("to", words.clock_time(1, 1440), 1440, "When it ends; earlier than `from`: on the next day.")
_WINDOW = Group("windows", (_DAYS, _FROM, _TO), "When installations may begin.", ("from", "to"), _WINDOW_WANTED)

_a_day = words.day("a day such as 2026-12-24")
_FIRST = Field("from", _a_day, date.min, "The first frozen day.")
_LAST = Field("to", _a_day, date.min, "The last frozen day.")
_FREEZE = Group("freeze", (_FIRST, _LAST), "Days on which no installation begins.", ("from", "to"), _FREEZE_WANTED)
_one_day = words.day(_FREEZE_WANTED)


def _read_window(place: Place) -> Window | None:
    known = len(place.faults)
    section = _WINDOW.at(place)
    for field in _WINDOW.required:
        if place.mapping and field not in section:
            place.fault(f"the window has no `{field}`", f"write {_WINDOW_WANTED}")
    days, begin, end = _DAYS.of(section), _FROM.of(section), _TO.of(section)
    if len(place.faults) > known:
        return None
    if begin == end:
        place.fault(
            f"the window is empty: it ends at {clock_time(end)}, when it begins",
            'write from: "00:00" and to: "24:00" for the whole day',
        )
        return None
    weekdays = tuple(sorted(DAYS.index(day) for day in days))
    return Window(weekdays=weekdays, start_minute=begin, end_minute=end)


def _read_freeze(place: Place) -> Freeze | None:
    if not place.mapping:
        day = _one_day(place)
        return None if day is None else Freeze(first=day, last=day)
    known = len(place.faults)
    section = _FREEZE.at(place)
    for field in _FREEZE.required:
        if field not in section:
            place.fault(f"the freeze has no `{field}`", f"write {_FREEZE_WANTED}")
    first, last = _FIRST.of(section), _LAST.of(section)
    if len(place.faults) > known:
        return None
    if last < first:
        section["to"].fault(f"the freeze ends on {last} before it begins on {first}", "write the earlier day as `from`")
        return None
    return Freeze(first=first, last=last)


def _read_freezes(place: Place) -> tuple[Freeze, ...] | None:
    # One alone may stand without its list.
    if place.mapping or place.word:
        freeze = _read_freeze(place)
        return None if freeze is None else (freeze,)
    return _freeze_list(place)


_window = read.Reader(_read_window, _WINDOW.schema)
_freeze = read.Reader(_read_freeze, {"anyOf": [_one_day.schema, _FREEZE.schema]})
_freeze_list = read.several(_freeze, f"a list of days, or the word `{NONE}`", most=_MOST)

windows = read.or_word(
    read.different(
        read.several(_window, f"a list of windows, or the word `{ALWAYS}`", most=_MOST), lambda window: words_of(window)
    ),
    ALWAYS,
    (),
)
"""Reader of the windows of a region."""
freezes = read.or_word(
    read.Reader(_read_freezes, {"anyOf": [_freeze.schema, _freeze_list.schema]}),
    NONE,
    (),
)
"""Reader of the freeze days of a region."""


def days_of(weekdays: tuple[int, ...]) -> list[str]:
    """Weekdays (0 is Monday) as the file writes them."""
    return [DAYS[weekday] for weekday in weekdays]


def clock_time(minute: int) -> str:
    """A minute of the local day as the file writes it, for example `22:00`."""
    return f"{minute // 60:02}:{minute % 60:02}"


def words_of(window: Window) -> str:
    """A window, for people: `mon, tue 22:00 to 05:00`."""
    return f"{', '.join(days_of(window.weekdays))} {clock_time(window.start_minute)} to {clock_time(window.end_minute)}"


def windows_document(value: tuple[Window, ...]) -> list[dict[str, Any]] | str:
    """What stands in a file for windows."""
    return [
        {
            "days": days_of(window.weekdays),
            "from": clock_time(window.start_minute),
            "to": clock_time(window.end_minute),
        }
        for window in value
    ] or ALWAYS


def freezes_document(value: tuple[Freeze, ...]) -> list[dict[str, str]] | str:
    """What stands in a file for freeze days."""
    return [{"from": freeze.first.isoformat(), "to": freeze.last.isoformat()} for freeze in value] or NONE
