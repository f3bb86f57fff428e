"""The fixtures of the signing tests, for attacks as well: two honest repositories, a Primary, a data folder."""

from tests.signing.conftest import data, primary, pristine, uptane

__all__ = ["data", "primary", "pristine", "uptane"]
