"""Scenario files: what is read, and that every mistake is named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_sim.connectivity import LinkModel
from agent_sim.errors import ScenarioError
from agent_sim.faults import FaultKind
from agent_sim.scenario import load_scenario, parse_duration, parse_scenario

EXAMPLES = Path(__file__).parents[2] / "examples" / "scenarios"
GOOD = """
name = "good"
fleet = {size = 10}
regions = {eu = 1.0}
cohorts = {canary = 0.5, general = 0.5}

[[hardware]]
name = "gen1"
share = 1.0
ecus = ["acme-gw-1"]
"""


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_examples_are_read(path: Path) -> None:
    """What we hand to users works."""
    assert load_scenario(path).fleet.size >= 1


def test_parts_become_what_the_pure_core_takes() -> None:
    """Durations are fleet time in milliseconds; models bring their own period."""
    scenario = parse_scenario(
        GOOD
        + """
[[connectivity]]
model = "garage"
share = 1.0

[[faults]]
kind = "offline"
duration = "6h"

[agent]
poll_min = "90s"
"""
    )
    (link,) = scenario.connectivity
    assert (link.model, link.period_ms, link.online_ms) == (LinkModel.GARAGE, 86_400_000, 50_400_000)
    assert (scenario.faults[0].fault.kind, scenario.faults[0].fault.duration_ms) == (FaultKind.OFFLINE, 21_600_000)
    assert scenario.agent.agent.pace.poll_min_ms == 90_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "[[", "not TOML"),
        (GOOD.replace("size = 10", "size = 0"), "fleet.size: Input should be greater than or equal to 1"),
        (GOOD.replace("size = 10", "sise = 10"), "fleet.sise: unknown field"),
        (GOOD.replace('name = "good"', 'name = "not good"'), "name: String should match"),
        (GOOD.replace("general = 0.5", "general = 0.4"), "the shares of cohorts sum to 0.9, they must sum to 1"),
        (GOOD.replace("{eu = 1.0}", "{}"), "regions: Dictionary should have at least 1 item"),
        (GOOD + '[[faults]]\nkind = "melt"', "faults.0.kind: Input should be 'silent_brick'"),
        (GOOD + '[[faults]]\nkind = "fail"\nprobability = 2', "faults.0.probability: Input should be less than"),
        (GOOD + '[[faults]]\nkind = "fail"\nregions = ["mars"]', "names ['mars'], which the scenario does not have"),
        (GOOD + '[[faults]]\nkind = "offline"', "faults.0: duration is needed by kind 'offline'"),
        (
            GOOD + '[[outages]]\nafter = "1h"\nduration = "1h"\nregions = ["mars"]',
            "an outage names ['mars'], which the",
        ),
        (GOOD + '[[outages]]\nafter = "1h"\nduration = "0s"', "outages.0: duration must be above 0"),
        (GOOD + '[[owners]]\nanswer = "agree"\nshare = 0.5', "the shares of owners sum to 0.5, they must sum to 1"),
        (GOOD + '[[owners]]\nanswer = "maybe"\nshare = 1', "owners.0.answer: Input should be 'agree', 'postpone'"),
        (GOOD + '[[owners]]\nanswer = "agree"\nshare = 1\ntimes = 2', "only answer 'postpone' takes again_after and"),
        (GOOD + '[[owners]]\nanswer = "ignore"\nshare = 1\nafter = "1h"', "'ignore' never comes and takes no after"),
        (GOOD + '[zones]\nmars = "UTC"', "zones names 'mars', which is no region of the scenario; remove it"),
        (GOOD + '[zones]\neu = "Berlin"', "zones.eu: 'Berlin' is no IANA time zone; write one such as"),
        (GOOD + '[[faults]]\nkind = "trouble_code"', "code, for example 'U0100', is needed by kind 'trouble_code'"),
        (GOOD + '[[faults]]\nkind = "fail"\nafter = "1h"', "only kind 'trouble_code' takes after; remove it"),
        (
            GOOD + '[[faults]]\nkind = "trouble_code"\ncode = "U1"\necu = "x"',
            "names ecu 'x', which no hardware variant has",
        ),
        (GOOD + '[agent]\nlook_every = "0s"', "agent: look_every must be above 0"),
        (GOOD + '[agent]\ninstall = "5 min"', "agent.install: '5 min' is not a duration such as '90s'"),
        (GOOD + "[agent]\ninstall = 5", "agent.install: 5 is not a duration"),
        (GOOD + '[agent]\npoll_min = "2d"', "agent: poll_min (172800000 ms) must be above 0 and at most poll_max"),
        (GOOD + '[run]\nuntil = "settled"', "run: release is needed by until = 'settled'"),
        (GOOD + '[run]\nuntil = "duration"', "run: until = 'duration' needs duration"),
        (
            GOOD + '[[connectivity]]\nmodel = "garage"\nshare = 1.0\nonline = "25h"',
            "connectivity.0: online (90000000 ms) must be above 0 and at most period",
        ),
    ],
)
def test_mistake_is_named_with_its_place(text: str, message: str) -> None:
    """A scenario is written by hand; each error says where and what."""
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(text, source="my.toml")
    assert str(caught.value).startswith("my.toml: ")
    assert message in str(caught.value)


def test_missing_file_is_one_line_with_a_remedy(tmp_path: Path) -> None:
    """A stack trace helps nobody who mistyped a name."""
    with pytest.raises(ScenarioError, match=r"none.toml: cannot be read: .*see examples/scenarios"):
        load_scenario(tmp_path / "none.toml")


def test_duration_of_the_command_line_is_checked_alike() -> None:
    """`--duration` speaks the same language."""
    assert parse_duration("36h") == 129_600_000
    with pytest.raises(ScenarioError, match="'forever' is not a duration"):
        parse_duration("forever")
