"""Promises of the judge of agents."""
