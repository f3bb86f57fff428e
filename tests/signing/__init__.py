"""Tests of the signing package: one for each promise, and one for each attack (ids A1 to A30) that it stops."""
