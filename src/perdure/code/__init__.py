"""Code records: which code made this. Reads modules, files and git; knows nothing of stores."""
