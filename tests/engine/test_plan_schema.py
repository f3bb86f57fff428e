"""The published schema of plan files: what it says of a plan is what the reader says, as far as a schema can know."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from agent_sim.demo.story import PLAN as DEMO_PLAN
from orchestrator.engine.plan.file import PlanError, effective_plan, read_plan
from orchestrator.engine.plan.nodes import compose
from orchestrator.engine.plan.schema import plan_schema, plan_schema_text
from tests.engine.plan_strategies import plans
from tests.engine.test_plan_file import FULL

DOCS = Path(__file__).parents[2] / "docs"
VALIDATOR = Draft202012Validator(plan_schema())
INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)


def core(node: yaml.Node) -> Any:
    """A node as a parser of YAML 1.2 (core schema) hands it on; keys stay words, as in JSON."""
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): core(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [core(item) for item in node.value]
    text = str(node.value)
    if node.style is not None:
        return text
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text.lower() in ("true", "false") and text in (text.lower(), text.title(), text.upper()):
        return text.lower() == "true"
    if INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    return float(text) if FLOAT.fullmatch(text) else text


DOCUMENTS = [core(compose(effective_plan(read_plan(text)))) for text in (FULL, "release: 1.1.0")]
"""Plans with every field, as parsed."""


def schema_takes(text: str) -> bool:
    return VALIDATOR.is_valid(core(compose(text)))


def reader_takes(text: str) -> bool:
    try:
        read_plan(text)
    except PlanError:
        return False
    return True


def examples() -> Iterator[str]:
    """Every plan that people copy."""
    yield from (FULL, DEMO_PLAN.format(name="demo", release="1.1.0", installed="<1.1.0"), "release: 1.1.0")
    for page in (DOCS / "plan-file.md", DOCS.parent / "README.md"):
        for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL):
            if re.search(r"^release:", block, flags=re.MULTILINE):
                yield block


def test_the_committed_schema_is_the_one_of_the_code():
    """An editor must not complete fields that the server refuses."""
    Draft202012Validator.check_schema(plan_schema())
    assert (DOCS / "plan.schema.json").read_text("utf-8") == plan_schema_text(), (
        "write it anew: outrider rollout schema > docs/plan.schema.json"
    )


def test_defaults_of_the_schema_are_those_of_the_reader():
    """What an editor shows beside a field is what happens where it is left out."""
    gate = plan_schema()["properties"]["gate"]["properties"]
    assert gate["failure_ratio"]["default"] == "1%"
    assert gate["habit_ages"]["default"] == {"often": ["6h"]}
    assert "default" not in plan_schema()["properties"]["limits"]["properties"]["blast_budget"]


@pytest.mark.parametrize("text", [*examples()])
def test_example_plans_are_taken_by_both(text):
    """The first thing that a newcomer pastes into an editor."""
    assert reader_takes(text)
    assert list(VALIDATOR.iter_errors(core(compose(text)))) == []


@settings(max_examples=200, deadline=None)
@given(plan=plans())
def test_any_plan_satisfies_the_schema(plan):
    """A schema that refuses a good plan is switched off by its users."""
    assert list(VALIDATOR.iter_errors(core(compose(effective_plan(plan))))) == []


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every value below a document, with its path."""
    if isinstance(value, dict):
        steps: Any = value.items()
    else:
        steps = enumerate(value) if isinstance(value, list) else ()
    for step, below in steps:
        yield (*path, step), below
        yield from places(below, (*path, step))


def damage(data: st.DataObject, document: dict[str, Any]) -> dict[str, Any]:
    """A plan with one fault that a schema can know: a type, a form, a bound, a name."""
    damaged = copy.deepcopy(document)
    mappings: list[tuple[str | int, ...]] = [()]
    mappings += [path for path, value in places(damaged) if isinstance(value, dict)]
    leaves = [(path, value) for path, value in places(damaged) if not isinstance(value, (dict, list))]
    # A zone is any word to a schema, and a region without rules is a plan.
    kinds = ["unknown", "scalar for mapping", "nothing", "list", "number", "word"]
    kind = data.draw(st.sampled_from(kinds))
    if kind in ("unknown", "scalar for mapping"):
        path = data.draw(st.sampled_from(mappings[1:] if kind == "scalar for mapping" else mappings))
        key = "not a field!"
        put(damaged, (*path, key) if kind == "unknown" else path, {"x": "y"} if kind == "unknown" else "a word!")
        return damaged
    wanted = {
        "nothing": leaves,
        "list": leaves,
        "number": [leaf for leaf in leaves if isinstance(leaf[1], int) and not isinstance(leaf[1], bool)],
        "word": [leaf for leaf in leaves if "zone" not in leaf[0]],
    }[kind]
    path, _ = data.draw(st.sampled_from(wanted))
    numbers = st.sampled_from([-1, 10**13, 1.5])
    put(
        damaged,
        path,
        {"nothing": None, "list": [["x"]], "number": data.draw(numbers), "word": "no such word!"}[kind],
    )
    return damaged


def put(document: Any, path: tuple[str | int, ...], value: Any) -> None:
    for step in path[:-1]:
        document = document[step]
    document[path[-1]] = value


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_fault_that_a_schema_can_know_is_refused_by_both(data):
    """The editor underlines what the server would refuse; neither is laxer than the other."""
    document = data.draw(st.sampled_from(DOCUMENTS))
    text = yaml.safe_dump(damage(data, document), sort_keys=False)
    assert not reader_takes(text)
    assert not schema_takes(text)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_the_reader_takes_the_schema_takes(data):
    """Quoted numbers, other units, odd spaces: the schema never knows better than the reader."""
    document = copy.deepcopy(DOCUMENTS[0])
    leaves = [path for path, value in places(document) if not isinstance(value, (dict, list))]
    path = data.draw(st.sampled_from(leaves))
    values = st.one_of(
        st.sampled_from(
            [0, 1, "1", 20, "20", 0.01, "0.01", "1%", "1 %", "1h", "90s", "1d12h", "2GB", "8Mbit/s", "2KiB/s", True]
        ),
        st.sampled_from(["true", "none", "any", "always", "1.0", ">=1.0", "22:00", "2026-12-24", "wifi", "eu", "no"]),
        st.sampled_from(["security", "required", "UTC", "stop", "1.2.3-rc.1", "often", "mon", {}, ["mon"], ["wifi"]]),
    )
    put(document, path, data.draw(values))
    text = yaml.safe_dump(document, sort_keys=False)
    if reader_takes(text):
        assert schema_takes(text)
