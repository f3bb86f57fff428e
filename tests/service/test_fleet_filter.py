"""Filters over the inventory: every field, every comparison, and every fault with its column."""

from __future__ import annotations

import pytest

from orchestrator.model.ids import ReleaseVersion
from orchestrator.model.vehicle import EVERY_ROLLOUT, Exclusion, VehicleRecord
from orchestrator.service.errors import InvalidInputError
from orchestrator.service.fleet_filter import ALL_FIELDS, SHARED_FIELDS, parse_filter
from tests.builders import NOW, a_record, a_vehicle


def a_car(*scopes: str, installed: str = "1.0.0", enrolled: bool = True) -> VehicleRecord:
    """v-1: model S, gen2, eu, canary, Berlin, tags beta and night."""
    return a_record(
        a_vehicle(tags=("beta", "night"), zone="Europe/Berlin"),
        installed=ReleaseVersion(installed),
        enrolled=enrolled,
        exclusions=tuple(Exclusion(scope, "ann", "why", NOW) for scope in scopes),
    )


def faults(text: str, fields: tuple[str, ...] = ALL_FIELDS) -> list[tuple[str, str]]:
    """Places and words of what is wrong with a filter."""
    with pytest.raises(InvalidInputError) as error:
        parse_filter(text, fields=fields)
    assert error.value.reason == "FILTER_MALFORMED"
    assert f"fields: {', '.join(fields)}" in error.value.remedy
    return [(violation.field, violation.description) for violation in error.value.violations]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "vehicle_id=v-1",
        "vehicle_id=v-*",
        "vehicle_id=x|v-1|y",
        "model=S,hardware=gen2,region=eu|us,cohort=canary",
        " region = eu , cohort != early ",
        "zone=Europe/Berlin",
        "zone!=none",
        "tag=beta",
        "tag=hold|night",
        "tag=beta,tag=night",
        "tag!=hold",
        "installed=1.0.0",
        "installed<1.1.0",
        "installed>=1.0,installed<2",
        "installed!=none",
        "enrolled=true",
        "excluded=false",
    ],
)
def test_filter_lets_through_what_fits(text: str) -> None:
    """What an operator types is what is touched."""
    assert parse_filter(text).matches(a_car())


@pytest.mark.parametrize(
    "text",
    [
        "vehicle_id=v-2",
        "vehicle_id!=v-*",
        "model=X",
        "region=eu,cohort=early",
        "region!=eu|us",
        "zone=none",
        "tag=hold",
        "tag!=beta",
        "tag=beta,tag=hold",
        "installed<1.0.0",
        "installed=none",
        "installed=1.0.1|1.1.0",
        "enrolled=false",
        "excluded=true",
        "excluded=quarantine",
        "excluded=spring",
    ],
)
def test_filter_keeps_out_what_does_not_fit(text: str) -> None:
    """A command on a filter must not touch one vehicle more."""
    assert not parse_filter(text).matches(a_car())


def test_filter_knows_what_a_vehicle_is_kept_out_of() -> None:
    """Quarantined and denied are told apart."""
    quarantined, denied = a_car(EVERY_ROLLOUT), a_car("spring")
    assert parse_filter("excluded=true").matches(quarantined)
    assert parse_filter("excluded=quarantine").matches(quarantined)
    assert not parse_filter("excluded=quarantine").matches(denied)
    assert parse_filter("excluded=spring").matches(denied)
    assert parse_filter("excluded!=autumn").matches(denied)


@pytest.mark.parametrize("installed", ["", "not-a-version"])
@pytest.mark.parametrize("text", ["installed<9.0.0", "installed>=0.0.1"])
def test_unproven_software_fits_no_comparison(installed: str, text: str) -> None:
    """Nothing is known to be older than something."""
    assert not parse_filter(text).matches(a_car(installed=installed))


def test_profiles_are_matched_as_their_vehicles_are() -> None:
    """A count without a look at vehicles must be the count of vehicles."""
    record = a_car()
    profile = record.vehicle.profile(record.installed)
    for text in ("region=eu,tag=beta", "region=us", "installed<1.1.0", "zone=none", "tag!=night", "model=S|X"):
        wanted = parse_filter(text, fields=SHARED_FIELDS)
        assert wanted.matches_profile(profile) is wanted.matches(record), text


def test_named_vehicles_are_known_without_a_search() -> None:
    """`vehicle_id=v-1|v-2` needs two reads, not ten million."""
    assert parse_filter("vehicle_id=v-2|v-1|v-2,region=eu").named == ("v-1", "v-2")
    assert parse_filter("vehicle_id=v-*").named is None
    assert parse_filter("vehicle_id!=v-1").named is None
    assert parse_filter("").named is None


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("region", "filter:1", "no term"),
        ("region=eu,,tag=a", "filter:11", "nothing stands between two commas"),
        ("region=eu, colour=red", "filter:12", "`colour` is not a field"),
        ("=eu", "filter:1", "`` is not a field"),
        ("region<eu", "filter:1", "only `installed`"),
        ("region=", "filter:1", "no value stands after `region`"),
        ("zone=", "filter:1", "write `none`"),
        ("region=eu|", "filter:1", "no value stands"),
        ("region=e u", "filter:1", "no value of region"),
        ("installed<x", "filter:1", "`x` is not a semantic version"),
        ("installed=x", "filter:1", "nor `none`"),
        ("enrolled=yes", "filter:1", "`true` or `false`"),
        ("excluded=NO", "filter:1", "a rollout's id"),
        ("vehicle_id=*x", "filter:1", "no vehicle id"),
        ("a" * 5000, "filter", "at most 4096"),
    ],
)
def test_fault_is_told_with_its_place(text: str, place: str, words: str) -> None:
    """Whoever typed it mends it from the answer alone."""
    ((found, description),) = faults(text)
    assert found == place
    assert words in description


def test_all_faults_are_told_at_once() -> None:
    """One answer, not one a fault."""
    assert [place for place, _ in faults("region<eu,colour=red,tag=a")] == ["filter:1", "filter:11"]


def test_count_refuses_fields_that_only_single_vehicles_have() -> None:
    """It would have to read every vehicle."""
    ((place, description),) = faults("vehicle_id=v-1", SHARED_FIELDS)
    assert (place, "is not counted by" in description) == ("filter:1", True)
