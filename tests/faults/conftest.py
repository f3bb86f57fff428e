"""The prepared fleet of `tests/e2e`, shared with its tests: making one takes half a minute."""

from tests.e2e.conftest import fleet

__all__ = ["fleet"]
