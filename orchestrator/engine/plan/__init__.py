"""The plan file: read with every fault at once, written back, and published as a JSON Schema from the same tables."""
