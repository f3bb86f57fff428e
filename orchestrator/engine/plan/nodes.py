"""YAML of a plan file as nodes with positions, and faults that name them.

Owns what may be YAML here at all (size, depth, no anchors, no tags, no repeated keys) and the collecting of faults.
Which fields there are and what they mean is `plan.file`'s matter.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import yaml

SIZE_MAX_BYTES = 256 * 1024
"""Largest plan file."""
DEPTH_MAX = 8
"""Deepest nesting; a plan needs six."""

_NULL_TAG = "tag:yaml.org,2002:null"


class _Mark(Protocol):
    """A position as either of PyYAML's parsers gives it, from 0."""

    line: int
    column: int


@dataclass(frozen=True, slots=True, order=True)
class PlanFault:
    """One thing that is wrong in a plan file."""

    line: int
    """From 1."""
    column: int
    """From 1."""
    path: str
    """Where in the plan, for example `waves[0].share`; empty for the whole file."""
    message: str
    """What is wrong, with the value."""
    remedy: str
    """What to write instead."""


class PlanError(Exception):
    """A plan file is refused; `faults` has all that is wrong with it, in the order of the file."""

    def __init__(self, faults: Sequence[PlanFault]) -> None:
        self.faults = tuple(sorted(faults))
        super().__init__("; ".join(f"{fault.line}:{fault.column}: {fault.message}" for fault in self.faults))


def compose(text: str) -> yaml.Node:
    """The root node of a plan file.

    Raises:
        PlanError: it is too large, not YAML, not one document, or uses anchors, aliases, tags or deep nesting.
    """
    if len(text.encode(errors="replace")) > SIZE_MAX_BYTES:
        size = len(text.encode(errors="replace"))
        raise _refused(
            1, 1, f"the plan is too large ({size} bytes > {SIZE_MAX_BYTES})", "name cohorts and tags, not vehicles"
        )
    try:
        # Events come without recursion, so depth is known before anything is composed.
        faults = _unsafe(text)
        if faults:
            raise PlanError(faults)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = _position(mark)
        raise _refused(
            line, column, f"not YAML: {error.problem or error.context}", "check indentation and quotes"
        ) from error
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        raise _refused(line, column, "a character that YAML does not allow", "remove it") from error
    if node is None:
        raise _refused(1, 1, "the plan is empty", "write at least `release: 1.1.0`")
    return node


def _refused(line: int, column: int, message: str, remedy: str) -> PlanError:
    return PlanError((PlanFault(line, column, "", message, remedy),))


def _position(mark: _Mark | None) -> tuple[int, int]:
    """Line and column of a mark, from 1; where PyYAML has none, the beginning."""
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)


def _unsafe(text: str) -> list[PlanFault]:
    """Anchors, aliases, tags and deep nesting; the latter ends the search."""
    faults: list[PlanFault] = []
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line, column = _position(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            faults.append(PlanFault(line, column, "", f"an alias (*{event.anchor})", "write the value out"))
        elif isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            faults.append(PlanFault(line, column, "", f"an anchor (&{event.anchor})", "remove it"))
        if isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)) and event.tag is not None:
            faults.append(PlanFault(line, column, "", f"a tag ({event.tag})", "remove it"))
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEPTH_MAX:
            return [*faults, PlanFault(line, column, "", f"nested deeper than {DEPTH_MAX}", "write less deep lists")]
    return faults


@dataclass(frozen=True, slots=True)
class Place:
    """A node with its path, and where faults about it go."""

    node: yaml.Node
    path: str
    faults: list[PlanFault]
    """Shared by all places of a file."""

    def fault(self, message: str, remedy: str) -> None:
        """Say that something is wrong here."""
        mark = self.node.start_mark
        self.faults.append(PlanFault(mark.line + 1, mark.column + 1, self.path, message, remedy))

    def at(self, node: yaml.Node, step: str) -> Place:
        """A place below this one."""
        path = step if not self.path else f"{self.path}{step}" if step.startswith("[") else f"{self.path}.{step}"
        return Place(node=node, path=path, faults=self.faults)

    @property
    def mapping(self) -> bool:
        """Whether a mapping stands here."""
        return isinstance(self.node, yaml.MappingNode)

    @property
    def nothing(self) -> bool:
        """Whether nothing stands here, as after `eu:`."""
        return isinstance(self.node, yaml.ScalarNode) and self.node.tag == _NULL_TAG

    @property
    def word(self) -> str:
        """The text of the scalar that stands here, as it was written; empty for anything else."""
        return str(self.node.value) if isinstance(self.node, yaml.ScalarNode) and not self.nothing else ""

    @property
    def kind(self) -> str:
        """What stands here, for people."""
        if isinstance(self.node, yaml.MappingNode):
            return "a mapping"
        if isinstance(self.node, yaml.SequenceNode):
            return "a list"
        if self.nothing:
            return "nothing"
        return f"`{str(self.node.value)[:40]}`"

    def scalar(self, wanted: str) -> str | None:
        """The text of a scalar as it was written; None, with a fault, for anything else.

        Words that YAML takes for booleans or numbers stay what was written: region `no` is Norway, model `3` a model.
        """
        if isinstance(self.node, yaml.ScalarNode) and not self.nothing:
            return str(self.node.value)
        self.fault(f"{self.kind} where {wanted} should stand", f"write {wanted}")
        return None

    def items(self, wanted: str) -> list[Place] | None:
        """The places of a list; None, with a fault, for anything else."""
        if isinstance(self.node, yaml.SequenceNode):
            return [self.at(node, f"[{index}]") for index, node in enumerate(self.node.value)]
        self.fault(f"{self.kind} where {wanted} should stand", f"write {wanted}")
        return None

    def entries(self, wanted: str) -> dict[str, Place] | None:
        """The places of a mapping by key, repeated keys being faults; None, with a fault, for anything else."""
        if not isinstance(self.node, yaml.MappingNode):
            self.fault(f"{self.kind} where {wanted} should stand", f"write {wanted}")
            return None
        found: dict[str, Place] = {}
        for key_node, value_node in self.node.value:
            key = Place(key_node, self.path, self.faults).scalar("a name")
            if key is None:
                continue
            if key in found:
                first = found[key].node.start_mark.line + 1
                self.at(key_node, key).fault(
                    f"`{key[:40]}` is written twice", f"remove one; the first is in line {first}"
                )
                continue
            found[key] = self.at(value_node, key)
        return found

    def fields(self, known: Sequence[str], wanted: str) -> dict[str, Place]:
        """The entries of a mapping that has only `known` keys; others are faults with the closest known one."""
        entries = self.entries(wanted)
        if entries is None:
            return {}
        key_nodes = {str(key.value): key for key, _ in self.node.value if isinstance(key, yaml.ScalarNode)}
        for key in entries.keys() - set(known):
            close = difflib.get_close_matches(key, known, n=1)
            remedy = f"did you mean `{close[0]}`?" if close else f"known are {', '.join(known)}"
            self.at(key_nodes[key], key).fault(f"unknown field `{key[:40]}`", remedy)
        return {key: place for key, place in entries.items() if key in known}
