"""Tests of the simulated vehicles."""
