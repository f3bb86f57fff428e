"""Frozen values and ids. Knows nothing else of Outrider."""
