"""Executors run jobs: each takes tasks, and hands outcomes back for the engine to commit."""
