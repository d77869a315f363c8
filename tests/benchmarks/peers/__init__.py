"""Drawbridge's job engine beside other job engines on Redis, measured in one run."""
