"""Selection by hash: the same everywhere, uniform, and monotone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.selection import DRAW_RANGE, draw, in_holdout, threshold
from orchestrator.model.ids import VehicleId

SALT = bytes(range(16))
shares = st.floats(min_value=0, max_value=1)
draws = st.integers(min_value=0, max_value=DRAW_RANGE - 1)

VECTORS = [
    (SALT, "v-1", 13316540386269322277),
    (SALT, "v-2", 4389964899811981310),
    (bytes(16), "v-1", 12506637838841103754),
    (b"", "", 10734006239897485896),
    (SALT, "A" * 64, 9188603142405720162),
]


@pytest.mark.fault("F19")
@pytest.mark.parametrize(("salt", "vehicle_id", "expected"), VECTORS)
def test_draw_has_the_published_vectors(salt, vehicle_id, expected):
    """Agents and tools in other languages compute the same draw from these; a change would re-draw every fleet."""
    assert draw(salt, VehicleId(vehicle_id)) == expected


def test_draw_is_another_for_another_salt():
    """Otherwise the same vehicles would be first in every rollout."""
    salts = [bytes([number]) * 16 for number in range(100)]
    assert len({draw(salt, VehicleId("v-1")) for salt in salts}) == 100


def test_draw_separates_salt_from_id():
    """Without the separator the end of the salt and the start of the id could trade places."""
    assert draw(b"ab", VehicleId("c")) != draw(b"a", VehicleId("bc"))


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5])
def test_share_of_a_large_fleet_is_drawn(share):
    """A wave of 10 % must open to 10 % of the fleet."""
    limit = threshold(share)
    drawn = sum(draw(SALT, VehicleId(f"v-{number}")) < limit for number in range(40_000))
    # Five standard deviations of the binomial: a uniform hash passes, a biased one does not.
    assert abs(drawn - 40_000 * share) < 5 * (40_000 * share * (1 - share)) ** 0.5


@given(u=draws)
def test_everybody_belongs_to_the_whole(u):
    """Rounding must not leave the last vehicle out of 100 %."""
    assert u < threshold(1.0)


@given(u=draws)
def test_nobody_belongs_to_nothing(u):
    """A share of 0 and a holdout of 0 are empty."""
    assert not u < threshold(0.0)
    assert not in_holdout(u, 0.0)


@pytest.mark.fault("F19")
@given(u=draws, lower=shares, higher=shares)
def test_who_was_in_stays_in_when_the_share_rises(u, lower, higher):
    """A ramp never takes a vehicle back."""
    lower, higher = sorted((lower, higher))
    assert not (u < threshold(lower)) or u < threshold(higher)


@given(u=draws, share=st.floats(min_value=0, max_value=0.5))
def test_holdout_is_out_of_reach_of_the_first_waves(u, share):
    """Holdout and early waves take from opposite ends, so that the holdout stays a fair control."""
    assert not (u < threshold(share) and in_holdout(u, share))


@pytest.mark.parametrize("share", [-0.01, 1.01, float("nan"), float("inf")])
def test_impossible_share_is_an_error(share):
    """A threshold beyond the range would admit everybody or nobody in silence."""
    with pytest.raises(ValueError, match="not within 0 and 1"):
        threshold(share)
