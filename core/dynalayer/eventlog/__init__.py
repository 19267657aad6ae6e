"""The event log: the contract in `base`, and the logs that keep it."""
