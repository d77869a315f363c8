"""Jobs: their state and their running."""
