"""Records: one object's stored form as frozen values, its frame of bytes, and its seal. No I/O."""
