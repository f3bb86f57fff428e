"""Windows and freeze days: the clock on the dashboard decides, also in the nights in which it is set."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine import zones
from orchestrator.engine.windows import Closed, Open, Span, at, local_time, openings, zone_of
from orchestrator.model.decision import RefusalReason
from orchestrator.model.ids import FleetTime
from orchestrator.model.plan import Freeze, RegionRules, Window
from tests.builders import DAY_MS, HOUR_MS, MINUTE_MS, NOW, a_vehicle, after

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC")
EVERY_DAY = tuple(range(7))
NIGHT = Window(weekdays=EVERY_DAY, start_minute=22 * 60, end_minute=5 * 60)
"""22:00 to 05:00."""
CLOSED, FREEZE = RefusalReason.WINDOW_CLOSED, RefusalReason.FREEZE_DAY


def rules(*windows: Window, freezes=(), zone="UTC") -> RegionRules:
    """Rules of a region."""
    return RegionRules(in_flight_max=10, zone=zone, windows=tuple(windows), freezes=tuple(freezes))


def utc(text: str) -> FleetTime:
    """The instant of `2026-03-29 01:00`, UTC."""
    return FleetTime(round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000))


def day_window(start: str, end: str, weekdays=EVERY_DAY) -> Window:
    """A window from `02:15` to `02:45`."""
    minutes = [int(text[:2]) * 60 + int(text[3:]) for text in (start, end)]
    return Window(weekdays=weekdays, start_minute=minutes[0], end_minute=minutes[1])


def test_without_rules_it_is_always_open():
    """A plan of six lines installs at any time."""
    assert at(rules(), "UTC", NOW) == Open(until=None)
    assert openings(rules(), "UTC", NOW, 5) == (Span(NOW, None),)


def test_window_across_midnight_belongs_to_the_day_on_which_it_began():
    """Friday's night window is open on Saturday at 04:59, and Saturday's own never opens."""
    friday = Window(weekdays=(4,), start_minute=22 * 60, end_minute=5 * 60)
    assert at(rules(friday), "UTC", utc("2026-01-02 21:59")) == Closed(utc("2026-01-02 22:00"), CLOSED)
    assert at(rules(friday), "UTC", utc("2026-01-02 22:00")) == Open(utc("2026-01-03 05:00"))
    assert at(rules(friday), "UTC", utc("2026-01-03 04:59")) == Open(utc("2026-01-03 05:00"))
    assert at(rules(friday), "UTC", utc("2026-01-03 05:00")) == Closed(utc("2026-01-09 22:00"), CLOSED)


def test_freeze_takes_the_night_before_at_midnight_and_the_night_that_begins_on_it():
    """Neither the day of now nor the day on which the window began may be frozen."""
    frozen = rules(NIGHT, freezes=[Freeze(date(2026, 12, 24), date(2026, 12, 26))])
    assert at(frozen, "UTC", utc("2026-12-23 23:59")) == Open(utc("2026-12-24 00:00"))
    assert at(frozen, "UTC", utc("2026-12-24 00:00")) == Closed(utc("2026-12-27 22:00"), FREEZE)
    assert at(frozen, "UTC", utc("2026-12-24 12:00")) == Closed(utc("2026-12-27 22:00"), FREEZE)
    assert at(frozen, "UTC", utc("2026-12-27 04:00")) == Closed(utc("2026-12-27 22:00"), FREEZE)
    assert at(frozen, "UTC", utc("2026-12-27 12:00")) == Closed(utc("2026-12-27 22:00"), CLOSED)


def test_freeze_without_windows_closes_whole_local_days():
    """Christmas begins when it begins at the vehicle, not in Greenwich."""
    frozen = rules(freezes=[Freeze(date(2026, 12, 24), date(2026, 12, 24))])
    begins = utc("2026-12-24 00:00") - 5 * HOUR_MS - 45 * MINUTE_MS
    assert at(frozen, "Asia/Kathmandu", begins - 1) == Open(begins)
    assert at(frozen, "Asia/Kathmandu", begins) == Closed(begins + DAY_MS, FREEZE)
    assert at(frozen, "Asia/Kathmandu", begins + DAY_MS) == Open(None)


def test_freeze_over_everything_never_opens():
    """It is said as never, not searched for ever."""
    frozen = rules(NIGHT, freezes=[Freeze(date(2025, 1, 1), date(2099, 1, 1))])
    assert at(frozen, "Europe/Berlin", NOW) == Closed(None, FREEZE)
    assert openings(frozen, "Europe/Berlin", NOW, 3) == ()


def test_window_inside_the_skipped_hour_does_not_open_that_day():
    """Berlin, 29 March 2026: no dashboard ever shows 02:15 that night."""
    window = rules(day_window("02:15", "02:45"))
    assert at(window, "Europe/Berlin", utc("2026-03-28 01:15")) == Open(utc("2026-03-28 01:45"))
    assert at(window, "Europe/Berlin", utc("2026-03-28 02:00")) == Closed(utc("2026-03-30 00:15"), CLOSED)


def test_window_over_the_skipped_hour_is_an_hour_shorter():
    """Berlin, 29 March 2026: 01:30 to 03:30 is one hour; it closes when the dashboard says 03:30."""
    window = rules(day_window("01:30", "03:30"))
    assert at(window, "Europe/Berlin", utc("2026-03-29 00:30")) == Open(utc("2026-03-29 01:30"))


def test_window_inside_the_repeated_hour_opens_twice():
    """Berlin, 25 October 2026: 02:15 comes at 00:15 UTC and again at 01:15 UTC."""
    window = rules(day_window("02:15", "02:45"))
    assert openings(window, "Europe/Berlin", utc("2026-10-25 00:00"), 3) == (
        Span(utc("2026-10-25 00:15"), utc("2026-10-25 00:45")),
        Span(utc("2026-10-25 01:15"), utc("2026-10-25 01:45")),
        Span(utc("2026-10-26 01:15"), utc("2026-10-26 01:45")),
    )


def test_window_that_ends_in_the_repeated_hour_opens_again():
    """01:30 to 02:30: closed from the first 02:30 on, open again from the second 02:00."""
    window = rules(day_window("01:30", "02:30"))
    assert openings(window, "Europe/Berlin", utc("2026-10-24 22:00"), 2) == (
        Span(utc("2026-10-24 23:30"), utc("2026-10-25 00:30")),
        Span(utc("2026-10-25 01:00"), utc("2026-10-25 01:30")),
    )


def test_half_hour_change_of_lord_howe():
    """The island sets its clocks by thirty minutes: 02:00 becomes 02:30 on 4 October 2026."""
    window = rules(day_window("01:45", "02:45"))
    opened = utc("2026-10-03 15:15")  # 01:45 at +10:30
    assert at(window, "Australia/Lord_Howe", opened) == Open(opened + 30 * MINUTE_MS)


def test_present_opening_counts_from_now():
    """What is open is the first of the next openings."""
    assert openings(rules(NIGHT), "UTC", utc("2026-01-01 23:00"), 2) == (
        Span(utc("2026-01-01 23:00"), utc("2026-01-02 05:00")),
        Span(utc("2026-01-02 22:00"), utc("2026-01-03 05:00")),
    )


def test_touching_windows_are_one_opening():
    """A permit must not end at a seam that nobody sees."""
    both = rules(day_window("20:00", "22:00"), NIGHT, day_window("04:00", "06:00"))
    assert at(both, "UTC", utc("2026-01-01 20:30")) == Open(utc("2026-01-02 06:00"))


def test_vehicle_zone_comes_before_its_regions():
    """A car in Lisbon lives by Lisbon's clock, whatever its region's zone; an unknown name falls back."""
    region = rules(zone="Europe/Berlin")
    assert zone_of(a_vehicle(), region) == "Europe/Berlin"
    assert zone_of(a_vehicle(zone="Europe/Lisbon"), region) == "Europe/Lisbon"
    assert zone_of(a_vehicle(zone="Europe/Atlantis"), region) == "Europe/Berlin"
    assert zone_of(a_vehicle(), rules(zone="Europe/Atlantis")) == "UTC"


def test_local_time_is_what_the_dashboard_shows():
    """People compare it with the car."""
    assert local_time("Europe/Berlin", utc("2026-03-29 01:15")) == "2026-03-29 03:15 Europe/Berlin"
    assert local_time("Asia/Kathmandu", utc("2026-01-01 00:00")) == "2026-01-01 05:45 Asia/Kathmandu"


@pytest.mark.parametrize(
    ("written", "close"), [("Europe/Berln", "Europe/Berlin"), ("berlin", "Europe/Berlin"), ("New York", "New_York")]
)
def test_misspelt_zone_finds_the_close_one(written, close):
    """Nobody knows all of their names by heart."""
    assert not zones.known(written)
    assert any(close in name for name in zones.close_to(written))


@pytest.mark.parametrize("name", ["", "localtime", "../passwd", "Europe", "europe/berlin", "x" * 100])
def test_what_is_no_zone_is_not_known(name):
    """Directories, paths and the machine's own setting are not places."""
    assert not zones.known(name)


