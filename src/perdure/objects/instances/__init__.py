"""One object: its class, its ghost, its state, what a view keeps of it, and what headers tell of it."""
