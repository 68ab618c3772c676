"""One thread's or task's sight of a store: identity, reading, ghosts, resting."""
