"""What a fleet costs and how far it goes: measured, and compared with a model of it."""
