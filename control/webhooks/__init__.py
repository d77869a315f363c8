"""Messages that Drawbridge posts to addresses that others name: signed, and never into its own
network."""
