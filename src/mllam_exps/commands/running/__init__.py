"""Commands that start, stop and go on with work."""
