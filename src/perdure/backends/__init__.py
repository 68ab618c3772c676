"""Backends keep records; they know frames, never classes or objects."""
