"""Targets: what a field match means, and that unknown never matches a range."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.targets import TargetError, compile_comparisons, compile_target, mismatch
from orchestrator.model.fleet import Profile
from orchestrator.model.plan import Target
from tests.builders import a_vehicle

numbers = st.integers(min_value=0, max_value=30)
versions = st.builds("{}.{}.{}".format, numbers, numbers, numbers)


def a_profile(*, installed: str = "1.0.0", **fields) -> Profile:
    """The profile of `a_vehicle()` with its tags and installed release."""
    return a_vehicle(**fields).profile(installed)


def missed(target: Target, profile: Profile) -> str | None:
    """The field that does not match, if any."""
    found = mismatch(compile_target(target), profile)
    return found.field if found else None


def test_empty_target_matches_everything():
    """A plan of release and waves only is for the whole fleet, also for vehicles that never attested."""
    assert missed(Target(), a_profile()) is None
    assert missed(Target(), a_profile(installed="")) is None


@pytest.mark.parametrize("field", ["model", "hardware", "region", "cohort"])
def test_field_matches_one_of_its_values(field):
    """Each field stands alone: one that does not match is enough to leave a vehicle out."""
    found = getattr(a_profile(), field)
    assert missed(Target(**{field: ("other", found)}), a_profile()) is None
    assert missed(Target(**{field: ("other",)}), a_profile()) == field


def test_tags_all_and_none():
    """A safeguard hold is a tag in `none`; it must win over everything else that matches."""
    profile = a_profile(tags=("beta", "hold"))
    assert missed(Target(tags_all=("beta",)), profile) is None
    assert missed(Target(tags_all=("beta", "fast")), profile) == "tags_all"
    assert missed(Target(tags_none=("hold", "x")), profile) == "tags_none"
    assert missed(Target(tags_none=("x",)), profile) is None


@pytest.mark.parametrize(
    ("clause", "installed", "matches"),
    [
        (">=1.0.0,<1.1.0", "1.0.0", True),
        (">=1.0.0,<1.1.0", "1.0.9", True),
        (">=1.0.0,<1.1.0", "1.1.0", False),
        (" >= 1.0.0 , < 1.1.0 ", "0.9.9", False),
        ("<1.10.0", "1.9.0", True),
        ("<1.1.0", "1.1.0-rc.1", True),
        ("==1.0.0", "1.0.0", True),
        ("=1.0.0", "1.0.1", False),
        ("1.0.0", "1.0.0", True),
        ("!=1.0.0", "1.0.0", False),
        (">1.0.0", "1.0.0", False),
        ("<=1.0.0", "1.0.0", True),
        ("<1.1", "1.0.5", True),
        ("<2", "1.9.9", True),
        ("<1.1.0", "", False),
        ("!=1.1.0", "", False),
        ("<1.1.0", "not-a-version", False),
        ("", "", True),
        ("  ", "", True),
    ],
)
def test_installed_clause(clause, installed, matches):
    """Versions compare as versions, not as text, and what is not known is in no range."""
    assert (missed(Target(installed=clause), a_profile(installed=installed)) is None) == matches


@pytest.mark.parametrize(
    "clause", ["<", "<<1.0.0", ">=1.x", "1.0.0 2.0.0", ",", "<1.0.0,", "~1.0.0", "<1.0.0.0", "<-1"]
)
def test_unreadable_clause_is_an_error(clause):
    """A clause that is read as something else would target the wrong vehicles."""
    with pytest.raises(TargetError):
        compile_comparisons(clause)


@given(low=versions, high=versions, installed=versions)
def test_range_is_the_same_as_its_parts(low, high, installed):
    """A comma means `and`."""
    both = missed(Target(installed=f">={low},<{high}"), a_profile(installed=installed)) is None
    each = [missed(Target(installed=part), a_profile(installed=installed)) is None for part in (f">={low}", f"<{high}")]
    assert both == all(each)


def test_mismatch_says_what_was_wanted_and_found():
    """`vehicle explain` prints it: both sides must be there."""
    found = mismatch(compile_target(Target(model=("S", "X"))), a_profile(model="Y"))
    assert found is not None
    assert (found.wanted, found.found) == ("S, X", "Y")
    unknown = mismatch(compile_target(Target(installed="<1.1.0")), a_profile(installed=""))
    assert unknown is not None
    assert (unknown.wanted, unknown.found) == ("<1.1.0", "unknown")
