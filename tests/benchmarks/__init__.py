"""Rules compared, in the short form: the full one is `make judge`."""
