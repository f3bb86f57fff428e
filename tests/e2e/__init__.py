"""Tests with real processes: `outrider serve`, its store, its command line, real signals."""
