"""The guides for files that users write agree with the code that reads them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from orchestrator.cli.release_file import read_release
from orchestrator.engine.plan.file import effective_plan, read_plan
from orchestrator.service.fleet_csv import HEADER, ZONED_HEADER

DOCS = Path(__file__).parents[2] / "docs"


def yaml_blocks(name: str) -> list[str]:
    """The YAML examples of a guide, in order."""
    text = (DOCS / name).read_text(encoding="utf-8")
    return re.findall(r"^```yaml\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def plan_rows(section: str) -> dict[str, list[str]]:
    """The table of one section of the plan guide: first name in each row -> its columns."""
    text = (DOCS / "plan-file.md").read_text(encoding="utf-8")
    part = re.split(rf"^##+ {section}$", text, flags=re.MULTILINE)[1].split("\n#")[0]
    rows = [line.strip("|").split(" | ") for line in part.splitlines() if line.startswith("| `")]
    return {name: row for row in rows for name in re.findall(r"`(\w+)`", row[0])}


def test_the_short_plan_has_six_lines_and_the_full_one_every_field() -> None:
    """Both are copied by every newcomer."""
    short, full = yaml_blocks("plan-file.md")
    assert len(short.splitlines()) == 6
    assert read_plan(short).name == "spring-1-1-0"
    assert read_plan(full).regions.keys() == {"eu", "us"}
    given = yaml.safe_load(full)
    everything = yaml.safe_load(effective_plan(read_plan(full)))
    assert given.keys() == everything.keys()
    for section in ("target", "conditions", "gate", "limits", "retries", "deadlines"):
        assert given[section].keys() == everything[section].keys()
    assert given["regions"]["eu"].keys() | given["regions"]["us"].keys() >= {"starts_per_minute", "bandwidth"}


@pytest.mark.parametrize("section", ["gate", "limits", "retries", "deadlines"])
def test_every_default_of_the_plan_guide_is_the_real_one(section: str) -> None:
    """A default that is documented wrongly is worse than none."""
    defaults = yaml.safe_load(effective_plan(read_plan("release: 1.1.0")))[section]
    column = 1 if section == "deadlines" else 2
    rows = plan_rows(section)
    # What is filled in from the fleet has no default in the file.
    assert rows.keys() - {"in_flight", "blast_budget", "controls", "often", "daily", "seldom"} == defaults.keys()
    for name, value in defaults.items():
        words = yaml.safe_dump(value, default_flow_style=True, width=100).removesuffix("...\n").strip()
        shown = rows[name][column].strip()
        assert normal(shown) == normal(words), name


def normal(value: str) -> str:
    """Durations and ratios as a plan reads them, so that 24h and 1d are the same."""
    return re.sub(
        r"\d+h", lambda match: f"{int(match[0][:-1]) // 24}d" if not int(match[0][:-1]) % 24 else match[0], value
    )


def test_the_default_waves_and_holdout_are_the_real_ones() -> None:
    """The plan that says nothing about waves is the one most people start with."""
    plan = yaml.safe_load(effective_plan(read_plan("release: 1.1.0")))
    shown = plan_rows("Fields")
    waves = ", ".join(f"`{wave['name']}` {wave['share'].replace('%', ' %')}" for wave in plan["waves"])
    assert shown["waves"][2].strip() == f"{waves}, 24 h each"
    assert {wave["soak"] for wave in plan["waves"]} == {"1d"}
    assert shown["holdout"][2].strip() == plan["holdout"]


def test_the_header_of_the_fleet_guide_is_the_one_that_is_read() -> None:
    """The header must match to the letter."""
    text = (DOCS / "fleet-csv.md").read_text(encoding="utf-8")
    assert f"```csv\n{','.join(HEADER)}\n" in text
    assert re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE) == list(ZONED_HEADER)


def test_the_release_file_of_the_guide_is_read(tmp_path: Path) -> None:
    """Its default path is stated there as well."""
    example, _policy = yaml_blocks("cli.md")
    (tmp_path / "release.yaml").write_text(example, encoding="utf-8")
    for name in ("gateway", "brake"):
        for kind in ("img", "provenance.json", "cdx.json", "tests.json"):
            (tmp_path / f"{name}.{kind}").write_bytes(b"image")
    release = read_release(tmp_path / "release.yaml")
    paths = ["acme-gw-2-1.1.0.img", "acme-brake-2-1.1.0.img", "acme/radar-1.1.0.img"]
    assert [image.path for image in release.images] == paths
    (tmp_path / "release.yaml").write_text(re.sub(r"    path: acme-.*\n", "", example), encoding="utf-8")
    assert read_release(tmp_path / "release.yaml") == release
