"""Faults against real processes, and the list of all faults with the tests that cause them."""
