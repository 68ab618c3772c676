"""The backend on one SQLite file."""
