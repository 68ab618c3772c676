"""Work on whole stores: each is a plain function that takes a store."""
