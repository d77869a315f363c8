"""Flags: what operators switch for the whole fleet, and how every instance comes to know it."""
