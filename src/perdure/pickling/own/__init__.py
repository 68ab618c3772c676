"""Perdure's own reader: pickles without a good seal, read by a machine of its own that imports and calls nothing."""
