"""The floor of a transfer's rate: below it for a whole window, and only then."""

from __future__ import annotations

import pytest

from signing.pace import RateFloor


@pytest.mark.uptane("A14", "V2")
def test_a_byte_before_each_time_out_is_too_slow():
    """One byte every 29 seconds keeps a connection alive for ever, and a vehicle on it."""
    floor = RateFloor()
    assert [floor.undercut(1, 29.0) for _ in range(2)] == [False, True]


def test_a_poor_link_is_no_attack():
    """At 2 kB/s an update takes hours, and arrives."""
    floor = RateFloor()
    assert not any(floor.undercut(2_000, 1.0) for _ in range(3600))


def test_a_tunnel_is_no_attack():
    """Most of a window without a byte, and then as before."""
    floor = RateFloor(bytes_per_s=512, window_s=30)
    for _ in range(10):
        assert not floor.undercut(0, 20.0)
        assert not floor.undercut(100_000, 10.0)


def test_a_fast_start_does_not_excuse_what_follows():
    """Each window is told for itself."""
    floor = RateFloor(bytes_per_s=512, window_s=30)
    assert not floor.undercut(10_000_000, 30.0)
    assert floor.undercut(100, 30.0)
