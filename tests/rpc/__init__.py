"""The gRPC edge by itself: interceptor, identities, errors, conversion."""
