"""Reads YAML into mappings that know where each value stands, and collects every fault with its line and column.

Owns places and words of faults in shape (unknown field, missing field, wrong type). Leaves what values mean to whoever
reads the file.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import yaml


@dataclass(slots=True)
class Faults:
    """Every fault found so far in one file."""

    file_name: str
    lines: list[str] = field(default_factory=list)
    """`file:line:column: message (remedy)`, one a fault."""

    def add(self, node: yaml.Node, message: str, remedy: str) -> None:
        """Note a fault where `node` begins."""
        mark = node.start_mark
        self.lines.append(f"{self.file_name}:{mark.line + 1}:{mark.column + 1}: {message} ({remedy})")

    def add_mark(self, mark: yaml.Mark | None, message: str, remedy: str) -> None:
        """Note a fault at a place that the YAML parser named; at the top of the file when it named none."""
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        self.lines.append(f"{self.file_name}:{line}:{column}: {message} ({remedy})")


def compose(text: str, faults: Faults) -> yaml.Node | None:
    """The file's only document; None, with a fault noted, when there is none or it is not YAML."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as exc:
        faults.add_mark(exc.problem_mark, f"not YAML: {exc.problem}", "correct that line")
        return None
    except yaml.YAMLError as exc:
        faults.add_mark(None, f"not YAML: {' '.join(str(exc).split())}", "save it as plain text")
        return None
    if node is None:
        faults.add_mark(None, "the file is empty", "see docs/cli.md for an example")
    return node


def mapping_of(
    node: yaml.Node, known: Sequence[str], required: Sequence[str], faults: Faults
) -> Mapping[str, yaml.Node]:
    """The fields of a mapping node by name; unknown, repeated and missing ones are noted as faults."""
    if not isinstance(node, yaml.MappingNode):
        faults.add(node, f"must be a mapping of {', '.join(known)}", "write `name: value`, one a line")
        return {}
    found: dict[str, yaml.Node] = {}
    for key, value in node.value:
        name = str(key.value)
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            remedy = f"did you mean `{close[0]}`?" if close else f"known are {', '.join(known)}"
            faults.add(key, f"unknown field `{name}`", remedy)
        elif name in found:
            faults.add(key, f"`{name}` stands here a second time", "keep one of them")
        else:
            found[name] = value
    for name in required:
        if name not in found:
            faults.add(node, f"`{name}` is missing", f"add `{name}:`")
    return found


def items_of(node: yaml.Node | None, name: str, faults: Faults) -> Sequence[yaml.Node]:
    """The items of a list node; none, with a fault noted, when it is not a list."""
    if node is None:
        return []
    if not isinstance(node, yaml.SequenceNode):
        faults.add(node, f"`{name}` must be a list", "begin each item with `- `")
        return []
    return list(node.value)


def text_of(node: yaml.Node | None, name: str, faults: Faults, default: str = "") -> str:
    """The text of a scalar node, as it was written; `default`, with a fault noted, when it is not a text."""
    if node is None:
        return default
    if not isinstance(node, yaml.ScalarNode) or node.tag.endswith(":null"):
        faults.add(
            node, f"`{name}` must be a text", "write it after the colon, in quotes if it holds special characters"
        )
        return default
    return str(node.value)


def integer_of(node: yaml.Node | None, name: str, faults: Faults, *, minimum: int) -> int:
    """The whole number of a scalar node; `minimum`, with a fault noted, when it is none or below it."""
    if node is None:
        return minimum
    text = node.value if isinstance(node, yaml.ScalarNode) else ""
    if not node.tag.endswith(":int") or not str(text).isascii() or not str(text).isdigit():
        faults.add(node, f"`{name}` must be a whole number", "for example 12, without quotes")
        return minimum
    value = int(text)
    if value < minimum:
        faults.add(node, f"`{name}` ({value}) < least possible ({minimum})", f"use {minimum} or more")
    return value
