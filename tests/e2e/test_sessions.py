"""The recorded sessions of the guide happen again, and what is compared can differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.rolling import TEST_TIMEOUT_S
from tests.sessions import BLOCK, Step, alike, difference, pages, recorded, steps_of


@pytest.mark.processes
@pytest.mark.timeout(TEST_TIMEOUT_S)
@pytest.mark.parametrize("page", pages(), ids=lambda path: path.stem)
def test_session_of_the_guide_happens_again(page: Path) -> None:
    """People type what they read; if it went otherwise today, the guide would lie. Record anew: `make sessions`."""
    written = page.read_text("utf-8")
    assert BLOCK.search(written)
    found = difference(written, recorded(written))
    if found:
        # A vehicle that loses its link at the wrong moment lets a rollout take another turn; a guide that lies differs
        # every time.
        print(found)
        found = difference(written, recorded(written))
    assert found == ""


def test_comparison_forgives_numbers_and_times_but_no_word() -> None:
    """Two good runs differ in counts and moments; a changed word, sign, id, version or line is a difference."""
    page = "2031-04-05 06:07:08 UTC  spring-1-1-0  ▶ running  3 of 20 done, 1 h 2 min, ━━━━  1.1.0"
    again = "2031-04-06 16:07:09 UTC  spring-1-1-0 ▶ running 19 of 20 done, 4 min, ━━━━━━━  1.1.0"
    assert difference(page, again) == ""
    for changed in (
        again.replace("▶ running", "▲ held"),
        again.replace("spring-1-1-0", "spring-2"),
        again.replace("1.1.0", "1.2.0"),
        again.replace(" done", ""),
        f"{again}\nmore",
    ):
        assert difference(page, changed) != ""
    assert alike("+3 h 4 min") == "+SPAN"
    older = "silent      after 30 min: 0 of 2, controls 9 of 9\n            after 1 h: 0 of 1\nfleet time"
    assert alike(older) == alike("silent      after 30 min: 1 of 2\nfleet time") == "fleet time"


def test_a_block_is_read_as_the_shell_would_type_it() -> None:
    """Continued lines belong to their command, everything else is what it printed."""
    block = "$ cat > f <<'END'\n> a: 1\n> END\n$ cat f\na: 1\n$ true\n"
    steps = steps_of(block)
    assert steps == [Step("cat > f <<'END'\na: 1\nEND", ""), Step("cat f", "a: 1\n"), Step("true", "")]
    assert "".join(step.page() for step in steps) == block
