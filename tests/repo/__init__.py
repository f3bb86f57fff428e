"""Tests of the repository itself: its documents, its files, its rules."""
