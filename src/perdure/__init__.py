"""Save any object once, load it for ever; run any job once, re-run it exactly."""