# The oracle asks the question itself, minute by minute, of the standard library's clock.


def oracle(region: RegionRules, zone: str, at_ms: int) -> bool:
    """Whether the dashboard's local time lies in a window, no day of it frozen."""
    local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)).astimezone(ZoneInfo(zone))
    today, minute = local.date(), local.hour * 60 + local.minute

    def is_frozen(day: date) -> bool:
        return any(freeze.first <= day <= freeze.last for freeze in region.freezes)

    if is_frozen(today):
        return False
    yesterday = today - timedelta(days=1)
    opened = not region.windows
    for window in region.windows:
        overnight = window.end_minute <= window.start_minute
        if today.weekday() in window.weekdays and minute >= window.start_minute:
            opened |= overnight or minute < window.end_minute
        if overnight and yesterday.weekday() in window.weekdays and not is_frozen(yesterday):
            opened |= minute < window.end_minute
    return opened


window_sets = st.lists(
    st.builds(
        Window,
        weekdays=st.sets(st.integers(0, 6), min_size=1).map(lambda days: tuple(sorted(days))),
        start_minute=st.integers(0, 95).map(lambda quarter: quarter * 15),
        end_minute=st.integers(1, 96).map(lambda quarter: quarter * 15),
    ),
    max_size=3,
).map(tuple)
# Around the changes of the clock of each zone, and one that has none.
days = st.sampled_from([utc(f"{day} 00:00") for day in ("2026-03-07", "2026-03-28", "2026-04-04", "2026-10-03")]) | (
    st.sampled_from([utc(f"{day} 00:00") for day in ("2026-10-24", "2026-10-31", "2026-07-14")])
)


