"""The plot of a rehearsal: a file that any reader can open, in light and dark, with nothing outside its frame."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from orchestrator.rehearsal.plot import LANES_MAX, WIDTH, plot
from orchestrator.rehearsal.run import Ending
from orchestrator.rehearsal.story import Story, Turn
from orchestrator.rehearsal.svg import Scale, ticks
from tests.rehearsal.stories import a_story, a_turn

SVG = "{http://www.w3.org/2000/svg}"


def drawn(story: Story, others: tuple[Story, ...] = ()) -> ElementTree.Element:
    return ElementTree.fromstring(plot(story, title="A & B <plan>", subtitle="assumed: 2 % fail", others=others))


def words(root: ElementTree.Element) -> list[str]:
    return ["".join(one.itertext()) for one in root.iter(f"{SVG}text")]


def test_it_names_waves_regions_and_the_end() -> None:
    """Whoever looks at it asks three things: where was it, how far, and how did it end."""
    found = words(drawn(a_story(ending=Ending.HALTED, rule="silence_evalue_0", ended_days=6.25)))
    assert {"eu", "us", "first", "A & B <plan>", "assumed: 2 % fail"} <= set(found)
    assert "halted by silence_evalue_0, day 6.2" in found
    assert "harmed: 12" in found


def test_it_says_in_words_what_it_shows() -> None:
    """Some readers hear it."""
    root = drawn(a_story())
    assert root.get("role") == "img"
    assert "1,000 vehicles exposed" in "".join(root.find(f"{SVG}desc").itertext()).replace("of 1,000 ", "1,000 ")  # type: ignore[union-attr]


def test_every_colour_has_a_dark_twin() -> None:
    """A class without one is invisible at night."""
    style = "".join(drawn(a_story()).find(f"{SVG}style").itertext())  # type: ignore[union-attr]
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    named = re.compile(r"\.([a-z-]+-(?:fill|stroke)) \{ (?:fill|stroke): (#\w+)")
    assert dict(named.findall(light)).keys() == dict(named.findall(dark)).keys()
    assert dict(named.findall(light))["paper-fill"] != dict(named.findall(dark))["paper-fill"]


def test_every_class_that_is_used_has_a_rule() -> None:
    """A renamed class draws in black on black."""
    root = drawn(a_story(), (a_story(seed=2), a_story(seed=3)))
    style = "".join(root.find(f"{SVG}style").itertext())  # type: ignore[union-attr]
    used = {name for one in root.iter() for name in (one.get("class") or "").split()}
    assert used
    assert used <= set(re.findall(r"\.([a-z-]+)(?= |,)", style))


@pytest.mark.parametrize("regions", [0, 1, LANES_MAX, LANES_MAX + 3])
def test_many_regions_are_counted_instead_of_drawn(regions: int) -> None:
    """Eighty lanes would push the numbers off the page."""
    turns = [a_turn(region=f"region-{number}") for number in range(regions)]
    found = words(drawn(a_story(turns=turns)))
    assert sum(word.startswith("region") for word in found) == min(regions, LANES_MAX)
    assert ("and 3 more regions" in found) == (regions > LANES_MAX)


@example(days=2.2e-311, exposed=0, harmed=0, ending=Ending.COMPLETED)
@given(
    days=some.floats(0.0, 1000.0),
    exposed=some.integers(0, 10**7),
    harmed=some.integers(0, 10**7),
    ending=some.sampled_from(Ending),
)
def test_nothing_lies_outside_the_frame(days: float, exposed: int, harmed: int, ending: Ending) -> None:
    """From a rollout that ended at once to one of years, of one vehicle or ten million."""
    story = a_story(ending=ending, ended_days=days, exposed=exposed, harmed=harmed, targeted=max(1, exposed))
    root = drawn(story)
    width, height = (float(size) for size in (root.get("viewBox") or "").split()[2:])
    assert width == WIDTH
    for one in root.iter(f"{SVG}path"):
        for x, y in re.findall(r"[ML](-?[\d.e+]+) (-?[\d.e+]+)", one.get("d") or ""):
            assert 0 <= float(x) <= width + 1e-3
            assert 0 <= float(y) <= height + 1e-3


def test_a_wave_that_is_named_like_markup_stays_text() -> None:
    """Names come from files."""
    turn = Turn(0.0, "rollout_started", "eu", "<script>&", "")
    assert "<script>&" in words(drawn(a_story(turns=[turn], ended_days=100.0)))


@given(high=some.floats(1e-3, 1e9), most=some.integers(2, 20))
def test_ticks_reach_the_highest_value_in_few_even_steps(high: float, most: int) -> None:
    """An axis that ends below a line cuts it off."""
    found = ticks(high, most)
    assert found[0] == 0.0
    assert found[-1] >= high * (1 - 1e-9)
    assert 2 <= len(found) <= most + 2
    steps = [after - before for before, after in pairwise(found)]
    assert max(steps) == pytest.approx(min(steps))


def test_a_scale_without_a_span_stays_at_its_start() -> None:
    """A rollout that ended in its first moment has a plot as well."""
    assert Scale(1.0, 1.0, 10.0, 90.0).at(1.0) == 10.0
