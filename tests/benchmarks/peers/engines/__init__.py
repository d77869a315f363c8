"""What runs inside each engine's own environment. This folder is on its path, not the checkout."""
