"""Object graph to payload and back; nothing here knows a store."""
