"""Uptane vectors: files, time and verdict, for any implementation. README.md says how to use and make them."""
