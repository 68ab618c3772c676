"""States of objects to payloads, and payloads to objects."""
