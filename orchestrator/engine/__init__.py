"""Pure decisions: no IO, no clock, no randomness of its own. Same inputs, same outputs, replayable from the ledger."""
