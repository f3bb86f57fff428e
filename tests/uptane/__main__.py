"""Writes docs/uptane.md: `python -m tests.uptane`."""

from __future__ import annotations

from tests.uptane.citations import citations
from tests.uptane.page import PAGE, page

if __name__ == "__main__":
    PAGE.write_text(page(citations()), encoding="utf-8")
