"""Both stores for every promise in this folder."""

from tests.store_fixtures import *  # noqa: F403
