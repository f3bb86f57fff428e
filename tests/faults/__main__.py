"""Writes docs/faults.md: `python -m tests.faults`."""

from __future__ import annotations

from tests.faults.listed import MARK
from tests.faults.page import PAGE, page
from tests.uptane.citations import citations

if __name__ == "__main__":
    PAGE.write_text(page(citations(mark=MARK)), encoding="utf-8")
