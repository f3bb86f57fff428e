"""The page about faults says what is so: every fault is caused by a test that runs."""

from __future__ import annotations

import pytest

from tests.faults.listed import MARK, TWENTY, all_faults
from tests.faults.page import PAGE, page
from tests.uptane.citations import citations
from tests.uptane.page import by_key

FOUND = citations(mark=MARK)


def test_the_page_is_what_the_generator_says() -> None:
    """A page by hand would promise what nobody tests: run `make faults-page`."""
    assert PAGE.read_text(encoding="utf-8") == page(FOUND)


def test_the_twenty_are_listed_once_each() -> None:
    """Their numbers are known elsewhere."""
    assert [fault.key for fault in TWENTY] == [f"F{number}" for number in range(1, 21)]
    keys = [fault.key for fault in all_faults()]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("key", [fault.key for fault in all_faults()])
def test_every_fault_is_caused_by_a_test(key: str) -> None:
    """A list without tests is a wish."""
    assert by_key(FOUND).get(key)


def test_every_fault_that_a_test_cites_is_listed() -> None:
    """A typing error would be a proof of nothing."""
    assert set(by_key(FOUND)) <= {fault.key for fault in all_faults()}