@given(data=st.data(), windows=window_sets, zone=st.sampled_from(ZONES), begin=days)
def test_agrees_with_the_question_asked_every_minute(data, windows, zone, begin):
    """Whatever windows, freeze days and changes of the clock: state, end and next opening are exact to the minute."""
    first = date(1970, 1, 1) + timedelta(days=begin // DAY_MS + data.draw(st.integers(-1, 2)))
    freezes = (Freeze(first, first + timedelta(days=data.draw(st.integers(0, 1)))),) if data.draw(st.booleans()) else ()
    region = rules(*windows, freezes=freezes, zone=zone)
    now = FleetTime(begin + data.draw(st.integers(0, 24 * 60)) * MINUTE_MS)
    minutes = [now + minute * MINUTE_MS for minute in range(3 * 24 * 60)]
    opened = [oracle(region, zone, minute) for minute in minutes]
    changes = [index for index in range(1, len(opened)) if opened[index] != opened[index - 1]]
    spans = openings(region, zone, now, 50)
    assert isinstance(at(region, zone, now), Open) == opened[0]
    inside = [span.start for span in spans if now < span.start <= minutes[-1]]
    inside += [span.end for span in spans if span.end is not None and span.end <= minutes[-1]]
    assert sorted(inside) == [minutes[index] for index in changes]


@given(zone=st.sampled_from(sorted(ZONES)), hour=st.integers(0, 24 * 366))
def test_offsets_are_the_standard_librarys(zone, hour):
    """The cached segments say what the database says, before, at and after each change."""
    instant = utc("2026-01-01 00:00") + hour * HOUR_MS
    local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=instant)).astimezone(ZoneInfo(zone))
    offset = local.utcoffset()
    assert offset is not None
    assert zones.offset_at(zone, instant) == round(offset.total_seconds() * 1000)


def test_an_instant_within_a_second_is_no_other_minute():
    """Fleet time is in milliseconds: the last one before the end is open."""
    end = utc("2026-01-02 05:00")
    assert at(rules(NIGHT), "UTC", FleetTime(end - 1)) == Open(end)
    assert isinstance(at(rules(NIGHT), "UTC", end), Closed)
    assert isinstance(at(rules(NIGHT), "UTC", after(12 * HOUR_MS)), Closed)
