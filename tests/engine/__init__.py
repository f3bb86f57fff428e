"""The pure engine, without a store, a clock or a network."""
