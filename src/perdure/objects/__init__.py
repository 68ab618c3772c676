"""Objects, their identity, their changes, and the store that keeps them."""
