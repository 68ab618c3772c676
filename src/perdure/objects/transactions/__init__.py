"""Commits, and what is around them: worklists, conflicts, savepoints, transactions, undoing."""
