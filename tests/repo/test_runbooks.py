"""Runbooks: a page for every alert, all in one form. That their commands exist is `test_documents`' promise."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.repo.checkout import ROOT

FOLDER = ROOT / "docs" / "runbooks"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path.name != "README.md")
RULES = ROOT / "dashboards" / "prometheus" / "rules.yaml"


def alerts() -> Iterator[dict[str, object]]:
    """Every alert of the rules."""
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        yield from (rule for rule in group["rules"] if "alert" in rule)


def commands(page: Path) -> list[str]:
    """What a page tells the reader to type."""
    blocks = re.findall(r"^```console\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def test_every_alert_leads_to_a_page_that_names_it_and_every_page_is_led_to() -> None:
    """Whoever is called has the page one click away, and no page is forgotten."""
    led: set[str] = set()
    for rule in alerts():
        annotations = rule["annotations"]
        assert isinstance(annotations, dict)
        page = ROOT / str(annotations["runbook_url"])
        assert page in PAGES, f"{rule['alert']} leads to {page.name}"
        assert f"`{rule['alert']}`" in page.read_text(), f"{page.name} does not name {rule['alert']}"
        assert f"`{rule['alert']}`" in (FOLDER / "README.md").read_text()
        led.add(page.name)
    assert led == {page.name for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_has_the_form_of_all(page: Path) -> None:
    """At 3 a.m. one looks where it always stands."""
    headings = re.findall(r"^## (.*)$", page.read_text(), flags=re.MULTILINE)
    assert headings[:2] == ["What it means for vehicles", "First look"]
    assert headings[2:] in (["Decide", "Act", "Afterwards"], ["Decide and act", "Afterwards"])
    assert commands(page), "a page without a command helps nobody"
