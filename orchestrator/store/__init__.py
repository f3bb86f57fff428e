"""Where state lives: Protocols in `base`, a reference model in `memory`, the real one in `redis`."""
