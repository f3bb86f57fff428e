"""Outrider: over-the-air updates for fleets of vehicles, signed, staged, and stopped early when bad."""
