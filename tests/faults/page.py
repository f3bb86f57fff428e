"""The page docs/faults.md, made from the list of faults and from what tests cite."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.faults.listed import PROCESSES, TWENTY, ListedFault
from tests.uptane.citations import ROOT, Citation
from tests.uptane.page import by_key

PAGE = ROOT / "docs" / "faults.md"
HEAD = """\
# Faults, and what holds all the same

Each fault by its number, what must be true when it happens, and the tests that cause it. A test names the fault
(`@pytest.mark.fault("F4")`), `make faults-page` writes this page from these names, and a test compares. Tests in
`tests/engine`, `tests/sim` and `tests/rehearsal` decide on virtual time; those in `tests/faults` and `tests/e2e` start
the real processes and break them.
"""


def page(found: Iterable[Citation]) -> str:
    """The whole page."""
    cited = by_key(found)
    lines = [HEAD]
    for title, faults in (("The twenty", TWENTY), ("What befalls a machine, against real processes", PROCESSES)):
        lines += [f"## {title}", ""] if faults else []
        for fault in faults:
            lines += _entry(fault, cited.get(fault.key, []))
    return "\n".join(lines).rstrip("\n") + "\n"


def _entry(fault: ListedFault, tests: Sequence[Citation]) -> list[str]:
    lines = [f"### {fault.key}", "", f"{fault.happens} *{fault.holds}*", ""]
    for file in dict.fromkeys(citation.file for citation in tests):
        names = ", ".join(f"`{citation.test}`" for citation in tests if citation.file == file)
        lines.append(f"- [{file}](../{file}): {names}")
    return [*lines, ""]
