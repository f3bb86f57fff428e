"""Stores and servers for the tests of this folder."""

from tests.store_fixtures import *  # noqa: F403
