"""The example for authors of agents stays a page that can be read: its length, and what it stands on."""

from __future__ import annotations

import ast
import sys

from tests.repo.checkout import text_of

EXAMPLE = "examples/minimal_agent.py"
LINES_MAX = 200
FOUNDATIONS = {"grpc", "cryptography", "google.rpc", "outrider.v1", "signing"}
"""Beside the standard library: what any vehicle in Python needs, and nothing of the simulator or the service."""


def imported(source: str) -> set[str]:
    """Every module that a source imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


def strange(modules: set[str]) -> set[str]:
    """Those that the example may not import."""
    known = {module for module in modules for base in FOUNDATIONS if f"{module}.".startswith(f"{base}.")}
    return {module for module in modules - known if module.partition(".")[0] not in sys.stdlib_module_names}


def test_the_example_is_at_most_200_lines() -> None:
    """More is not read; and it is not packed either: one statement a line, none too wide."""
    lines = text_of(EXAMPLE).splitlines()
    assert len(lines) <= LINES_MAX
    assert max(len(line) for line in lines) <= 120
    statements = [node for node in ast.walk(ast.parse(text_of(EXAMPLE))) if isinstance(node, ast.stmt)]
    assert len({(node.lineno, node.col_offset) for node in statements}) == len({node.lineno for node in statements})


def test_the_example_stands_on_signing_and_the_wire_alone() -> None:
    """What it imported from elsewhere, an author would have to bring along."""
    assert strange(imported(text_of(EXAMPLE))) == set()


def test_strangers_are_found() -> None:
    """A rule that finds nothing would let everything pass."""
    source = "import json\nfrom agent_sim import car\nimport grpc.aio, signing.verify\nfrom . import x\nimport signingx"
    assert strange(imported(source)) == {"agent_sim", ".", "signingx"}
