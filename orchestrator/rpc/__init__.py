"""The gRPC edge: identity, conversion, errors; no decisions."""
