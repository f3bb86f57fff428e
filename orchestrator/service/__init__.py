"""Use cases: load, ask the engine, commit, carry out."""
