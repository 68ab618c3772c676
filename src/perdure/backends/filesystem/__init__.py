"""The backend in a directory."""
