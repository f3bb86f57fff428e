"""How fast the hot parts are, each against a bare baseline in the same run: `make bench`."""
