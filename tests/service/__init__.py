"""Use cases and the evaluator on the reference store, in one process."""
