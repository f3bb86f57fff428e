"""When a region is dark: by the same half hour of the day before, and never by a handful of calls."""

from __future__ import annotations

import pytest

from orchestrator.engine.outage import is_dark


@pytest.mark.parametrize(
    ("recent", "day_before", "dark_before", "dark"),
    [
        (29, 100, False, True),
        (30, 100, False, False),
        (0, 29, False, False),
        (0, 30, False, True),
        (0, 0, False, False),
        (49, 100, True, True),
        (50, 100, True, False),
        (0, 0, True, True),
        (14, 0, True, True),
        (15, 0, True, False),
    ],
)
def test_region_goes_dark_and_gets_light_with_hysteresis(recent, day_before, dark_before, dark):
    """A region that was dark a day before as well is light again when calls come, not because that day had none."""
    assert is_dark(recent, day_before, dark_ms=3_600_000 if dark_before else None) == dark


@pytest.mark.parametrize(("recent", "day_before", "dark"), [(8, 8, False), (3, 8, True), (0, 0, True), (1, 0, False)])
def test_region_that_stays_quiet_is_light_after_a_day(recent, day_before, dark):
    """Sixty calls came once, and eight ever since: that is what the region has become, and its checkpoints must age."""
    assert is_dark(recent, day_before, dark_ms=25 * 3_600_000) == dark
    assert is_dark(recent, day_before, dark_ms=3_600_000)
