"""Which test cites which entry: read out of the sources, so that nothing has to run for it.

A test cites with `@pytest.mark.uptane("A10", "C-timestamp")`, or with another mark for another page. Whether it passes
is for the run to say; here it is made sure that it exists, is run at all, and cites words and nothing that is computed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
MARK = "pytest.mark.uptane"
NOT_RUN = ("pytest.mark.skip", "pytest.mark.xfail", "pytest.mark.skipif")
Test = ast.FunctionDef | ast.AsyncFunctionDef


class CitationError(ValueError):
    """A citation that cannot be one; the message says where."""


@dataclass(frozen=True, slots=True, order=True)
class Citation:
    """One test proves one entry."""

    key: str
    """Of the entry."""
    file: str
    """From the root of the checkout."""
    line: int
    test: str
    promise: str
    """First line of the test's docstring."""


def citations(folder: Path = ROOT / "tests", *, mark: str = MARK) -> list[Citation]:
    """Every citation by `mark` in the tests below `folder`, by entry and place.

    Raises:
        CitationError: Something else than a test that runs cites, or what it cites is not plain text.
    """
    return sorted(found for file in sorted(folder.rglob("*.py")) for found in _of_file(file, mark))


def _of_file(file: Path, mark: str) -> Iterator[Citation]:
    text = file.read_text(encoding="utf-8")
    if mark not in text:
        return
    for node in ast.parse(text).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        for test in inner:
            if isinstance(test, Test):
                yield from _of_test(file, test, mark)


def _of_test(file: Path, test: Test, name: str) -> Iterator[Citation]:
    where = f"{file.name}:{test.lineno} {test.name}"
    marks = {ast.unparse(mark.func if isinstance(mark, ast.Call) else mark): mark for mark in test.decorator_list}
    mark = marks.get(name)
    if mark is None:
        return
    if not test.name.startswith("test_") or not file.name.startswith("test_"):
        raise CitationError(f"{where} is no test")
    if any(unrun in marks for unrun in NOT_RUN):
        raise CitationError(f"{where} cites and is not run")
    if not isinstance(mark, ast.Call) or not mark.args or mark.keywords:
        raise CitationError(f"{where} cites nothing")
    place = file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else file.name
    promise = (ast.get_docstring(test) or "").partition("\n")[0]
    for argument in mark.args:
        if not isinstance(argument, ast.Constant) or not isinstance(argument.value, str):
            raise CitationError(f"{where} cites {ast.unparse(argument)}, which is no plain text")
        yield Citation(argument.value, place, test.lineno, test.name, promise)
